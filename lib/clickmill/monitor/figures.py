"""The figures of drift: columns, click-through rate, the champion, the classifier. No Spark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clickmill import bootstrap, drift, hashing
from clickmill.bootstrap import Replicates
from clickmill.drift import Doubles, Figure, Int32
from clickmill.errors import MissingColumnsError
from clickmill.models.xgboost import LARGEST
from clickmill.monitor import adversary
from clickmill.split import Stretch
from clickmill.units import Units, micros

Against = Literal["train", "day_before"]
ALL = "(all rows)"
"""The column of a figure that is of no single one."""
REPLICATES = 200
DAY = timedelta(days=1)
MOVING = 0.1
"""PSI of a slot from a usual day to the next that is much: what `monitor.psi` watches from on, unless told."""


class Drift(NamedTuple):
    """One figure of a column: a row of `drift`, less the day and the verdict."""

    against: Against
    column: str
    statistic: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Drawn:
    """Rows of one stretch of time, or a keyed share of them, with the columns that are looked at."""

    rows: pa.Table
    stretch: Stretch

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def number(self, column: str) -> Doubles:
        """(n,), NaN where there is none; the largest 32-bit float for an infinite one, as where models learn."""
        values = self.rows.column(column).cast(pa.float64()).combine_chunks()
        return np.clip(np.asarray(values.to_numpy(zero_copy_only=False), np.float64), -LARGEST, LARGEST)

    def hashes(self, column: str) -> Int32:
        """(n,). Raises MissingColumnsError where it has nulls."""
        values = self.rows.column(column)
        if values.null_count:
            lacking = self.rows.column("event_time").filter(values.is_null())
            days = sorted({str(day) for day in pc.unique(lacking.cast(pa.date32())).to_pylist()})
            raise MissingColumnsError(
                f"features: column {column} is null in {values.null_count} of {len(values)} rows: these days were "
                f"made with other slots; run build_features for them ({', '.join(days)})"
            )
        return np.asarray(values.combine_chunks().to_numpy(), np.int32)

    def mixed(self, seed: int) -> Drawn:
        """The same rows in an order that hangs on nothing but their event ids and the seed."""
        words = hashing.keyed_words("drift-order", seed, self.rows.column("event_id"))
        return Drawn(self.rows.take(pa.array(np.argsort(words, kind="stable"))), self.stretch)

    def first(self, rows: int) -> Drawn:
        """So many of them, as they stand."""
        return Drawn(self.rows.slice(0, rows), self.stretch)

    def within(self, stretch: Stretch) -> Drawn:
        """The rows of a part of the time."""
        time = micros(self.rows.column("event_time"))
        start, end = np.array(stretch, "datetime64[us]").astype(np.int64)
        return Drawn(self.rows.filter(pa.array((time >= start) & (time < end))), stretch)


class Past(NamedTuple):
    """Earlier rows, and what is usual for a slot, whose values come and go without any drift.

    The day's values are looked up in `known`, those of the last 24 hours of the earlier time (`last`) in `before`:
    as many rows of as many days, as long before them as `known` before the day.
    """

    rows: Drawn
    known: Drawn
    last: Drawn
    before: Drawn

    @property
    def tells_usual(self) -> bool:
        """Whether there are such rows, more than next to none."""
        return min(len(self.last), len(self.before)) >= bootstrap.MIN_UNITS


def past(then: Drawn, day: Stretch, against: Against, seed: int) -> Past:
    """Earlier rows as they are compared with a day's. then: against the day before, two days' rows.

    Where they end longer before the day than they go back, they do not tell what is usual at its distance.
    """
    start, end = then.stretch
    window = end - start - DAY - max(day.start - end, timedelta())
    last = then.within(Stretch(max(end - DAY, start), end))
    if window < DAY:
        known = before = Stretch(start, start)
    else:
        known, before = Stretch(end - window, end), Stretch(start, start + window)
    sides = [then.within(side).mixed(seed) for side in (known, before)]
    rows = min(map(len, sides))
    return Past(then if against == "train" else last, sides[0].first(rows), last, sides[1].first(rows))


def figures(
    now: Drawn,
    then: Drawn,
    against: Against,
    *,
    numbers: Sequence[str],
    slots: Sequence[str],
    units: Units,
    seed: int,
) -> list[Drift]:
    """All figures of a day's rows against earlier ones, in whatever order they come.

    then: of train time, or of the two days before, of which the earlier one only tells what is usual.
    numbers, slots: their columns in both. Raises MissingColumnsError where a slot is null on some days.
    """
    earlier = past(then, now.stretch, against, seed)
    found = [
        *_of_numbers(now, earlier.rows, against, numbers),
        *_of_slots(now, earlier, against, slots),
        Drift(against, ALL, "ctr", *click_rate(now, units)),
        Drift(against, ALL, "ctr_ratio", *click_rate_ratio(now, earlier.rows, units)),
    ]
    return [*found, *_apart(now, earlier, against, numbers, slots, seed)]


def _of_numbers(now: Drawn, then: Drawn, against: Against, columns: Sequence[str]) -> Iterator[Drift]:
    for column in columns:
        own, other = now.number(column), then.number(column)
        yield Drift(against, column, "psi", drift.stability_index(*drift.number_bins(own, other)))
        yield Drift(against, column, "ks", drift.distance(own[~np.isnan(own)], other[~np.isnan(other)]))


def _of_slots(now: Drawn, then: Past, against: Against, columns: Sequence[str]) -> Iterator[Drift]:
    """`psi`: of the day and all earlier rows. `unseen`: the share of rows whose value is in none of them.

    Where they tell what is usual: `psi_excess`: less twice what is usual; 0 where that is MOVING or more: such a
    slot has no distribution to move from, and the others tell of it. `unseen_excess`: the share of rows whose
    value is not known, less what is usual, and less chance. `seen_ratio`: the share of rows whose value is known,
    over what is usual: where nearly all values are new on every day, it alone tells that the few that used to come
    again are gone.
    """
    for column in columns:
        own, every = now.hashes(column), then.rows.hashes(column)
        yield Drift(against, column, "psi", _moved(own, every))
        yield Drift(against, column, "unseen", float(1 - _seen(own, every).mean()))
        if not then.tells_usual:
            continue
        known, last, before = (side.hashes(column) for side in then[1:])
        moves = max(_moved(last, before, side) for side in (last, before))
        moved = _moved(own, known) - 2 * moves if moves < MOVING else 0.0
        yield Drift(against, column, "psi_excess", max(moved, 0.0))
        seen, usual = _seen(own, known), _seen(last, before)
        new = (_independent(~seen, _together(own[~seen])), _independent(~usual, _together(last[~usual])))
        yield Drift(against, column, "unseen_excess", drift.excess(*new))
        if usual.any():
            effect = max(_together(own[seen]), _together(last[usual]))
            again = (_independent(seen, effect), _independent(usual, effect))
            yield Drift(against, column, "seen_ratio", *drift.share_ratio(*again))


def _moved(now: Int32, then: Int32, of: Int32 | None = None) -> float:
    return drift.stability_index(*drift.slot_bins(now, then, of))


def _seen(hashes: Int32, known: Int32) -> NDArray[np.bool_]:
    """Whether each row's value is known, (n,)."""
    return np.isin(hashes, known)


def _together(hashes: Int32) -> float:
    """How many rows stand for an independent one, since those of one value come and go together (Kish's design
    effect): Σ c² / Σ c for c rows of each value, at least 1."""
    counts = np.unique(hashes, return_counts=True)[1]
    return float((counts**2).sum() / counts.sum()) if len(counts) else 1.0


def _independent(found: NDArray[np.bool_], effect: float) -> tuple[float, float]:
    """How many rows were found, and of how many, as so many independent ones."""
    return float(found.sum()) / effect, len(found) / effect


def _apart(
    now: Drawn, then: Past, against: Against, numbers: Sequence[str], slots: Sequence[str], seed: int
) -> Iterator[Drift]:
    """The day's rows from those of the earlier time's last 24 hours: a slot's value is told to the classifier by
    how common it was before. No slot of which more is known than usual: that is no drift of the day. From all
    earlier rows, and by numbers alone, where these do not tell what is usual."""
    usual = then.tells_usual
    other = then.last if usual else then.rows
    slots = [one for one in slots if usual and _known(now, then.known, one) <= _known(*then[2:], one)]
    told = adversary.tell_apart(
        _told_by(now.mixed(seed), then.known, numbers, slots),
        _told_by(other.mixed(seed), then.before, numbers, slots),
        seed=seed,
    )
    if told is None:
        return
    yield Drift(against, ALL, "adversarial_auc", *told.auc)
    for column, share in told.by.items():
        yield Drift(against, column, "adversarial_share", share)


def _known(side: Drawn, known: Drawn, column: str) -> float:
    """The share of rows whose value is known."""
    return float(_seen(side.hashes(column), known.hashes(column)).mean())


def _told_by(side: Drawn, known: Drawn, numbers: Sequence[str], slots: Sequence[str]) -> dict[str, Doubles]:
    common = {one: adversary.commonness(side.hashes(one), known.hashes(one)) for one in slots}
    return {column: side.number(column) for column in numbers} | common


def click_rate(rows: Drawn, units: Units) -> Figure:
    """Click-through rate with its 95% interval."""
    rate, found = _clicks(rows, units)
    return Figure(rate) if found is None else drift.share(*found)


def click_rate_ratio(now: Drawn, then: Drawn, units: Units) -> Figure:
    """Click-through rate over that of earlier rows, with its 99% interval. Infinite where these have no clicks."""
    (own, found), (other, earlier) = _clicks(now, units), _clicks(then, units)
    if found is None or earlier is None:
        return Figure(own / other if other else math.inf)
    return drift.share_ratio(found, earlier)


def _clicks(rows: Drawn, units: Units) -> tuple[float, tuple[float, float] | None]:
    """The click-through rate, and clicks and rows as so many independent ones as say as much of it.

    Where rows of one unit count together, both are divided by how much more the rate scatters in the bootstrap
    than that of independent clicks does, if it does (Kish's design effect); None for too few units.
    """
    clicks = float(rows.rows.column("label").to_numpy().sum())
    rate = clicks / len(rows)
    if units.column is None and units.hours is None:
        return rate, (clicks, len(rows))
    found = Replicates.empty(1, 2, REPLICATES)
    for batch in rows.rows.to_batches():
        one = np.ones(batch.num_rows)
        both = np.column_stack((one, batch.column("label").to_numpy()))
        found.add(units.keys(batch), np.zeros((len(one), 1), np.int32), both)
    if len(found.units[0]) < bootstrap.MIN_UNITS:
        return rate, None
    alone = rate * (1 - rate) / len(rows)
    effect = max(1.0, float((found.sums[0, 1] / found.sums[0, 0]).var()) / alone) if alone else 1.0
    return rate, (clicks / effect, len(rows) / effect)
