"""Rows by which ranks tell the driver what they made or what went wrong. No Spark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from clickmill import errors
from clickmill.errors import InputError, RankError

SCHEMA = pa.schema([("rank", pa.int32()), ("kind", pa.string()), ("value", pa.string()), ("data", pa.binary())])
DDL = "rank int, kind string, value string, data binary"
ERROR, BROKEN = "error", "broken ring"


class Row(NamedTuple):
    rank: int
    kind: str
    value: Any
    data: bytes | None


def report(rank: int, kind: str, *, value: Any = None, data: bytes | None = None) -> pa.RecordBatch:
    """One row; `value` is anything that JSON holds."""
    row = {"rank": rank, "kind": kind, "value": json.dumps(value), "data": data}
    return pa.RecordBatch.from_pylist([row], schema=SCHEMA)


def failed(rank: int, error: BaseException, *, broken: bool) -> pa.RecordBatch:
    """That a rank ended with an error just now: its own, or (`broken`) that a neighbour left the ring."""
    text = str(error).strip() or type(error).__name__
    value = {"name": type(error).__name__, "text": text, "at": time.time()}
    return report(rank, BROKEN if broken else ERROR, value=value)


def checked(rows: Iterable[Row]) -> list[Row]:
    """The rows, unless one tells of an error: then the first that a rank made itself is raised.

    A broken ring is somebody else's error, and is raised only where nobody has one of their own, however early
    it was noticed. First is by the hosts' clocks; errors of the same moment go by rank. An InputError of ours
    comes back as itself (a retry cannot help), anything else as RankError.
    """
    found = list(rows)
    for kind in (ERROR, BROKEN):
        told = sorted((row for row in found if row.kind == kind), key=lambda row: (row.value["at"], row.rank))
        if told:
            raise _error(told[0])
    return found


def _error(row: Row) -> Exception:
    name, text = row.value["name"], row.value["text"]
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, InputError):
        return kind(text)
    return RankError(f"rank {row.rank} failed: {name}: {text}")
