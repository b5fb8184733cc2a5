"""Encodings of values: what was known before the row's own period, and never anything of it or of later."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from clickmill.encoding import Counts, Encoded, History, Known, Snapshot, encode, periods_of

N, VALUES, PERIODS = 5000, 60, 12


class Log:
    """Rows of one slot."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.names = rng.integers(-(2**31), 2**31, VALUES).astype(np.int32)
        self.hashes = self.names[rng.zipf(1.4, N) % VALUES]
        self.periods = np.sort(rng.integers(20_000, 20_000 + PERIODS, N)).astype(np.int32)
        self.clicked = (rng.random(N) < 0.2).astype(np.int8)

    def history(self, pieces: int = 1) -> History:
        parts = [
            Counts.of(self.hashes[own], self.periods[own], self.clicked[own])
            for own in np.array_split(np.random.default_rng(1).permutation(N), pieces)
        ]
        return History.of(Counts.joined(parts))

    def plainly(self, row: int, window: int) -> tuple[int, int, float]:
        """Impressions and clicks of the row's value, and the slot's rate, in the periods before the row's."""
        gone = (self.periods < self.periods[row]) & (self.periods >= self.periods[row] - window)
        own = gone & (self.hashes == self.hashes[row])
        q = float(self.clicked[gone].mean()) if gone.any() else math.nan
        return int(own.sum()), int(self.clicked[own].sum()), q


@pytest.mark.parametrize("window", [1, 3, 100])
def test_encodings_are_those_counted_row_by_row(window: int) -> None:
    log = Log()
    found = encode(log.history(), log.hashes, log.periods, window=window, strength=10.0)
    for row in range(0, N, 37):
        n, clicks, q = log.plainly(row, window)
        assert (found.impressions[row], found.clicks[row]) == (n, clicks)
        if n:
            assert found.rate[row] == pytest.approx((clicks + 10 * q) / (n + 10), rel=1e-6)
        else:
            assert np.isnan(found.rate[row])


@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_snapshot_says_what_the_history_says_of_its_moment(window: int) -> None:
    log, moment = Log(), 20_007
    strangers = np.setdiff1d(np.arange(-20, 20, dtype=np.int32), log.names)
    asked = np.concatenate([log.names, strangers, np.array([-(2**31), 2**31 - 1], np.int32)])
    history = log.history()
    known = Known(Snapshot.of(history, moment, window), strength=10.0)
    then = encode(history, asked, np.full(len(asked), moment, np.int32), window=window, strength=10.0)
    for own, other in zip(known.encode(asked), then, strict=True):
        np.testing.assert_array_equal(own, other)
    assert np.isnan(known.encode(strangers).rate).all()


def test_a_snapshot_of_nothing_knows_nobody() -> None:
    empty = Counts(*(np.empty(0, kind) for kind in (np.int32, np.int32, np.int64, np.int64)))
    found = Known(Snapshot.of(History.of(empty), 20_000, 7), strength=1.0).encode(np.array([-1, 0, 7], np.int32))
    assert found.impressions.tolist() == found.clicks.tolist() == [0, 0, 0]
    assert np.isnan(found.rate).all()


def test_a_value_never_seen_has_its_own_mark() -> None:
    log = Log()
    stranger = np.setdiff1d(np.arange(1000, dtype=np.int32), log.names)[:1]
    found = encode(log.history(), stranger, np.array([20_011], np.int32), window=100, strength=1.0)
    assert (found.impressions[0], found.clicks[0]) == (0, 0)
    assert np.isnan(found.rate[0])


def test_without_any_history_every_value_is_new() -> None:
    none = np.empty(0, np.int32)
    history = History.of(Counts.of(none, none, none.astype(np.int8)))
    found = encode(history, np.array([1, 2], np.int32), np.array([5, 6], np.int32), window=3, strength=1.0)
    assert not found.impressions.any()
    assert np.isnan(found.rate).all()


def bits(found: Encoded) -> Iterator[bytes]:
    return (column.tobytes() for column in found)


@pytest.mark.parametrize("pieces", [2, 17])
def test_the_same_to_the_bit_however_rows_are_counted(pieces: int) -> None:
    log = Log()
    one, other = (
        encode(log.history(parts), log.hashes, log.periods, window=4, strength=5.0) for parts in (1, pieces)
    )
    assert list(bits(one)) == list(bits(other))


@pytest.mark.parametrize("what", ["shuffled", "gone", "all clicks"])
def test_no_later_label_changes_an_encoding(what: str) -> None:
    log, changed = Log(), Log()
    day = 20_007
    later = changed.periods >= day
    if what == "gone":
        for name in ("hashes", "periods", "clicked"):
            setattr(changed, name, getattr(changed, name)[~later])
        counts = Counts.of(changed.hashes, changed.periods, changed.clicked)
    else:
        own = np.flatnonzero(later)
        new = np.random.default_rng(3).permutation(changed.clicked[own]) if what == "shuffled" else 1
        changed.clicked[own] = new
        counts = Counts.of(changed.hashes, changed.periods, changed.clicked)
    until = log.periods <= day  # the day itself too: its own labels are not for its own rows
    told = [
        encode(history, log.hashes[until], log.periods[until], window=5, strength=20.0)
        for history in (log.history(), History.of(counts))
    ]
    assert list(bits(told[0])) == list(bits(told[1]))


def test_periods_are_whole_hours_or_days_utc() -> None:
    micros = np.array(["2026-01-10T23:59:59.999999", "2026-01-11T00:00:00"], "datetime64[us]").astype(np.int64)
    assert np.diff(periods_of(micros, "day")).tolist() == [1]
    assert np.diff(periods_of(micros, "hour")).tolist() == [1]
    assert periods_of(micros, "day")[0] == (np.datetime64("2026-01-10") - np.datetime64("1970-01-01")).astype(int)
