"""Blocks of lines (CSV, TSV, JSON lines) → columns of text, and the lines that are not rows. No Spark.

- CSV is RFC 4180 with a comma, `"` and `""`; a quoted line break is not supported: each line is a row.
- TSV has tabs and no quoting: a `"` is part of the value.
- JSON lines: an object a line; numbers keep their spelling, true and false are words.
- Lines end with \\n or \\r\\n. An empty value is null. An empty line is a line that does not fit.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

SEPARATOR = "\x1f"
DELIMITERS = {"csv": ",", "tsv": "\t"}
TEXT_BYTES = 4096
"""How much of a rejected line is kept."""
BOM = b"\xef\xbb\xbf"

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextForm:
    """How lines are read: `columns` are the fields in order (None for JSON lines), `wanted` those returned."""

    format: str
    columns: tuple[str, ...] | None
    wanted: tuple[str, ...]
    max_line_bytes: int = 65536
    with_fields: bool = False
    """Whether all fields are returned too, for hashing rows."""


class Lines(NamedTuple):
    """Where the lines of a block start and end (\\r and \\n left out)."""

    data: bytes
    start: Places
    end: Places

    def text(self, place: int) -> str:
        """The first 4 kB of a line, for people: bytes that are not UTF-8 become U+FFFD."""
        start, end = int(self.start[place]), int(self.end[place])
        return self.data[start : min(end, start + TEXT_BYTES)].decode("utf-8", "replace")


class Parsed(NamedTuple):
    """The rows of a block (m of its n lines), and why the other lines are none."""

    columns: dict[str, pa.Array]
    """Name to string array (m,), empty values null."""
    fields: tuple[pa.Array, ...]
    """Every field in order, string arrays (m,); empty unless asked for."""
    place: Places
    """(m,) line of each row within the block, from 0."""
    refused: tuple[tuple[int, str], ...]
    """(line within the block, reason), rising."""
    lines: Lines
    seen: frozenset[str]
    """Which of `wanted` the lines have: all but for JSON lines, where each line names its own."""


def find_lines(data: bytes) -> Lines:
    """The lines of a block that ends with a newline."""
    raw = np.frombuffer(data, np.uint8)
    newline = np.flatnonzero(raw == 10)
    start = np.concatenate(([0], newline[:-1] + 1)) if len(newline) else newline
    returns = (newline > start) & (raw[newline - 1] == 13)
    return Lines(data, start.astype(np.int64), newline - returns)


def parse(data: bytes, form: TextForm) -> Parsed:
    """The columns of a block of whole lines. Its last line must end with a newline."""
    lines = find_lines(data)
    reasons: dict[int, str] = {}
    for place in np.flatnonzero(lines.end - lines.start > form.max_line_bytes):
        reasons[int(place)] = "line_too_long"
    _refuse_invalid_utf8(lines, reasons)
    if form.format == "jsonl":
        return _parse_json(lines, form, reasons)
    return _parse_delimited(lines, form, reasons)


def header_names(line: bytes, format: str) -> tuple[str, ...]:
    """The names that a header line gives, a byte order mark left out."""
    text = line.removeprefix(BOM).decode("utf-8", "replace")
    return tuple(next(csv.reader([text]), [])) if format == "csv" else tuple(text.split("\t"))


def _refuse_invalid_utf8(lines: Lines, reasons: dict[int, str]) -> None:
    try:
        lines.data.decode("utf-8")
        return
    except UnicodeDecodeError:
        pass
    raw = np.frombuffer(lines.data, np.uint8)
    suspects = np.unique(np.searchsorted(lines.end, np.flatnonzero(raw >= 128), side="left"))
    for place in suspects:
        try:
            lines.data[lines.start[place] : lines.end[place]].decode("utf-8")
        except UnicodeDecodeError:
            reasons.setdefault(int(place), "invalid_utf8")


# --- CSV and TSV ------------------------------------------------------------------------------


def _parse_delimited(lines: Lines, form: TextForm, reasons: dict[int, str]) -> Parsed:
    assert form.columns is not None
    count = len(lines.start)
    raw = np.frombuffer(lines.data, np.uint8)
    for place in _lines_with_inner_return(raw, lines):
        reasons.setdefault(int(place), "stray_carriage_return")
    delimiter = DELIMITERS[form.format]
    found = np.searchsorted(np.flatnonzero(raw == ord(delimiter)), lines.start)
    total = np.count_nonzero(raw == ord(delimiter))
    fields = np.diff(found, append=total) + 1
    if form.format == "csv" and b'"' in lines.data:
        for place in np.unique(np.searchsorted(lines.end, np.flatnonzero(raw == ord('"')))):
            fields[place] = _quoted_fields(lines, int(place))
    for place in np.flatnonzero(fields < 0):
        reasons.setdefault(int(place), "bad_quoting")
    empty = lines.start == lines.end
    for place in np.flatnonzero((fields != len(form.columns)) | empty):
        reasons.setdefault(int(place), "wrong_number_of_fields")
    table = _read_delimited(_good(lines, reasons), form, count - len(reasons))
    names = dict(zip(form.columns, range(len(form.columns)), strict=True))
    columns = {name: table[f"f{names[name]}"] for name in form.wanted}
    every = tuple(table[f"f{n}"] for n in range(len(form.columns))) if form.with_fields else ()
    refused = tuple(sorted(reasons.items()))
    return Parsed(columns, every, _places(count, reasons), refused, lines, frozenset(form.wanted))


def _lines_with_inner_return(raw: npt.NDArray[np.uint8], lines: Lines) -> Places:
    """Lines with a \\r that does not belong to their end: Arrow would break them in two."""
    at = np.flatnonzero(raw == 13)
    place = np.searchsorted(lines.end, at, side="left")
    inside = np.minimum(place, len(lines.end) - 1)
    return np.unique(place[(place < len(lines.end)) & (at < lines.end[inside]) & (at >= lines.start[inside])])


def _quoted_fields(lines: Lines, place: int) -> int:
    """Number of fields of a line with quotes; -1 where the quoting is broken."""
    text = lines.data[lines.start[place] : lines.end[place]].decode("utf-8", "replace")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # how long a line may be is told otherwise
    try:
        return len(next(csv.reader([text], strict=True), []))
    except csv.Error:
        return -1


def _good(lines: Lines, reasons: dict[int, str]) -> bytes:
    if not reasons:
        return lines.data
    good = [p for p in range(len(lines.start)) if p not in reasons]
    return b"".join(lines.data[lines.start[p] : lines.end[p]] + b"\n" for p in good)


def _read_delimited(data: bytes, form: TextForm, rows: int) -> dict[str, pa.Array]:
    assert form.columns is not None
    names = [f"f{n}" for n in range(len(form.columns))]
    wanted = set(form.wanted)
    include = [f for f, name in zip(names, form.columns, strict=True) if form.with_fields or name in wanted]
    if not rows:
        return {name: pa.array([], pa.string()) for name in include}
    if data.startswith(BOM):
        data = BOM + data  # Arrow takes away one at the start of a block, where it is part of a value
    table = arrow_csv.read_csv(
        pa.py_buffer(data),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        parse_options=arrow_csv.ParseOptions(
            delimiter=DELIMITERS[form.format],
            quote_char='"' if form.format == "csv" else False,
            ignore_empty_lines=False,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=include,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    if table.num_rows != rows:
        raise AssertionError(f"{rows} lines were read as {table.num_rows} rows")
    return {name: table.column(name).combine_chunks() for name in include}


def _places(count: int, reasons: dict[int, str]) -> Places:
    good = np.ones(count, bool)
    good[list(reasons)] = False
    return np.flatnonzero(good)


# --- JSON lines -------------------------------------------------------------------------------


def _parse_json(lines: Lines, form: TextForm, reasons: dict[int, str]) -> Parsed:
    count = len(lines.start)
    rows: list[dict[str, str | None]] = []
    for place in range(count):
        if place in reasons:
            continue
        row = _json_row(lines.data[lines.start[place] : lines.end[place]])
        if row is None:
            reasons[place] = "bad_json"
        else:
            rows.append(row)
    columns = {name: pa.array([row.get(name) or None for row in rows], pa.string()) for name in form.wanted}
    joined = [SEPARATOR.join(value or "" for value in row.values()) for row in rows] if form.with_fields else []
    fields = (pa.array(joined, pa.string()),) if form.with_fields else ()
    seen = frozenset(name for name in form.wanted if any(name in row for row in rows))
    return Parsed(columns, fields, _places(count, reasons), tuple(sorted(reasons.items())), lines, seen)


def _json_row(line: bytes) -> dict[str, str | None] | None:
    """The object's values as text; None where the line is not an object."""
    try:
        value = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    row = {key: _json_text(item) for key, item in value.items()}
    return None if any(_has_surrogate(text) for text in row.values()) else row


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _has_surrogate(text: str | None) -> bool:
    """Half of a UTF-16 pair, escaped in JSON, is no character: it cannot be written as UTF-8."""
    try:
        (text or "").encode()
        return False
    except UnicodeEncodeError:
        return True
