"""Delta tables on this machine's disk through delta-rs: a question or a few rows in 0.05 s, not Spark's 2.

`Tables` sends here all that concerns a warehouse on this machine's disk but the reading of frames: making
a table, its newest version, small reads, rows that the driver holds, and the commit of files that workers
wrote. That rows keep the table's rules is checked before (`Table.broken`), by whoever holds them.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from operator import and_
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from clickmill.errors import ConflictError, DamagedTableError, MissingTableError, SchemaError
from clickmill.schema import Table

APPLICATION = "clickmill"
"""Under this name Delta's log keeps the number of the last numbered append."""


def newest(path: str) -> int:
    """The table's newest version. Raises MissingTableError."""
    return _open(path).version()


def rows(
    path: str, version: int, isin: Mapping[str, Sequence[Any]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows whose columns hold one of the values that `isin` names; all columns where none are named."""
    return list(_cut(path, version, isin, columns).to_pylist())


def values(path: str, version: int, partition: str) -> set[str]:
    """The values of a partition column, as the log writes them."""
    return {row[partition] for row in _open(path, version).partitions()}


def greatest(path: str, version: int, isin: Mapping[str, Sequence[Any]], column: str) -> Any:
    """The greatest value of a column among the rows that `isin` names; None where there are none."""
    return pc.max(_cut(path, version, isin, [column])[column]).as_py()


def _cut(path: str, version: int, isin: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> pa.Table:
    where = [pc.field(name).isin(list(wanted)) if wanted else pc.scalar(False) for name, wanted in isin.items()]
    table = _open(path, version)
    # Through the log's own reader of files Python now and then aborts as it ends.
    folder = fs.SubTreeFileSystem(os.path.abspath(path), fs.LocalFileSystem())
    try:
        return table.to_pyarrow_table(
            columns=list(columns) or None, filters=reduce(and_, where) if where else None, filesystem=folder
        )
    except FileNotFoundError as error:
        raise MissingTableError(f"{path}: files of version {version} are gone, by VACUUM?: {error}") from None


def create(path: str, table: Table) -> None:
    """Makes the empty table with its constraints, unless it is there."""
    columns = pa.schema([pa.field(c, kind, nullable=c not in table.required) for c, kind in table.columns.items()])
    protocol = {"delta.minReaderVersion": "1", "delta.minWriterVersion": "3"}  # 3: constraints are kept
    with _lock(path):
        DeltaTable.create(
            path,
            columns,
            mode="ignore",
            partition_by=list(table.partition_by),
            configuration=protocol | table.properties,
            raise_if_key_not_exists=False,
        )


def commit(
    path: str,
    table: Table,
    files: Sequence[Mapping[str, Any]],
    columns: pa.Schema,
    *,
    replace: Mapping[str, Sequence[str]],
    metadata: dict[str, str],
) -> int:
    """Makes files that workers wrote the whole content of the partitions that `replace` names; the new version.

    files: rows of `writer.FILES`; columns: theirs, with the partition columns. Raises SchemaError where a file
    lies outside `replace` or a column has another type in the table (nothing is committed), ConflictError.
    """
    said = " AND ".join(f"{name} IN ({', '.join(wanted)})" for name, wanted in replace.items())
    now = int(time.time() * 1000)
    adds: list[AddAction | RemoveAction] = []
    for file in files:
        values = json.loads(file["partition"])
        outside = {name: values[name] for name, wanted in replace.items() if values[name] not in wanted}
        if outside:
            raise SchemaError(f"{path}: rows outside {said}: of {outside}; nothing was written")
        statistics = json.dumps({"numRecords": file["rows"]})
        adds.append(AddAction(file["path"], file["bytes"], values, now, True, statistics))
    with _lock(path), _named_conflicts(path, said):
        stored = _open(path)
        stored.create_write_transaction(
            adds,
            mode="overwrite",
            schema=_merged(path, stored.schema(), DeltaSchema.from_arrow(columns)),
            partition_by=list(table.partition_by),
            partition_filters=[(name, "in", list(values)) for name, values in replace.items()],
            commit_properties=_properties(metadata),
        )
        return newest(path)


def _merged(path: str, table: DeltaSchema, added: DeltaSchema) -> DeltaSchema:
    """The table's columns, then the new ones. Raises SchemaError where one has another type there."""
    known = {field.name: field for field in table.fields}
    for field in added.fields:
        there = known.setdefault(field.name, field)
        if there.type != field.type:
            raise SchemaError(
                f"{path}: {field.name} is {there.type} in the table, {field.type} now; nothing was written"
            )
    return DeltaSchema(list(known.values()))


def write(
    path: str, added: pa.Table, *, predicate: str | None, metadata: dict[str, str], number: int | None = None
) -> int:
    """Commits the rows, in place of those that `predicate` (SQL on partition columns) names; the new version.

    Without a predicate the rows are appended. The caller has checked the table's rules. Raises SchemaError
    where rows lie outside the predicate (nothing is written), ConflictError, also where another writer has
    committed this number or a greater one.
    """
    properties = _properties(metadata, number)
    save = partial(write_deltalake, path, added, schema_mode="merge", commit_properties=properties)
    try:
        with _lock(path), _named_conflicts(path, predicate):
            if number is not None and number <= (_open(path).transaction_version(APPLICATION) or 0):
                raise taken(path, number)
            if predicate is None:
                save(mode="append")
            else:
                save(mode="overwrite", predicate=predicate)
            return newest(path)
    except DeltaError as error:
        if predicate is None or "failed validation check" not in str(error):
            raise
        raise SchemaError(f"{path}: rows outside {predicate}; nothing was written") from None


def link(path: str, aside: str, version: int) -> None:
    """Makes `aside` the table as it was at a version: its log up to there, and links to its files, no copies.

    Raises MissingTableError where the version, or a file of it, is gone.
    """
    files = pa.table(_open(path, version).get_add_actions(flatten=True))["path"].to_pylist()
    log = Path(aside, "_delta_log")
    log.mkdir(parents=True)
    for entry in Path(path, "_delta_log").iterdir():
        if entry.name[:20].isdigit() and int(entry.name[:20]) <= version:
            os.link(entry, log / entry.name)
    for file in map(unquote, files):
        place = Path(aside, file)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(Path(path, file), place)
        except FileNotFoundError:
            raise MissingTableError(f"{path}: files of version {version} are gone, by VACUUM?: {file}") from None


def added(path: str, version: int, run_id: str) -> list[dict[str, str]]:
    """The partitions that the commits of a run, up to `version`, added files to; {} where there are none."""
    found: dict[str, dict[str, str]] = {}
    for at in range(version + 1):
        entry = Path(path, "_delta_log", f"{at:020}.json")
        if not entry.is_file():
            continue
        actions: list[dict[str, Any]] = [json.loads(line) for line in entry.read_text("utf-8").splitlines()]
        told: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
        if run_id in (told.get("userMetadata") or ""):
            parts = [action["add"]["partitionValues"] for action in actions if "add" in action]
            found |= {json.dumps(part, sort_keys=True): dict(sorted(part.items())) for part in parts}
    return list(found.values())


def taken(path: str, number: int) -> ConflictError:
    """The error of an append whose number another writer has taken."""
    return ConflictError(f"{path}: another writer was first (number {number} is taken); run the job again")


def _properties(metadata: dict[str, str], number: int | None = None) -> CommitProperties:
    own = [] if number is None else [Transaction(APPLICATION, number)]
    return CommitProperties(custom_metadata={"userMetadata": json.dumps(metadata)}, app_transactions=own)


@contextmanager
def _lock(path: str) -> Iterator[None]:
    """One writer at a time: each commits upon what the last one left, so that none doubles or undoes a partition.

    delta-rs alone makes a table twice and adds two writers' files to one new partition. The lock goes
    with its process.
    """
    Path(path).mkdir(parents=True, exist_ok=True)
    with open(Path(path, "_lock"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _named_conflicts(path: str, partitions: str | None) -> Iterator[None]:
    """A conflict is with another program than ours, which takes no lock."""
    try:
        yield
    except CommitFailedError as error:
        raise ConflictError(f"{path}: another writer changed {partitions} first; run the job again") from error


def _open(path: str, version: int | None = None) -> DeltaTable:
    try:
        return DeltaTable(path, version=version)
    except TableNotFoundError:
        raise MissingTableError(f"{path}: there is no such Delta table") from None
    except DeltaError as error:
        if version is None:
            raise DamagedTableError(f"{path}: its log cannot be read: {error}; restore _delta_log") from None
        raise MissingTableError(f"{path}: version {version} cannot be read: {error}") from None
