"""Draws the rows that are compared, and looks up what the judge found of the champion. Spark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from clickmill.champion import Promotion, promotions
from clickmill.config import Config, Monitor
from clickmill.drift import Figure, loss
from clickmill.errors import MissingTableError
from clickmill.monitor import worker
from clickmill.monitor.figures import ALL, DAY, Drawn, Drift, figures
from clickmill.monitor.verdict import Verdict, verdict
from clickmill.schema import EVERYTHING, LAST_STAGE
from clickmill.split import Stretch, Stretches
from clickmill.tables import Tables
from clickmill.units import units_of


def monitor(tables: Tables, cfg: Config, ds: date, stretches: Stretches) -> Verdict:
    """The day's rows against those of the champion's train time (without a champion: of the day's own) and of the
    day before, and the champion's figures on the day. The driver receives at most some 4 · `monitor.rows` rows.

    Raises MissingTableError where the day, or all of train time, has no rows in `features`, MissingColumnsError
    where some of their days were made without one of the slots.
    """
    holder = next((one for one in reversed(promotions(tables)) if one.ds <= ds), None)
    train = _train_of(tables, holder) or stretches.train
    numbers = [f"n_{name}" for name in cfg.dataset.numbers]
    slots = [f"s_{name}" for name in cfg.dataset.slots]
    units = units_of(cfg.judge)
    asked = [*("event_id", "event_time", "label"), *numbers, *slots, *((units.column,) if units.column else ())]
    draw = partial(drawn, tables, cfg.monitor, columns=asked)
    now = draw(day_of(ds))
    # What the day's own rows have taught is not earlier: a train time within the day leaves the day before alone.
    then = draw(Stretch(min(train.start, now.stretch.start), min(train.end, now.stretch.start)))
    if not len(now) or (not len(then) and train.end <= now.stretch.start):
        lacking = day_of(ds) if not len(now) else train
        raise MissingTableError(
            f"{tables.path('features')}: no rows in {lacking}; run build_features for its days"
        )
    look = partial(figures, numbers=numbers, slots=slots, units=units, seed=cfg.monitor.seed)
    found = look(now, then, "train") if len(then) else []
    before = draw(Stretch(now.stretch.start - 2 * DAY, now.stretch.start), days=2)
    if len(before.within(day_of(ds - DAY))):
        found += look(now, before, "day_before")
    return verdict([*found, *_of_champion(tables, ds, holder)], cfg.monitor)


def day_of(day: date) -> Stretch:
    """A whole day."""
    start = datetime(day.year, day.month, day.day)
    return Stretch(start, start + DAY)


def drawn(tables: Tables, conf: Monitor, stretch: Stretch, *, columns: Sequence[str], days: int = 1) -> Drawn:
    """About `days` · `monitor.rows` rows of a stretch of time, by key: the same ones on every rerun."""
    share = min(1.0, days * conf.rows / max(tables.read("features", stretch=stretch).count(), 1))
    scan = tables.scan("features", columns, stretch=stretch)
    found = scan.through(partial(worker.drawn, share=share, seed=conf.seed), scan.schema).rows().toArrow()
    return Drawn(found.sort_by("event_id"), stretch)


def _train_of(tables: Tables, holder: Promotion | None) -> Stretch | None:
    """The champion's train time."""
    if holder is None:
        return None
    rows = tables.rows_if_any("models", where={"model_id": [holder.champion.model_id.partition("@")[0]]})
    if not rows:
        return None
    start, end = json.loads(rows[0]["stretches"])["train"]
    return Stretch(datetime.fromisoformat(start), datetime.fromisoformat(end))


def _of_champion(tables: Tables, ds: date, holder: Promotion | None) -> list[Drift]:
    """Its calibration ratio and NE on the day as the judge found them, and by how much NE is above that of its
    promotion's day, relatively; none of them where it was not judged on the day."""
    if holder is None:
        return []
    own = _judged(tables, ds, holder.champion.model_id)
    if not own:
        return []
    found = [
        Drift("train", ALL, "calibration_ratio", *own["calibration_ratio"]),
        Drift("train", ALL, "ne", *own["ne"]),
    ]
    first = _judged(tables, holder.ds, holder.champion.model_id)
    if first and holder.ds != ds:
        found.append(Drift("train", ALL, "ne_loss", *loss(own["ne"], first["ne"])))
    return found


def _judged(tables: Tables, ds: date, model_id: str) -> dict[str, Figure]:
    rows = tables.rows_if_any("metrics", days=[ds], where={"model_id": [model_id], "slice": [EVERYTHING]})
    return {
        row["metric"]: Figure(row["value"], row["low"], row["high"])
        for row in rows
        if row["stage"] == LAST_STAGE and row["metric"] in ("ne", "calibration_ratio") and row["value"] is not None
    }


def rows_of(found: Verdict, ds: date, run_id: str) -> list[dict[str, Any]]:
    """Rows of `drift`."""
    return [{**one.figure._asdict(), "verdict": one.verdict, "ds": ds, "run_id": run_id} for one in found.figures]
