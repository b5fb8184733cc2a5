"""The figures of drift: columns, click-through rate, the champion, the classifier. No Spark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from clickmill.units import Units, micros

Against = Literal["train", "day_before"]
ALL = "(all rows)"
"""The column of a figure that is of no single one."""
REPLICATES = 200


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
        return self._at(np.argsort(words, kind="stable"))

    def halves(self) -> tuple[Drawn, Drawn]:
        """Every other row: so many that what is known and what is compared with it are not the same rows."""
        place = np.arange(len(self))
        return self._at(place[::2]), self._at(place[1::2])

    def earlier_and_later(self) -> tuple[Drawn, Drawn]:
        """The half of the rows that came first, and the other."""
        place = np.argsort(micros(self.rows.column("event_time")), kind="stable")
        return self._at(place[: len(place) // 2]), self._at(place[len(place) // 2 :])

    def _at(self, place: NDArray[np.int64]) -> Drawn:
        return Drawn(self.rows.take(pa.array(place)))


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

    numbers, slots: their columns in both. Raises MissingColumnsError where a slot is null on some days.
    """
    now, then = now.mixed(seed), then.mixed(seed)
    found = [
        *_of_numbers(now, then, against, numbers),
        *_of_slots(now, then, against, slots),
        Drift(against, ALL, "ctr", *click_rate(now, units)),
        Drift(against, ALL, "ctr_ratio", *click_rate_ratio(now, then, units)),
    ]
    return [*found, *_apart(now, then, against, numbers, slots, seed)]


def _of_numbers(now: Drawn, then: Drawn, against: Against, columns: Sequence[str]) -> Iterator[Drift]:
    for column in columns:
        own, other = now.number(column), then.number(column)
        yield Drift(against, column, "psi", drift.stability_index(*drift.number_bins(own, other)))
        yield Drift(against, column, "ks", drift.distance(own[~np.isnan(own)], other[~np.isnan(other)]))


def _of_slots(now: Drawn, then: Drawn, against: Against, columns: Sequence[str]) -> Iterator[Drift]:
    """`unseen`: the share of rows whose value is not in a half of the earlier rows. `unseen_excess`: less that of
    the other half, which is what a slot of many values shows where nothing has changed, and less chance.

    `seen_ratio`: the share of rows whose value is in the first half of the earlier time, over that of its second
    half. Where nearly all values are new on every day, it alone tells that the few that used to come again are
    gone. (Halves of the time, because the rows of a user or a session stand together in it.) None of the three for
    halves of next to no rows.
    """
    known, others = then.halves()
    first, second = then.earlier_and_later()
    for column in columns:
        own = now.hashes(column)
        yield Drift(against, column, "psi", drift.stability_index(*drift.slot_bins(own, then.hashes(column))))
        if len(others) < bootstrap.MIN_UNITS:
            continue
        new, usual = ((len(side) - _seen(column, known, side), len(side)) for side in (now, others))
        yield Drift(against, column, "unseen", new[0] / new[1])
        yield Drift(against, column, "unseen_excess", drift.excess(new, usual))
        again, before = ((_seen(column, first, side), len(side)) for side in (now, second))
        if before[0]:
            yield Drift(against, column, "seen_ratio", *drift.share_ratio(again, before))


def _seen(column: str, known: Drawn, side: Drawn) -> int:
    """How many rows of a side have a value that is known."""
    return int(np.isin(side.hashes(column), known.hashes(column)).sum())


def _apart(
    now: Drawn, then: Drawn, against: Against, numbers: Sequence[str], slots: Sequence[str], seed: int
) -> Iterator[Drift]:
    """A slot's value is told to the classifier by how common it was in a half of the earlier rows; the other half
    it is to tell the day from."""
    known, others = then.halves()
    sides = (
        {
            **{column: side.number(column) for column in numbers},
            **{column: adversary.commonness(side.hashes(column), known.hashes(column)) for column in slots},
        }
        for side in (now, others)
    )
    told = adversary.tell_apart(*sides, seed=seed)
    if told is None:
        return
    yield Drift(against, ALL, "adversarial_auc", *told.auc)
    for column, share in told.by.items():
        yield Drift(against, column, "adversarial_share", share)


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
