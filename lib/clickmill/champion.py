"""Who is judged on a day: the models trained for it, and the champion as of that day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pyspark.sql import DataFrame

from clickmill.errors import MissingColumnsError, MissingTableError
from clickmill.scoring import Contender
from clickmill.tables import Tables


def champion(tables: Tables, ds: date) -> Contender | None:
    """The model of the promoted decision with the greatest ds not after `ds`; None before the first one.

    A backfilled decision of an earlier day therefore never displaces a later champion. Raises
    MissingTableError where the promoted model is no longer among `models`.
    """
    if not tables.exists("decisions"):
        return None
    promoted = [row for row in tables.rows("decisions") if row["promoted"] and row["ds"] <= ds]
    if not promoted:
        return None
    latest = max(promoted, key=lambda row: (row["ds"], row["at"]))
    model_id, digest = latest["champion"], latest["champion_digest"]
    found = tables.rows("models", where={"model_id": [model_id], "digest": [digest]})
    if not found:
        raise MissingTableError(
            f"{tables.path('models')}: the champion as of {ds}, {model_id} with digest {digest}, is not there"
        )
    return _contender(found[0])


def contenders(tables: Tables, ds: date, names: Sequence[str]) -> tuple[Contender, ...]:
    """The models of `ds` by these names, in this order, and after them the champion unless it is one of them.

    Raises MissingTableError where a name has no model on that day, KeepRateError for a model that needs
    its keep rate and has none.
    """
    rows = {row["name"]: row for row in tables.rows("models", days=[ds])}
    missing = [name for name in names if name not in rows]
    if missing:
        raise MissingTableError(
            f"{tables.path('models')}: no model called {', '.join(missing)} was trained for {ds}; there are "
            f"{', '.join(sorted(rows)) or 'none'}; train it first"
        )
    found = [_contender(rows[name]) for name in names]
    holder = champion(tables, ds)
    if holder is not None and all(holder.digest != one.digest for one in found):
        found.append(holder)
    return tuple(found)


def needed_columns(features: DataFrame, found: Sequence[Contender]) -> list[str]:
    """The feature columns that these models eat, once each. Raises MissingColumnsError, ArtifactError."""
    columns: dict[str, None] = {}
    for one in found:
        needed = one.model().columns
        missing = [name for name in needed if name not in features.columns]
        if missing:
            raise MissingColumnsError(
                f"features: {one.model_id} needs {', '.join(missing)}; found {', '.join(features.columns)}"
            )
        columns |= dict.fromkeys(needed)
    return list(columns)


def _contender(row: Mapping[str, Any]) -> Contender:
    stretches = json.loads(row.get("stretches") or "{}")
    return Contender(
        model_id=row["model_id"],
        name=row["name"],
        kind=row["kind"],
        artifact=row["artifact"],
        digest=row["digest"],
        correction=row["correction"],
        keep_rate=row["keep_rate"],
        seconds=row["seconds"],
        trained_until=_end(stretches, "train"),
        chosen_until=_end(stretches, "validation"),
    )


def _end(stretches: Mapping[str, list[str]], name: str) -> datetime | None:
    return datetime.fromisoformat(stretches[name][1]) if name in stretches else None
