"""Time-safe encodings of a slot's values: what was known of a value before the row's own day or hour. No Spark.

A value's impressions and clicks are counted at full traffic in the `window` periods before the row's period, and
its click-through rate is drawn towards the slot's own rate in that window by `strength` pseudo-impressions:

    rate = (clicks + strength · q) / (impressions + strength),    q = the slot's clicks / impressions

(Micci-Barreca 2001; He et al. 2014 keep such counts for their trees). Nothing of a row's own period is ever
counted, so that no label can reach an encoding of its own row or of an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clickmill.lookup import Lookup

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

HOUR_US = 3_600_000_000
PERIODS = {"hour": 1, "day": 24}
"""Hours of a period."""


class Counts(NamedTuple):
    """Impressions and clicks of one slot's values in periods, (e,) each; in any order, a pair may come again."""

    hashes: Int32
    periods: Int32
    """Hours or days since 1970, UTC."""
    impressions: Int64
    clicks: Int64

    @classmethod
    def of(cls, hashes: Int32, periods: Int32, clicked: NDArray[np.int8]) -> Counts:
        """Counts n rows, each with the hash of its value, its period and its label."""
        ones = np.ones(len(hashes), np.int64)
        return cls(hashes, periods, ones, clicked.astype(np.int64)).together()

    @classmethod
    def joined(cls, parts: Sequence[Counts]) -> Counts:
        """All parts; at least one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def together(self) -> Counts:
        """The same with each pair once, by rising hash and then period."""
        if not len(self.hashes):
            return self
        key = (self.hashes.astype(np.int64) << 32) + self.periods
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
        first = order[starts]
        sums = (np.add.reduceat(counts[order], starts) for counts in (self.impressions, self.clicks))
        return Counts(self.hashes[first], self.periods[first], *sums)


class History(NamedTuple):
    """One slot's counts, so laid out that those of any window of periods are a few look-ups away."""

    hashes: Int32
    """(v,) rising."""
    ends: Int64
    """(v,) where a value's entries end; they begin where those of the value before it do."""
    periods: Int32
    """(e,) rising within a value."""
    impressions: Int64
    """(e,) of the value in this period and all before it."""
    clicks: Int64
    all_periods: Int32
    """(p,) rising: every period with rows, and next the slot's own sums up to it."""
    all_impressions: Int64
    all_clicks: Int64

    @classmethod
    def of(cls, counts: Counts) -> History:
        """The history of counts."""
        one = counts.together()
        last = np.flatnonzero(
            np.concatenate((one.hashes[1:] != one.hashes[:-1], [True] * min(1, len(one.hashes))))
        )
        ends = last + 1
        impressions, clicks = (_running(column, ends) for column in (one.impressions, one.clicks))
        periods, place = np.unique(one.periods, return_inverse=True)
        whole = np.zeros((2, len(periods)), np.int64)
        np.add.at(whole[0], place, one.impressions)
        np.add.at(whole[1], place, one.clicks)
        sums = whole.cumsum(axis=1)
        return cls(one.hashes[last], ends, one.periods, impressions, clicks, periods, sums[0], sums[1])

    def save(self, folder: Path) -> None:
        """Writes it as plain arrays into a folder that is not there yet."""
        folder.mkdir(parents=True)
        for name, column in self._asdict().items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> History:
        """What `save` wrote, as maps of the files: the processes of a machine share their memory."""
        arrays = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in cls._fields)
        return cls(*arrays)

    def before(self, hashes: Int32, periods: Int32, window: int) -> tuple[Int64, Int64]:
        """Impressions and clicks of each of n values in the `window` periods before the given one, (n,) each."""
        out = np.zeros((2, len(hashes)), np.int64)
        _before(hashes, periods, window, self.hashes, self.ends, self.periods, self.impressions, self.clicks, out)
        return out[0], out[1]

    def rate_before(self, periods: Int32, window: int) -> NDArray[np.float64]:
        """The slot's click-through rate in the `window` periods before each of n, (n,); NaN: no rows there."""
        sums = []
        for column in (self.all_impressions, self.all_clicks):
            running = np.concatenate(([0], column))
            until = np.searchsorted(self.all_periods, periods, side="left")
            since = np.searchsorted(self.all_periods, periods - window, side="left")
            sums.append((running[until] - running[since]).astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums[1] / sums[0])


def _running(column: Int64, ends: Int64) -> Int64:
    """Running sums that begin anew after each end."""
    running = np.cumsum(column)
    before = np.concatenate(([0], running[ends - 1]))[:-1]
    return np.asarray(running - np.repeat(before, np.diff(ends, prepend=0)))


class Encoded(NamedTuple):
    """What is known of each of n values before its row's period, (n,) each."""

    impressions: Float32
    clicks: Float32
    rate: Float32
    """In [0, 1]; NaN for a value never seen in the window, which is its own mark."""


class Snapshot(NamedTuple):
    """What was known of a slot's values at one moment: the form that travels with a model."""

    hashes: Int32
    """(v,) rising: the values seen in the window."""
    impressions: Int64
    """(v,)"""
    clicks: Int64
    """(v,)"""
    totals: Int64
    """(2,) impressions and clicks of the slot."""

    @classmethod
    def of(cls, history: History, period: int, window: int) -> Snapshot:
        """What is known when `period` begins of the `window` periods before it."""
        moment = np.full(len(history.hashes), period, np.int32)
        impressions, clicks = history.before(np.asarray(history.hashes), moment, window)
        seen = impressions > 0
        totals = np.array([impressions.sum(), clicks.sum()], np.int64)
        return cls(np.asarray(history.hashes)[seen], impressions[seen], clicks[seen], totals)


class Known:
    """A snapshot's values encoded once, and laid out for looking them up.

    strength: m > 0, in impressions.
    """

    def __init__(self, snapshot: Snapshot, *, strength: float) -> None:
        order = np.argsort(snapshot.hashes.view(np.uint32))
        impressions, clicks = (np.append(column[order], 0) for column in (snapshot.impressions, snapshot.clicks))
        q = snapshot.totals[1] / snapshot.totals[0] if snapshot.totals[0] else np.nan
        self.lookup = Lookup(snapshot.hashes.view(np.uint32)[order], 32)
        self.encoded = encoded(impressions, clicks, q, strength=strength)
        """(v + 1,) of each value; the last is of those that were never seen."""

    def encode(self, hashes: Int32) -> Encoded:
        """The encodings of n values; equal to those of the history at that moment."""
        places = self.lookup.positions(hashes)
        return Encoded(*(column[places] for column in self.encoded))


def encode(history: History, hashes: Int32, periods: Int32, *, window: int, strength: float) -> Encoded:
    """The encodings of n values of a slot. periods: (n,) of the rows; strength: m > 0, in impressions."""
    impressions, clicks = history.before(hashes, periods, window)
    q = history.rate_before(periods, window)
    return encoded(impressions, clicks, q, strength=strength)


def encoded(impressions: Int64, clicks: Int64, q: NDArray[np.float64] | float, *, strength: float) -> Encoded:
    """Encodings of counts; q: the slot's own rate."""
    rate = (clicks + strength * q) / (impressions + strength)
    return Encoded(
        impressions.astype(np.float32),
        clicks.astype(np.float32),
        np.where(impressions > 0, rate, np.nan).astype(np.float32),
    )


def periods_of(micros: Int64, period: str) -> Int32:
    """The period of each of n event times, microseconds since 1970 UTC: hours or days since then, (n,)."""
    return (micros // (PERIODS[period] * HOUR_US)).astype(np.int32)


@njit(cache=True, nogil=True)
def _before(hashes, periods, window, values, ends, steps, impressions, clicks, out):  # type: ignore[no-untyped-def]
    for i in range(len(hashes)):
        place = np.searchsorted(values, hashes[i])
        if place == len(values) or values[place] != hashes[i]:
            continue
        begin, end = (ends[place - 1] if place else 0), ends[place]
        until = begin + np.searchsorted(steps[begin:end], periods[i])
        since = begin + np.searchsorted(steps[begin:end], periods[i] - window)
        if until > begin:
            out[0, i] += impressions[until - 1]
            out[1, i] += clicks[until - 1]
        if since > begin:
            out[0, i] -= impressions[since - 1]
            out[1, i] -= clicks[since - 1]
