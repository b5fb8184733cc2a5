"""The one door to storage: Delta tables by name, read at pinned versions and written whole partitions at a time.

A write replaces exactly the partitions that it names (`replaceWhere`), so that running a job again
gives the same rows and never doubles them; a table is created with its constraints before its first
write; rows that do not fit are refused with a SchemaError of ours, inside the same pass.
"""

from __future__ import annotations

import gc
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias, cast

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type, to_arrow_schema
from pyspark.sql.types import DataType, NullType

from clickmill import local_delta, names, reader, session, writer
from clickmill.errors import ConflictError, MissingTableError, SchemaError, UnsupportedTableError
from clickmill.reader import Shard
from clickmill.schema import TABLES, Table
from clickmill.split import Stretch
from clickmill.writer import REFUSAL, Make

Key = date | str
Partitions = Mapping[str, Key | Sequence[Key]]

TASK_ROWS = 2_000_000
"""What a task of a scan reads, about: what it hands on is held by Spark as a whole."""
SPARK_ERRORS = (PySparkException, Py4JJavaError)
"""What a failed write raises: some of Delta's conflicts come without a class of Spark's."""
_CONFLICT = re.compile(r"DELTA_CONCURRENT_|DELTA_PROTOCOL_CHANGED|DELTA_METADATA_CHANGED|MetadataChangedException")
_OUTSIDE = re.compile(r"DELTA_REPLACE_WHERE_MISMATCH")
_REFUSED = re.compile(rf"{REFUSAL}([^\n]*?)(?: SQLSTATE|$)", re.MULTILINE)
_SCHEMA_MOVED = re.compile(
    r"DELTA_PROTOCOL_CHANGED|DELTA_METADATA_CHANGED|MetadataChangedException|ProtocolChangedException"
    r"|ALREADY_EXISTS|NON_EMPTY_LOCATION"
)


class Written(NamedTuple):
    """The table's version that a write made, and how many rows it wrote."""

    version: int
    rows: int


class ByWorkers(NamedTuple):
    """Rows that workers make: those of `make`, a top-level function, over the Arrow batches of `frame`."""

    frame: DataFrame
    make: Make
    schema: pa.Schema

    def rows(self) -> DataFrame:
        """The same rows as a frame of Spark's."""
        return self.frame.mapInArrow(self.make, from_arrow_schema(self.schema))


class Scan(NamedTuple):
    """Rows as the functions of workers take them: those of `read` over the Arrow batches of `frame`."""

    frame: DataFrame
    read: Make
    schema: pa.Schema
    parts: int | None = None
    """Partitions of `frame`; None: not known."""
    most: int | None = None
    """No more rows than these; None: not known."""

    @classmethod
    def of(cls, rows: DataFrame) -> Scan:
        """The rows of a frame of Spark's."""
        return cls(rows, writer.as_they_are, to_arrow_schema(rows.schema, timezone="UTC"))

    def through(self, make: Make, schema: pa.Schema) -> ByWorkers:
        """What `make`, a top-level function, makes of them."""
        return ByWorkers(self.frame, partial(_through, read=self.read, make=make), schema)


def _through(batches: Iterator[pa.RecordBatch], *, read: Make, make: Make) -> Iterator[pa.RecordBatch]:
    yield from make(read(batches))
    _settle()


@cache
def _settle() -> None:
    """Spark's worker looks for garbage after every task, a tenth of a second with our modules: they are none."""
    gc.collect()
    gc.freeze()


Rows: TypeAlias = DataFrame | pa.Table | list[dict[str, Any]]


class Tables:
    """The tables of one warehouse as one run sees them: every table at the version of its first use."""

    def __init__(self, spark: SparkSession, warehouse: str, *, run_id: str, dry_run: bool = False) -> None:
        self.spark = spark
        self.dry_run = dry_run
        self.warehouse = warehouse.rstrip("/")
        self.run_id = run_id
        self.versions_in: dict[str, int] = {}
        self.versions_out: dict[str, int] = {}
        self._pins: dict[str, int] = {}
        self._is_catalog = names.is_schema(warehouse)
        # On a cluster the workers' disks are not this machine's, and a shared one need not have locks.
        self.is_local = session.is_local(spark) and not self._is_catalog and "://" not in warehouse

    @classmethod
    def without_spark(cls, folder: str, *, run_id: str = "", dry_run: bool = False) -> Tables:
        """A warehouse on this machine's disk, for questions and rows that the driver holds: no Spark is needed."""
        nowhere = SimpleNamespace(conf={"spark.master": "local"})
        return cls(cast(SparkSession, nowhere), folder, run_id=run_id, dry_run=dry_run)

    # --- where and which -----------------------------------------------------------------

    def path(self, name: str) -> str:
        """Folder (or, in a catalogue, the full name) of a table."""
        if name not in TABLES:
            raise MissingTableError(f"there is no table called {name!r}; there are {', '.join(sorted(TABLES))}")
        return f"{self.warehouse}.{name}" if self._is_catalog else f"{self.warehouse}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the table has been created."""
        if self._is_catalog:
            return bool(self.spark.catalog.tableExists(self._target(name)))
        try:
            self.newest(name)
        except MissingTableError:
            return False
        return True

    def newest(self, name: str) -> int:
        """The table's newest version, whatever this run has pinned. Raises MissingTableError."""
        if self.is_local:
            return local_delta.newest(self.path(name))
        return int(self._history(name, 1)[0]["version"])

    def version(self, name: str) -> int:
        """The version that this run reads, fixed at the first call. Raises MissingTableError."""
        if name not in self._pins:
            self._pins[name] = self.newest(name)
        return self._pins[name]

    def days(self, name: str) -> tuple[date, ...]:
        """The days that the table has rows for, in order; none where the table is not there."""
        if not self.exists(name):
            return ()
        if self.is_local:
            found = local_delta.values(self.path(name), self.version(name), "ds")
            return tuple(sorted(date.fromisoformat(day) for day in found))
        rows = self.read(name).select("ds").distinct().collect()
        return tuple(sorted(row.ds for row in rows))

    # --- reading -------------------------------------------------------------------------

    def read(
        self,
        name: str,
        *,
        days: Sequence[date] | None = None,
        stretch: Stretch | None = None,
        where: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> DataFrame:
        """The table's rows at the pinned (or the given) version.

        `days` and `stretch` cut by `ds` and `event_time`, `where` by equality (`{"sample_id": …}`).
        Raises MissingTableError.
        """
        at = self.version(name) if version is None else version
        self.versions_in.setdefault(name, at)
        reader = self.spark.read.format("delta").option("versionAsOf", at)
        try:
            frame = reader.table(self._target(name)) if self._is_catalog else reader.load(self.path(name))
            frame.schema  # noqa: B018  (a version that is gone is found here)
        except PySparkException as error:
            raise MissingTableError(
                f"{self.path(name)}: version {at} cannot be read: {first_line(error)}"
            ) from None
        if stretch is not None:
            days = stretch.days if days is None else [day for day in days if day in stretch.days]
        if days is not None:
            frame = frame.where(F.col("ds").isin(list(days)))
        if stretch is not None:
            start, end = (F.lit(time.replace(tzinfo=UTC)) for time in stretch)
            frame = frame.where((F.col("event_time") >= start) & (F.col("event_time") < end))
        for column, value in (where or {}).items():
            frame = frame.where(F.col(column) == value)
        return frame

    def scan(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        *,
        days: Sequence[date] | None = None,
        stretch: Stretch | None = None,
        where: Mapping[str, str] | None = None,
    ) -> Scan:
        """Columns (all, unless they are named) of the pinned version's rows, cut as `read` cuts them, for workers.

        Workers read the files themselves, past the JVM; Spark reads them only where it alone can (a catalogue's
        tables, deletion vectors). Raises MissingTableError, MissingColumnsError.
        """
        try:
            at = days if days is not None or stretch is None else stretch.days
            tasks = session.tasks(self.spark)
            shards = self.shards(name, days=at, where=where, number=tasks, most_rows=TASK_ROWS)
        except UnsupportedTableError:
            rows = self.read(name, days=days, stretch=stretch, where=where)
            return Scan.of(rows if columns is None else rows.select(*columns))
        schema = reader.schema(self.path(name), self.version(name), columns)
        read = partial(reader.shard_rows, shards=shards, schema=schema, stretch=stretch)
        numbers = self.spark.range(0, len(shards), 1, len(shards))
        return Scan(numbers, read, schema, len(shards), most=sum(shard.rows for shard in shards))

    def columns(self, name: str) -> tuple[str, ...]:
        """The columns of the pinned version. Raises MissingTableError."""
        if self._is_catalog:
            return tuple(self.read(name).columns)
        return tuple(reader.schema(self.path(name), self.version(name), None).names)

    def shards(
        self,
        name: str,
        *,
        days: Sequence[date] | None,
        where: Mapping[str, str] | None = None,
        number: int,
        most_rows: int | None = None,
    ) -> tuple[Shard, ...]:
        """The pinned version's files, dealt to so many readers, or more (`reader.plan`).

        Raises MissingTableError, UnsupportedTableError where Spark alone can read them.
        """
        if self._is_catalog:
            raise UnsupportedTableError(f"{self.warehouse}: only the catalogue knows where its files lie")
        at = self.version(name)
        self.versions_in.setdefault(name, at)
        path = self.path(name)
        return reader.plan(path, version=at, days=days, where=where, shards=number, most_rows=most_rows)

    def rows(
        self,
        name: str,
        *,
        days: Sequence[date] | None = None,
        where: Mapping[str, Sequence[str]] | None = None,
        columns: Sequence[str] = (),
        version: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of a small table (models, metrics, runs …) on the driver, as `read` pins and cuts them.

        `where` names the values that a column may have. Raises MissingTableError.
        """
        isin: dict[str, Sequence[Any]] = {**({} if days is None else {"ds": days}), **(where or {})}
        if self.is_local:
            at = self.version(name) if version is None else version
            self.versions_in.setdefault(name, at)
            return local_delta.rows(self.path(name), at, isin, columns)
        frame = self.read(name, version=version)
        for column, values in isin.items():
            frame = frame.where(F.col(column).isin(list(values)))
        return [row.asDict() for row in (frame.select(*columns) if columns else frame).collect()]

    def rows_if_any(self, name: str, **cut: Any) -> list[dict[str, Any]]:
        """As `rows`; none where the table is not there."""
        return self.rows(name, **cut) if self.exists(name) else []

    def last_time(self, name: str, day: date, *, column: str = "event_time") -> datetime:
        """The latest event time (naive UTC) that the table has on that day. Raises MissingTableError."""
        if self.is_local:
            at = self.version(name)
            self.versions_in.setdefault(name, at)
            found: datetime | None = local_delta.greatest(self.path(name), at, {"ds": [day]}, column)
            last = None if found is None else found.replace(tzinfo=None)
        else:  # as a number: collect() would turn times to local ones
            latest = F.unix_micros(F.max(column)).alias("last")
            micros = self.read(name, days=[day]).agg(latest).collect()[0]["last"]
            last = None if micros is None else datetime(1970, 1, 1) + timedelta(microseconds=micros)
        if last is None:
            raise MissingTableError(f"{self.path(name)}: there are no rows for {day}; run the jobs that make them")
        return last

    # --- writing -------------------------------------------------------------------------

    def write(self, name: str, rows: Rows | ByWorkers, *, replace: Partitions) -> Written:
        """Writes `rows` as the whole content of the partitions that `replace` names, in one commit.

        Raises SchemaError where rows do not fit the table (nothing is written), ConflictError where another
        writer changed the same partitions meanwhile. On a local disk clickmill's writers take turns: of two
        that replace one partition at once, the rows of the later stand.
        """
        if self.is_local and not self.dry_run and isinstance(rows, DataFrame | ByWorkers):
            return self._write_by_workers(name, rows, replace)
        if isinstance(rows, ByWorkers):
            rows = rows.rows()
        predicate = " AND ".join(_equals(column, value) for column, value in replace.items())
        return self._put(name, rows, predicate)

    def append(self, name: str, rows: Rows, *, number: int | None = None) -> Written:
        """Adds rows to an append-only table (`runs`, `decisions`).

        number: of the writers that append with one number one alone succeeds, and none once a greater one is
        taken; ConflictError for the others.
        """
        return self._put(name, rows, None, number)

    def _put(self, name: str, rows: Rows, predicate: str | None, number: int | None = None) -> Written:
        """Rows that the driver holds go to a local table without Spark, all others through it."""
        table = TABLES[name]
        if isinstance(rows, list):
            unknown = sorted({column for row in rows for column in row if column not in table.columns})
            if unknown:
                raise SchemaError(f"{name}: has no columns {unknown}; it has {list(table.columns)}")
            rows = pa.Table.from_pylist(rows, schema=pa.schema(list(table.columns.items())))
        if isinstance(rows, pa.Table) and self.is_local:
            _check_columns(name, table, {field.name: from_arrow_type(field.type) for field in rows.schema})
            broken = next(filter(None, map(table.broken, rows.to_batches())), None)
            if broken:
                raise SchemaError(f"{self.path(name)}: {broken}; nothing was written")
            if self.dry_run:
                return Written(self._pins.get(name, -1), rows.num_rows)
            self._create(name, table)
            metadata = {"run_id": self.run_id}
            version = local_delta.write(
                self.path(name), rows, predicate=predicate, metadata=metadata, number=number
            )
            written = Written(version, rows.num_rows)
        else:
            frame = self.spark.createDataFrame(rows) if isinstance(rows, pa.Table) else rows
            _check_columns(name, table, {field.name: field.dataType for field in frame.schema})
            checked = _with_rules(table, frame)
            if self.dry_run:
                with _named_errors(self.path(name), predicate or ""):
                    return Written(self._pins.get(name, -1), checked.count())
            self._create(name, table)
            written = self._write_by_spark(name, checked, predicate, number)
        return self._noted(name, written)

    def _noted(self, name: str, written: Written) -> Written:
        self._pins[name] = self.versions_out[name] = written.version
        return written

    def _write_by_workers(self, name: str, rows: DataFrame | ByWorkers, replace: Partitions) -> Written:
        """Workers write the files themselves; the driver commits them."""
        if isinstance(rows, DataFrame):
            rows = ByWorkers(rows, writer.as_they_are, to_arrow_schema(rows.schema, timezone="UTC"))
        table, path = TABLES[name], os.path.abspath(self.path(name))
        _check_columns(name, table, {field.name: from_arrow_type(field.type) for field in rows.schema})
        self._create(name, table)
        write = partial(writer.files, make=rows.make, folder=path, table=table)
        with _named_errors(path, ""):
            files = rows.frame.mapInArrow(write, from_arrow_schema(writer.FILES)).toArrow().to_pylist()
        partitions = {column: [str(value) for value in _listed(values)] for column, values in replace.items()}
        metadata = {"run_id": self.run_id}
        version = local_delta.commit(path, table, files, rows.schema, replace=partitions, metadata=metadata)
        return self._noted(name, Written(version, sum(file["rows"] for file in files)))

    def _write_by_spark(
        self, name: str, frame: DataFrame, predicate: str | None, number: int | None = None
    ) -> Written:
        writer = (
            frame.write.format("delta")
            .mode("append" if predicate is None else "overwrite")
            .option("mergeSchema", "true")
            .option("userMetadata", json.dumps({"run_id": self.run_id}))
        )
        if predicate is not None:
            writer = writer.option("replaceWhere", predicate)
        if number is not None:
            writer = writer.option("txnAppId", local_delta.APPLICATION).option("txnVersion", number)
        with _named_errors(self.path(name), predicate or ""):
            _again_if_the_schema_moved(partial(self._save, writer, name))
        own = self._own_commit(name)
        if own is None and number is not None:  # Delta skips a number that is taken in silence
            raise local_delta.taken(self.path(name), number)
        # Delta makes no commit of a write that neither adds nor removes rows (it raises where one failed).
        return own or Written(self.newest(name), 0)

    def _save(self, writer: DataFrameWriter, name: str) -> None:
        if self._is_catalog:
            writer.saveAsTable(self._target(name))
        else:
            writer.save(self.path(name))

    def _create(self, name: str, table: Table) -> None:
        if self.exists(name):
            return
        if self.is_local:
            local_delta.create(self.path(name), table)
            return
        columns = ", ".join(
            f"`{column}` {from_arrow_type(kind).simpleString()}{' NOT NULL' if column in table.required else ''}"
            for column, kind in table.columns.items()
        )
        parts = f" PARTITIONED BY ({', '.join(table.partition_by)})" if table.partition_by else ""
        listed = ", ".join(f"'{key}' = '{_escaped(value)}'" for key, value in table.properties.items())
        made = f"CREATE TABLE IF NOT EXISTS {self._target(name)} ({columns}) USING delta"
        _again_if_the_schema_moved(lambda: self.spark.sql(f"{made}{parts} TBLPROPERTIES ({listed})"))

    # --- the log -------------------------------------------------------------------------

    def _own_commit(self, name: str) -> Written | None:
        for entry in self._history(name, 50):
            metadata = entry.get("userMetadata") or ""
            if self.run_id in metadata:
                metrics = entry.get("operationMetrics") or {}
                return Written(int(entry["version"]), int(metrics.get("numOutputRows", 0)))
        return None

    def _history(self, name: str, limit: int) -> list[dict[str, Any]]:
        statement = f"DESCRIBE HISTORY {self._target(name)} LIMIT {limit}"
        try:
            return [row.asDict() for row in self.spark.sql(statement).collect()]
        except PySparkException:
            raise MissingTableError(f"{self.path(name)}: there is no such Delta table") from None

    def _target(self, name: str) -> str:
        """The table's name in a statement."""
        path = self.path(name)
        return names.quoted(path) if self._is_catalog else f"delta.`{path.replace('`', '``')}`"


def _check_columns(name: str, table: Table, found: Mapping[str, DataType]) -> None:
    """Raises SchemaError unless these are columns of the table, of its types, and the required ones are there."""
    missing = [column for column in table.required if column not in found]
    if missing:
        raise SchemaError(f"{name}: missing columns {missing}; found {list(found)}")
    unknown = [column for column in found if not table.takes(column)]
    if unknown:
        raise SchemaError(f"{name}: has no columns {unknown}; it has {list(table.columns)} and {table.extra}")
    for column, kind in table.columns.items():
        expected = from_arrow_type(kind)
        if column in found and found[column] not in (expected, NullType()):
            raise SchemaError(
                f"{name}.{column}: expected {expected.simpleString()}, found {found[column].simpleString()}"
            )


def _with_rules(table: Table, frame: DataFrame) -> DataFrame:
    """Evaluates the rules in the write's own pass, because Delta's own refusal has no name of ours."""
    rules = [(f"{column} is null", F.col(column).isNull()) for column in table.required]
    rules += [
        (f"a row breaks {key} ({rule.sql})", ~F.coalesce(F.expr(rule.sql), F.lit(False)))
        for key, rule in table.checks.items()
    ]
    carrier = next((column for column in table.required if column not in table.partition_by), None)
    if carrier is None:  # partition columns alone: Delta itself refuses a null or foreign one
        return frame
    refusal: Column = F.col(carrier)
    for message, broken in reversed(rules):
        refusal = F.when(broken, F.raise_error(F.lit(f"{REFUSAL}{message}"))).otherwise(refusal)
    return frame.select(*(refusal.alias(c) if c == carrier else F.col(f"`{c}`") for c in frame.columns))


def _again_if_the_schema_moved(write: Callable[[], object]) -> None:
    """Two writers of different days may both create the table or both add a column: the later one tries again."""
    for attempt in range(5):
        try:
            write()
            return
        except SPARK_ERRORS as error:
            if attempt == 4 or not _SCHEMA_MOVED.search(str(error)):
                raise
            time.sleep(0.5 * (attempt + 1))


@contextmanager
def _named_errors(path: str, predicate: str) -> Iterator[None]:
    try:
        yield
    except SPARK_ERRORS as error:
        text = str(error)
        refused = _REFUSED.search(text)
        if refused:
            raise SchemaError(f"{path}: {refused[1]}; nothing was written") from None
        if _OUTSIDE.search(text):
            raise SchemaError(f"{path}: rows outside {predicate}; nothing was written") from None
        if _CONFLICT.search(text):
            raise ConflictError(f"{path}: another writer changed {predicate} first; run the job again") from None
        raise


def _equals(column: str, value: Key | Sequence[Key]) -> str:
    if isinstance(value, date | str):
        return f"{column} = {_literal(value)}"
    return f"{column} IN ({', '.join(_literal(item) for item in value)})"


def _listed(value: Key | Sequence[Key]) -> Sequence[Key]:
    return [value] if isinstance(value, date | str) else value


def _literal(value: Key) -> str:
    return f"DATE'{value.isoformat()}'" if isinstance(value, date) else f"'{_escaped(value)}'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def first_line(error: Exception) -> str:
    """What Spark says, in a line; py4j's own first line only says that Java raised something."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    return more[0].removeprefix(": ") if more and first.startswith("An error occurred while calling") else first
