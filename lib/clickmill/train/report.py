"""Rows by which ranks tell the driver what they made or what went wrong. No Spark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from clickmill import errors
from clickmill.errors import InputError, NonFiniteLossError, PlatformError, PreflightError, RankError

SCHEMA = pa.schema([("rank", pa.int32()), ("kind", pa.string()), ("value", pa.string()), ("data", pa.binary())])
DDL = "rank int, kind string, value string, data binary"
BROKEN = "broken ring"
_MARK = "clickmill rank failed: "
_FAILED = re.compile(_MARK + r"(\{.*\})")


OWN = InputError | PlatformError | NonFiniteLossError | PreflightError
"""What a rank raises that says all there is to say."""


class Row(NamedTuple):
    rank: int
    kind: str
    value: Any
    data: bytes | None


def report(rank: int, kind: str, *, value: Any = None, data: bytes | None = None) -> pa.RecordBatch:
    """One row; `value` is anything that JSON holds."""
    row = {"rank": rank, "kind": kind, "value": json.dumps(value), "data": data}
    return pa.RecordBatch.from_pylist([row], schema=SCHEMA)


PIECE_BYTES = 4 * 2**20


def pieces(rank: int, kind: str, content: bytes) -> Iterator[pa.RecordBatch]:
    """Bytes as rows of one kind, none of them large."""
    for start in range(0, len(content), PIECE_BYTES):
        yield report(rank, kind, data=content[start : start + PIECE_BYTES])


def collected(rows: Iterable[Row]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The figures that rows of one rank tell, and the bytes of each kind put together."""
    figures: dict[str, Any] = {}
    found: dict[str, bytearray] = {}
    for row in rows:
        if row.kind == "figures":
            figures = dict(row.value)
        elif row.data is not None:
            found.setdefault(row.kind, bytearray()).extend(row.data)
    return figures, {kind: bytes(content) for kind, content in found.items()}


class RankFailedError(Exception):
    """A rank's own error, as what its task fails with: the stage ends at once, whatever the others are doing."""

    @classmethod
    def of(cls, rank: int, error: BaseException) -> RankFailedError:
        """In a form that `raised_in` finds again in what Spark says of the task."""
        return cls(_MARK + json.dumps(said_of(rank, error)))


def raised_in(text: str) -> Exception | None:
    """The error of the rank whose task failed, from Spark's account of it; None where it tells of none.

    An error of ours that says all comes back as itself, anything else as RankError.
    """
    found = _FAILED.search(text)
    return error_of(json.loads(found[1])) if found else None


def broken(rank: int, error: BaseException) -> pa.RecordBatch:
    """That a neighbour left the ring: it has the error that matters, or was killed."""
    return report(rank, BROKEN, value=said_of(rank, error))


def checked(rows: Iterable[Row]) -> list[Row]:
    """The rows, unless the ring broke and no rank failed: then RankError is raised, by the first rank's words."""
    found = list(rows)
    told = [row for row in found if row.kind == BROKEN]
    if told:
        raise error_of(told[0].value)
    return found


def said_of(rank: int, error: BaseException) -> dict[str, Any]:
    """What a rank says of an error."""
    return {"rank": rank, "name": type(error).__name__, "text": str(error).strip() or type(error).__name__}


def error_of(said: Mapping[str, Any]) -> Exception:
    """The error that a rank tells of: one of ours that says all that there is to say as itself, or RankError."""
    kind = getattr(errors, said["name"], None)
    if isinstance(kind, type) and issubclass(kind, OWN):
        return kind(said["text"])
    return RankError(f"rank {said['rank']} failed: {said['name']}: {said['text']}")
