"""Counting values by day and hour on batches: what a plain loop over the rows would count."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill.encode import worker
from clickmill.encoding import Counts, History, encode, periods_of
from clickmill.errors import MissingColumnsError
from clickmill.histories import worker as histories

DAYS = (date(2026, 1, 1), date(2026, 1, 2))
COLUMNS = ("s_site", "x_site_ad")
N = 3000


def features(seed: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.integers(0, 48, N))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return pa.RecordBatch.from_pydict(
        {
            "event_time": pa.array([start + timedelta(hours=int(h), minutes=7) for h in hours]),
            "label": pa.array((rng.random(N) < 0.3).astype(np.int8)),
            "ds": pa.array([DAYS[h // 24] for h in hours]),
            "s_site": pa.array((rng.zipf(1.5, N) % 40 - 20).astype(np.int32)),
            "x_site_ad": pa.array(rng.integers(-(2**31), 2**31, N).astype(np.int32)),
        }
    )


def counted(batches: list[pa.RecordBatch], period: str, partitions: int = 1) -> pa.Table:
    """The rows of `encodings`, each partition's batches counted apart."""
    parcels = [
        parcel
        for part in range(partitions)
        for parcel in worker.count(iter(batches[part::partitions]), columns=COLUMNS, period=period)
    ]
    return pa.Table.from_batches(worker.merge(iter(parcels), period=period), worker.ENCODINGS)


def by_hand(period: str) -> dict[Any, tuple[int, int]]:
    impressions: Counter[Any] = Counter()
    clicks: Counter[Any] = Counter()
    for row in features().to_pylist():
        start = row["event_time"].replace(minute=0)
        start = start.replace(hour=0) if period == "day" else start
        for column in COLUMNS:
            key = (row["ds"], column, row[column], start)
            impressions[key] += 1
            clicks[key] += row["label"]
    return {key: (impressions[key], clicks[key]) for key in impressions}


@pytest.mark.parametrize("period", ["day", "hour"])
def test_counts_are_those_of_a_plain_loop(period: str) -> None:
    found = {
        (row["ds"], row["slot"], row["hash"], row["period_start"]): (row["impressions"], row["clicks"])
        for row in counted([features()], period).to_pylist()
    }
    assert found == by_hand(period)


@pytest.mark.parametrize(("size", "partitions"), [(100, 1), (100, 7), (N, 1)])
def test_the_same_rows_however_they_are_cut(size: int, partitions: int) -> None:
    pieces = [features().slice(start, size) for start in range(0, N, size)]
    assert counted(pieces, "hour", partitions) == counted([features()], "hour")


def test_what_a_partition_holds_is_handed_on_when_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [features().slice(start, 500) for start in range(0, N, 500)]
    whole = counted(pieces, "day")
    monkeypatch.setattr(worker, "HELD", 1000)
    assert len(list(worker.count(iter(pieces), columns=COLUMNS, period="day"))) > 4
    assert counted(pieces, "day") == whole


def test_a_day_that_was_made_with_other_crosses_is_refused() -> None:
    rows = features()
    lacking = rows.set_column(4, "x_site_ad", pa.nulls(N, pa.int32()))
    with pytest.raises(MissingColumnsError, match="x_site_ad is null"):
        list(worker.count(iter([lacking]), columns=COLUMNS, period="day"))


def test_histories_from_stored_counts_say_what_the_rows_say(tmp_path: Path) -> None:
    stored = counted([features()], "hour")
    parcels = histories.by_slot(iter(stored.to_batches(max_chunksize=77)), period="hour")
    told = histories.histories(parcels, folder=str(tmp_path))
    assert [name for batch in told for name in batch.column("slot").to_pylist()] == sorted(COLUMNS)
    rows = features()
    micros = rows.column("event_time").cast(pa.int64()).to_numpy()
    periods, label = periods_of(micros, "hour"), rows.column("label").to_numpy()
    for column in COLUMNS:
        own = rows.column(column).to_numpy()
        exact = encode(History.of(Counts.of(own, periods, label)), own, periods, window=9, strength=2.0)
        found = encode(History.open(tmp_path / column), own, periods, window=9, strength=2.0)
        for one, other in zip(exact, found, strict=True):
            np.testing.assert_array_equal(one, other)
    assert {path.name for path in tmp_path.iterdir()} == set(COLUMNS), "nothing is left aside"
    again = list(
        histories.histories(histories.by_slot(iter(stored.to_batches()), period="hour"), folder=str(tmp_path))
    )
    assert len(again) == 2, "a task that is tried again finds its own folder there"
    assert {path.name for path in tmp_path.iterdir()} == set(COLUMNS)
