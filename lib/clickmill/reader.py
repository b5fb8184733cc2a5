"""Rows for training, straight from the files of one pinned table version: no Spark, no JVM.

`plan` lists the version's files on the driver and deals their row groups into shards of about equal
numbers of rows; `read` yields one shard's rows as Arrow batches wherever it is sent. The same
version, filter and number of shards give the same shards with the same rows in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from clickmill.errors import MissingColumnsError, MissingTableError, UnsupportedTableError
from clickmill.split import Stretch

if TYPE_CHECKING:
    from deltalake import DeltaTable

BATCH_ROWS = 65536


@dataclass(frozen=True)
class Piece:
    """One row group of one file; `partition` holds the values of the partition columns."""

    path: str
    row_group: int
    rows: int
    partition: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Shard:
    """What one rank reads, in order. May be empty: a rank without rows still takes part."""

    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Rows in the pieces, before any filter on time."""
        return sum(piece.rows for piece in self.pieces)


def plan(
    path: str,
    *,
    version: int,
    days: Sequence[date] | None = None,
    where: Mapping[str, str] | None = None,
    shards: int,
    most_rows: int | None = None,
) -> tuple[Shard, ...]:
    """Row-balanced shards of a table's version, cut to the days and partition values asked for.

    most_rows: there are as many more shards as it takes for none to have many more rows than these.
    Raises MissingTableError where the version is not there, UnsupportedTableError where its files
    cannot be read outside Spark (deletion vectors, column mapping).
    """
    files = _files(path, version, days, where or {})
    with ThreadPoolExecutor(8) as pool:
        pieces = [piece for found in pool.map(lambda file: _row_groups(*file), files) for piece in found]
    total = sum(piece.rows for piece in pieces)
    shards = shards if most_rows is None else max(shards, -(-total // most_rows))
    dealt: list[list[Piece]] = [[] for _ in range(shards)]
    before = 0
    for piece in pieces:
        middle = before + piece.rows / 2
        dealt[min(int(middle * shards / total), shards - 1)].append(piece)
        before += piece.rows
    return tuple(Shard(tuple(own)) for own in dealt)


def read(
    shard: Shard, *, columns: Sequence[str], stretch: Stretch | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The shard's rows as batches with exactly these columns, in order; `stretch` cuts by event time.

    A column that an older file lacks is null there. Raises MissingColumnsError where no file has it.
    """
    lacking = set(columns)
    for number, piece in enumerate(shard.pieces, start=1):
        for batch, present in _piece(piece, columns, stretch, batch_rows):
            lacking -= present
            if number == len(shard.pieces):
                _require_none(lacking, piece)
            if batch.num_rows:
                yield batch
    if shard.pieces:  # (whose last one may have had no batch)
        _require_none(lacking, shard.pieces[-1])


def _require_none(lacking: set[str], piece: Piece) -> None:
    if lacking:
        raise MissingColumnsError(f"{piece.path}: missing columns {sorted(lacking)}")


def rows_within(piece: Piece, stretch: Stretch) -> int:
    """How many of a row group's rows lie in a stretch of time: as its statistics say, or else by its times."""
    with _opened(piece.path) as source:
        group = pq.read_metadata(source).row_group(piece.row_group)
    columns = [group.column(place) for place in range(group.num_columns)]
    told = next((one.statistics for one in columns if one.path_in_schema == "event_time"), None)
    if told is not None and told.has_min_max and not told.null_count:
        first, last = (moment.replace(tzinfo=None) for moment in (told.min, told.max))
        if first >= stretch.start and last < stretch.end:
            return piece.rows
        if last < stretch.start or first >= stretch.end:
            return 0
    return sum(batch.num_rows for batch in read(Shard((piece,)), columns=("event_time",), stretch=stretch))


def shard_rows(
    numbers: Iterator[pa.RecordBatch], *, shards: Sequence[Shard], schema: pa.Schema, stretch: Stretch | None
) -> Iterator[pa.RecordBatch]:
    """The rows of the shards whose numbers come in (one column): how a task of Spark's says which it reads.

    schema: of the table, see `schema`; a column that a file lacks is null there.
    """
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            for piece in shards[number].pieces:
                for rows, _ in _piece(piece, schema.names, stretch, BATCH_ROWS):
                    if rows.num_rows:
                        yield rows if rows.schema.equals(schema) else rows.cast(schema)


def schema(path: str, version: int, columns: Sequence[str] | None) -> pa.Schema:
    """Types of a table's columns (all, unless they are named). Raises MissingTableError, MissingColumnsError."""
    whole = pa.schema(_open(path, version).schema().to_arrow())
    lacking = [name for name in columns or () if name not in whole.names]
    if lacking:
        raise MissingColumnsError(f"{path}: missing columns {', '.join(lacking)}; found {', '.join(whole.names)}")
    return pa.schema([pa.field(name, _plain(whole.field(name).type)) for name in columns or whole.names])


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that Parquet files of ours are read as: none of the views and large types of Delta's library."""
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return kind


def _piece(
    piece: Piece, columns: Sequence[str], stretch: Stretch | None, batch_rows: int
) -> Iterator[tuple[pa.RecordBatch, set[str]]]:
    with _opened(piece.path) as source:
        file = pq.ParquetFile(source, pre_buffer=True)
        names = set(file.schema_arrow.names)
        wanted = [column for column in columns if column in names]
        partition = dict(piece.partition)
        extra = ["event_time"] if stretch is not None and "event_time" not in wanted else []
        present = set(wanted) | (set(columns) & set(partition))
        for batch in file.iter_batches(batch_rows, [piece.row_group], [*wanted, *extra], use_threads=False):
            yield _columns(batch if stretch is None else _within(batch, stretch), columns, partition), present


def _within(batch: pa.RecordBatch, stretch: Stretch) -> pa.RecordBatch:
    time = batch.column("event_time").cast(pa.timestamp("us"))
    start, end = (pa.scalar(edge, pa.timestamp("us")) for edge in stretch)
    inside = pc.and_(pc.greater_equal(time, start), pc.less(time, end))
    return batch if inside.true_count == len(inside) else batch.filter(inside)


def _columns(batch: pa.RecordBatch, columns: Sequence[str], partition: Mapping[str, Any]) -> pa.RecordBatch:
    arrays = []
    for column in columns:
        if column in partition:
            arrays.append(pa.repeat(pa.scalar(partition[column]), batch.num_rows))
        elif column in batch.schema.names:
            arrays.append(batch.column(column))
        else:
            arrays.append(pa.nulls(batch.num_rows))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _files(
    path: str, version: int, days: Sequence[date] | None, where: Mapping[str, str]
) -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Path and partition values of each file, by path, so that shards do not hang on the log's order."""
    table = _open(path, version)
    _refuse_unsupported(path, table)
    wanted = None if days is None else set(days)
    found = []
    for row in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        values = {key.removeprefix("partition."): row[key] for key in row if key.startswith("partition.")}
        fits = wanted is None or values["ds"] in wanted
        if fits and all(values[column] == value for column, value in where.items()):
            file = row["path"] if "://" in row["path"] else f"{path.rstrip('/')}/{unquote(row['path'])}"
            found.append((file, tuple(sorted(values.items()))))
    return sorted(found)


def _open(path: str, version: int) -> DeltaTable:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(path, version=version)
    except TableNotFoundError:
        raise MissingTableError(f"{path}: there is no such Delta table") from None
    except DeltaError as error:
        raise MissingTableError(f"{path}: version {version} cannot be read: {error}") from None


def _refuse_unsupported(path: str, table: DeltaTable) -> None:
    features = set(table.protocol().reader_features or ())
    configuration = table.metadata().configuration
    if "deletionVectors" in features and pa.table(table.deletion_vectors()).num_rows:
        raise UnsupportedTableError(
            f"{path}: has deletion vectors, which files cannot be read with outside Spark; "
            "rewrite the table (REORG TABLE … APPLY (PURGE)), or read it through Spark"
        )
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        raise UnsupportedTableError(f"{path}: uses column mapping, which only Spark reads here")


def _row_groups(path: str, partition: tuple[tuple[str, Any], ...]) -> list[Piece]:
    with _opened(path) as source:
        metadata = pq.read_metadata(source)
    return [
        Piece(path, group, metadata.row_group(group).num_rows, partition)
        for group in range(metadata.num_row_groups)
    ]


def _opened(path: str) -> pa.NativeFile:
    """Raises MissingTableError where the file is gone."""
    filesystem, inside = _filesystem(path)
    try:
        return filesystem.open_input_file(inside)
    except FileNotFoundError:
        raise MissingTableError(
            f"{path}: the table's version names this file, and it is gone: vacuumed, or removed by hand. Use a "
            "later version, or make these days again"
        ) from None


def _filesystem(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    if "://" in path:
        # Spark's name for S3 is that of its connector.
        return pyarrow.fs.FileSystem.from_uri(re.sub("^s3a://", "s3://", path))  # type: ignore[no-any-return]
    return pyarrow.fs.LocalFileSystem(), path
