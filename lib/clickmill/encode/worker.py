"""Counts values by period on workers: partitions first, then each slot's day as a whole. No Spark here."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.encoding import HOUR_US, PERIODS, Counts, History, periods_of
from clickmill.models.logreg import hashes
from clickmill.schema import TABLES

PARCELS = pa.schema([("ds", pa.date32()), ("slot", pa.string()), ("counts", pa.binary())])
"""What a partition counted of a column's values on one day: an Arrow message of COUNTS."""
COUNTS = pa.schema(
    [("hash", pa.int32()), ("period", pa.int32()), ("impressions", pa.int64()), ("clicks", pa.int64())]
)
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
        one = Counts.joined([_unpacked(content) for content in parts.pop((slot, day))]).together()
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


def by_slot(batches: Iterator[pa.RecordBatch], *, period: str) -> Iterator[pa.RecordBatch]:
    """Rows of `encodings` → PARCELS, a few for each column; `ds` is that of one of the rows."""
    for batch in batches:
        for slot in pc.unique(batch.column("slot")).to_pylist():
            here = batch.filter(pc.equal(batch.column("slot"), slot))
            micros = here.column("period_start").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
            own = [here.column(name).to_numpy() for name in ("hash", "impressions", "clicks")]
            yield _parcel(here.column("ds")[0].as_py(), slot, Counts(own[0], periods_of(micros, period), *own[1:]))


def histories(batches: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """PARCELS, all of a column among them → each column's history in a folder of its name; yields the names."""
    parts: dict[str, list[bytes]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            parts.setdefault(row["slot"], []).append(row["counts"])
    for slot in sorted(parts):
        own = History.of(Counts.joined([_unpacked(content) for content in parts.pop(slot)]))
        aside = Path(folder, f".{slot}-{secrets.token_hex(4)}")
        own.save(aside)
        with suppress(OSError):  # a second attempt of a task: the first one's is the same
            aside.rename(Path(folder, slot))
        shutil.rmtree(aside, ignore_errors=True)
        yield pa.record_batch({"slot": [slot]})


def _parcels(held: dict[tuple[date, str], list[Counts]]) -> Iterator[pa.RecordBatch]:
    for (day, column), parts in held.items():
        yield _parcel(day, column, Counts.joined(parts).together())


def _parcel(day: date, column: str, counts: Counts) -> pa.RecordBatch:
    rows = pa.record_batch([pa.array(part) for part in counts], schema=COUNTS)
    content = pa.array([rows.serialize().to_pybytes()], pa.binary())
    return pa.record_batch([pa.array([day], pa.date32()), pa.array([column]), content], schema=PARCELS)


def _unpacked(content: bytes) -> Counts:
    rows = pa.ipc.read_record_batch(pa.py_buffer(content), COUNTS)
    return Counts(*(column.to_numpy() for column in rows.columns))
