"""The figures of drift: columns, click-through rate, the champion, the classifier. No Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from clickmill import bootstrap, drift
from clickmill.bootstrap import Replicates
from clickmill.drift import Doubles, Figure, Int32
from clickmill.monitor import adversary
from clickmill.units import Units

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
        """(n,), NaN where there is none."""
        values = self.rows.column(column).cast(pa.float64()).combine_chunks()
        return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)

    def hashes(self, column: str) -> Int32:
        """(n,)"""
        return np.asarray(self.rows.column(column).combine_chunks().to_numpy(), np.int32)

    def halves(self) -> tuple[Drawn, Drawn]:
        """Every other row: so many that what is known and what is compared with it are not the same rows."""
        place = np.arange(len(self))
        return Drawn(self.rows.take(pa.array(place[::2]))), Drawn(self.rows.take(pa.array(place[1::2])))


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
    """All figures of a day's rows against earlier ones. numbers, slots: their columns in both."""
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
    """`unseen`: the share of values not seen in a half of the earlier rows; `unseen_excess`: less that share among
    the other half, which is what a slot of many values shows where nothing has changed."""
    known, others = then.halves()
    for column in columns:
        own = now.hashes(column)
        yield Drift(against, column, "psi", drift.stability_index(*drift.slot_bins(own, then.hashes(column))))
        seen = np.unique(known.hashes(column))
        share = drift.unseen(own, seen)
        yield Drift(against, column, "unseen", share)
        yield Drift(against, column, "unseen_excess", share - drift.unseen(others.hashes(column), seen))


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
    """Click-through rate with its 95% interval by the bootstrap."""
    sums, count = _clicks(rows, units)
    return _figure(rows.rows.column("label").to_numpy().mean(), sums[1] / sums[0], count)


def click_rate_ratio(now: Drawn, then: Drawn, units: Units) -> Figure:
    """Click-through rate over that of earlier rows. Infinite where these have no clicks."""
    rates = [side.rows.column("label").to_numpy().mean() for side in (now, then)]
    drawn = [_clicks(side, units) for side in (now, then)]
    if rates[1] == 0:
        return Figure(float("inf"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn[0][0][1] / drawn[0][0][0]) / (drawn[1][0][1] / drawn[1][0][0])
    return _figure(rates[0] / rates[1], ratios, min(count for _, count in drawn))


def _clicks(rows: Drawn, units: Units) -> tuple[Doubles, int]:
    """(2, replicates) rows and clicks by replicate, and the number of units (up to `bootstrap.MIN_UNITS`)."""
    found = Replicates.empty(1, 2, REPLICATES)
    for batch in rows.rows.to_batches():
        label = batch.column("label").to_numpy().astype(np.float64)
        groups = np.zeros((len(label), 1), np.int32)
        found.add(units.keys(batch), groups, np.column_stack((np.ones(len(label)), label)))
    return found.sums[0], len(found.units[0])


def _figure(value: float, replicates: Doubles, units: int) -> Figure:
    ends, _ = bootstrap.interval(np.where(np.isfinite(replicates), replicates, np.nan), units)
    return Figure(float(value), *(ends or (None, None)))
