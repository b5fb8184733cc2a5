"""Rows from workers straight into a table's Parquet files: no JVM between them and the disk.

`files` runs on executors. What it writes belongs to the table only once the driver commits it
(`local_delta.commit`); files of a task that failed are in no version, and VACUUM takes them away.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clickmill.errors import SchemaError
from clickmill.schema import Table

FILES = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("rows", pa.int64()), ("partition", pa.string())])
"""A written file: its path as Delta's log spells it, its size, and its partition values as a JSON object."""
ROW_GROUP = 131_072
"""Rows of a row group: what is held in memory for each open file."""
REFUSAL = "clickmill refuses: "
"""How the driver finds a refusal in the text of a failed stage."""
Make = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def as_they_are(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A `Make` that makes nothing."""
    yield from batches


def files(batches: Iterator[pa.RecordBatch], *, make: Make, folder: str, table: Table) -> Iterator[pa.RecordBatch]:
    """Writes the rows of `make(batches)` under `folder`, a file for each partition; yields a row of FILES a file.

    Raises SchemaError where a row breaks the table's rules.
    """
    opened: dict[tuple[Any, ...], _File] = {}
    for batch in make(batches):
        broken = table.broken(batch)
        if broken:
            raise SchemaError(f"{REFUSAL}{broken}")
        for values, rows in _by_partition(batch, table.partition_by):
            if values not in opened:
                opened[values] = _File(folder, dict(zip(table.partition_by, values, strict=True)))
            opened[values].add(rows)
    if opened:
        yield pa.RecordBatch.from_pylist([file.close() for file in opened.values()], schema=FILES)


def _by_partition(
    batch: pa.RecordBatch, partition_by: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], pa.RecordBatch]]:
    """The batch cut by the values of the partition columns, in the order in which they come."""
    keys = pa.table([batch.column(name) for name in partition_by], names=list(partition_by))
    found = keys.group_by(list(partition_by), use_threads=False).aggregate([]).to_pylist()
    for row in found:
        kept = batch
        if len(found) > 1:
            for name, value in row.items():
                kept = kept.filter(pc.equal(kept.column(name), pa.scalar(value, kept.column(name).type)))
        yield tuple(row.values()), kept.drop_columns(list(partition_by))


@dataclass
class _File:
    """One file being written: batches are held until they make a row group."""

    folder: str
    partition: dict[str, Any]
    rows: int = 0
    _held: list[pa.RecordBatch] = field(default_factory=list)
    _held_rows: int = 0
    _writer: pq.ParquetWriter | None = None

    def __post_init__(self) -> None:
        steps = [f"{name}={quote(str(value), safe='')}" for name, value in self.partition.items()]
        self.path = Path(*steps, f"part-{uuid.uuid4()}.snappy.parquet")

    def add(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        if self._held_rows >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held)
        if self._writer is None:
            place = Path(self.folder, self.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(place, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.rows += table.num_rows
        self._held, self._held_rows = [], 0

    def close(self) -> dict[str, Any]:
        """Ends the file; its row of FILES."""
        if self._held:
            self._flush()
        assert self._writer is not None, "a file is opened for rows"
        self._writer.close()
        return {
            "path": quote(self.path.as_posix(), safe="/="),
            "bytes": os.path.getsize(Path(self.folder, self.path)),
            "rows": self.rows,
            "partition": json.dumps({name: str(value) for name, value in self.partition.items()}),
        }
