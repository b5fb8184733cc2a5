"""Counts values by period on workers: partitions first, then each slot's day as a whole. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.encoding import HOUR_US, PERIODS, Counts, periods_of
from clickmill.histories.worker import parcel, unpacked
from clickmill.models.logreg import hashes
from clickmill.schema import TABLES

ENCODINGS = pa.schema(list(TABLES["encodings"].columns.items()))
HELD = 4_000_000
"""Pairs of a value and a period that a partition holds, at most about twice: then it hands them on."""


def count(batches: Iterator[pa.RecordBatch], *, columns: Sequence[str], period: str) -> Iterator[pa.RecordBatch]:
    """Batches of features (label, event_time, ds and hash columns) → PARCELS.

    Raises MissingColumnsError where a column is null: the day was made with other slots or crosses.
    """
    held: dict[tuple[date, str], list[Counts]] = {}
    pairs = 0
    for batch in batches:
        for day in pc.unique(batch.column("ds")).to_pylist():
            here = batch.filter(pc.equal(batch.column("ds"), pa.scalar(day, pa.date32())))
            micros = here.column("event_time").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
            periods, label = periods_of(micros, period), here.column("label").to_numpy()
            for column in columns:
                counted = Counts.of(hashes(here, column), periods, label)
                held.setdefault((day, column), []).append(counted)
                pairs += len(counted.hashes)
        if pairs > HELD:
            together = {key: Counts.joined(parts).together() for key, parts in held.items()}
            pairs = sum(len(counts.hashes) for counts in together.values())
            held = {key: [counts] for key, counts in together.items()}
            if pairs > HELD:
                yield from _parcels(held)
                held, pairs = {}, 0
    yield from _parcels(held)


def merge(batches: Iterator[pa.RecordBatch], *, period: str) -> Iterator[pa.RecordBatch]:
    """PARCELS, all of a column's day among them → rows of `encodings`, by column and day, rising."""
    parts: dict[tuple[str, date], list[bytes]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            parts.setdefault((row["slot"], row["ds"]), []).append(row["counts"])
    for slot, day in sorted(parts):
        one = Counts.joined([unpacked(content) for content in parts.pop((slot, day))]).together()
        start = one.periods.astype(np.int64) * PERIODS[period] * HOUR_US
        columns = {
            "slot": pa.repeat(pa.scalar(slot), len(start)),
            "hash": pa.array(one.hashes),
            "period_start": pa.array(start).cast(pa.timestamp("us", tz="UTC")),
            "impressions": pa.array(one.impressions),
            "clicks": pa.array(one.clicks),
            "ds": pa.repeat(pa.scalar(day, pa.date32()), len(start)),
        }
        yield pa.record_batch([columns[name] for name in ENCODINGS.names], schema=ENCODINGS)


def _parcels(held: dict[tuple[date, str], list[Counts]]) -> Iterator[pa.RecordBatch]:
    for (day, column), parts in held.items():
        yield parcel(day, column, Counts.joined(parts).together())
