"""Jobs from a notebook: the same arguments as on the command line, the verdict as a dict, errors by their names.

    from clickmill.notebook import run
    verdict = run("pipeline", conf=["datasets/simulated.yaml"], ds="2026-01-14", models=["lr", "lr_nocross"])

The session is the notebook's own where it has one (Databricks), else a local one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from clickmill.tables import Tables


def run(
    job: str,
    *,
    conf: Sequence[str] = (),
    sets: Sequence[str] = (),
    ds: str | date,
    days: int | None = None,
    models: Sequence[str] = (),
    dry_run: bool = False,
) -> dict[str, Any]:
    """Runs a job and returns what `--json` would print.

    conf: config files, later ones win; sets: `section.key=value`. Raises the job's error, a ClickmillError.
    """
    from clickmill.errors import UsageError
    from clickmill.job import Arguments, called, told_day, verdict_of

    if days is not None and days < 1:
        raise UsageError(f"days {days}: at least 1")
    day = ds.date() if isinstance(ds, datetime) else ds if isinstance(ds, date) else told_day(str(ds))
    arguments = Arguments(tuple(conf), tuple(sets), day, days, tuple(models), dry_run=dry_run)
    verdict, error = verdict_of(called(job), arguments)
    if error is not None:
        raise error
    return verdict


def tables(warehouse: str) -> Tables:
    """The tables of a warehouse, folder or `catalog.schema`, as they are now, in the notebook's session."""
    from clickmill import names
    from clickmill.config import SparkConf, absolute
    from clickmill.session import get_spark
    from clickmill.tables import Tables

    place = names.written(warehouse) if names.is_schema(warehouse) else absolute(warehouse)
    return Tables(get_spark(SparkConf(), app="notebook"), place, run_id="notebook")


def leaderboard(verdict: dict[str, Any]) -> pd.DataFrame:
    """The models of a verdict, best first: NE and its interval, log-loss, calibration before and after, AUC."""
    import pandas as pd

    rows = [
        {
            "model": model["name"],
            "NE": model["metrics"]["ne"]["value"],
            "low": model["metrics"]["ne"]["low"],
            "high": model["metrics"]["ne"]["high"],
            "log-loss": model["metrics"]["log_loss"]["value"],
            "calibration before": model["metrics_uncalibrated"]["calibration_ratio"]["value"],
            "calibration after": model["metrics"]["calibration_ratio"]["value"],
            "AUC": model["metrics"]["auc"]["value"],
        }
        for model in verdict["models"]
    ]
    return pd.DataFrame(rows).sort_values("NE").set_index("model")
