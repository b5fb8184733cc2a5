"""Who is judged on a day: the models trained for it, and the champion as of that day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple

from clickmill.errors import MissingColumnsError, MissingTableError
from clickmill.scoring import Contender
from clickmill.tables import Tables


class Promotion(NamedTuple):
    """A verdict that made a model the champion from `ds` on."""

    number: int
    """Rises by one with every promotion, whatever its day."""
    ds: date
    champion: Contender


def promotions(tables: Tables) -> list[Promotion]:
    """All of them, by day and then as they were made; none where nothing was decided yet."""
    found = [
        Promotion(row["promotion"], row["ds"], Contender.from_json(row["champion_model"]))
        for row in tables.rows_if_any("decisions")
        if row["promoted"]
    ]
    return sorted(found, key=lambda one: (one.ds, one.number))


def champion(tables: Tables, ds: date) -> Contender | None:
    """The model of the promotion with the greatest ds not after `ds`; None before the first one.

    A backfilled decision of an earlier day therefore never displaces a later champion.
    """
    until = [one.champion for one in promotions(tables) if one.ds <= ds]
    return until[-1] if until else None


def contenders(tables: Tables, ds: date, names: Sequence[str]) -> tuple[Contender, ...]:
    """The models of `ds` by these names, in this order, and after them the champion of the day before and of `ds`.

    They differ once `ds` has a new champion: a rerun of the day then judges the same models again. A champion
    that is one of the models is not told twice; of one that was trained again since, so that its artifact is
    another one, the id gets the digest's first 8 digits. Raises MissingTableError where a name has no model on
    that day, KeepRateError for a model that needs its keep rate and has none.
    """
    rows = {row["name"]: row for row in tables.rows("models", days=[ds])}
    missing = [name for name in names if name not in rows]
    if missing:
        raise MissingTableError(
            f"{tables.path('models')}: no model called {', '.join(missing)} was trained for {ds}; there are "
            f"{', '.join(sorted(rows)) or 'none'}; train it first"
        )
    found = [Contender.of(rows[name]) for name in names]
    for holder in (champion(tables, ds - timedelta(days=1)), champion(tables, ds)):
        if holder is None or any(holder.digest == one.digest for one in found):
            continue
        again = any(holder.model_id == one.model_id for one in found)
        found.append(replace(holder, model_id=f"{holder.model_id}@{holder.digest[:8]}") if again else holder)
    return tuple(found)


def needed_columns(features: Sequence[str], found: Sequence[Contender]) -> list[str]:
    """The feature columns that these models eat, once each. Raises MissingColumnsError, ArtifactError.

    features: the columns that there are.
    """
    columns: dict[str, None] = {}
    for one in found:
        missing = [name for name in one.columns if name not in features]
        if missing:
            raise MissingColumnsError(
                f"features: {one.model_id} needs {', '.join(missing)}; found {', '.join(features)}"
            )
        columns |= dict.fromkeys(one.columns)
    return list(columns)
