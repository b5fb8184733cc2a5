"""How the jobs that train go about it: each model of their kind in turn, its row of `models` written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clickmill.job import Run
from clickmill.train.source import lacking

Figures = Mapping[str, Any]


def train_all(
    run: Run,
    kind: str,
    train: Callable[..., dict[str, Any]],
    *,
    words: Callable[[Figures], str],
    warn_of: Callable[[Figures], Iterable[str]],
) -> None:
    """Trains the run's models of a kind; says of its figures what `words` and `warn_of` make of them."""
    stretches = run.stretches()
    names = [name for name in run.models if run.cfg.models[name].kind == kind]
    for text in lacking(run.tables, stretches.train) if names else ():
        run.say(text)
    trained = []
    for name in names:
        run.say(f"{name}: training on {stretches.train}")
        row = train(
            run.tables, run.cfg, name=name, ds=run.ds, stretches=stretches, dry_run=run.dry_run, say=run.say
        )
        figures = json.loads(row["training"])
        run.say(f"{name}: {words(figures)}; {row['seconds']:.1f} s")
        for text in warn_of(figures):
            run.say(f"warning: {name}: {text}")
        run.tables.write("models", [row], replace={"ds": run.ds, "name": name})
        run.count(rows_in=row["rows"], rows_out=1)
        trained.append(row)
    run.result["models"] = [{key: row[key] for key in ("model_id", "name", "kind", "seconds")} for row in trained]
