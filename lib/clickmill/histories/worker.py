"""Counts of values by period → histories in files, on workers. No Spark here."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickmill.encoding import Counts, History, periods_of

PARCELS = pa.schema([("ds", pa.date32()), ("slot", pa.string()), ("counts", pa.binary())])
"""What a partition counted of a column's values on one day: an Arrow message of COUNTS."""
COUNTS = pa.schema(
    [("hash", pa.int32()), ("period", pa.int32()), ("impressions", pa.int64()), ("clicks", pa.int64())]
)


def by_slot(batches: Iterator[pa.RecordBatch], *, period: str) -> Iterator[pa.RecordBatch]:
    """Rows of `encodings` → PARCELS, a few for each column; `ds` is that of one of the rows."""
    for batch in batches:
        for slot in pc.unique(batch.column("slot")).to_pylist():
            here = batch.filter(pc.equal(batch.column("slot"), slot))
            micros = here.column("period_start").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
            own = [here.column(name).to_numpy() for name in ("hash", "impressions", "clicks")]
            yield parcel(here.column("ds")[0].as_py(), slot, Counts(own[0], periods_of(micros, period), *own[1:]))


def histories(batches: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """PARCELS, all of a column among them → each column's history in a folder of its name; yields the names."""
    parts: dict[str, list[bytes]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            parts.setdefault(row["slot"], []).append(row["counts"])
    for slot in sorted(parts):
        own = History.of(Counts.joined([unpacked(content) for content in parts.pop(slot)]))
        aside = Path(folder, f".{slot}-{secrets.token_hex(4)}")
        own.save(aside)
        with suppress(OSError):  # a second attempt of a task: the first one's is the same
            aside.rename(Path(folder, slot))
        shutil.rmtree(aside, ignore_errors=True)
        yield pa.record_batch({"slot": [slot]})


def parcel(day: date, column: str, counts: Counts) -> pa.RecordBatch:
    """One row of PARCELS."""
    rows = pa.record_batch([pa.array(part) for part in counts], schema=COUNTS)
    content = pa.array([rows.serialize().to_pybytes()], pa.binary())
    return pa.record_batch([pa.array([day], pa.date32()), pa.array([column]), content], schema=PARCELS)


def unpacked(content: bytes) -> Counts:
    """The counts of a parcel."""
    rows = pa.ipc.read_record_batch(pa.py_buffer(content), COUNTS)
    return Counts(*(column.to_numpy() for column in rows.columns))
