"""A stream of lines of the raw log's form → columns of text, block by block, in order. No Spark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from clickmill.dataset import Dataset
from clickmill.errors import MissingColumnsError, NoRowsError, UsageError
from clickmill.ingest import parse, splits
from clickmill.ingest.judge import wanted

FORMATS = ("tsv", "csv", "jsonl")
CHUNK = 2**22
"""Bytes that are parsed at a time: fewer, and a column's own overhead outweighs its rows."""


@dataclass(frozen=True)
class Form:
    """How the lines are to be read."""

    format: str
    header: bool
    columns: tuple[str, ...] | None
    """Without header: the fields in order, the label among them."""
    label: str
    known: frozenset[str]
    """Every column that the data set names."""
    needed: tuple[str, ...]
    """Columns that must be there."""
    optional: tuple[str, ...]
    """Columns that are returned if they are there."""
    max_line_bytes: int
    ignore_extra: bool = False


class Block(NamedTuple):
    """Lines of the stream: n of them, m of which are rows."""

    lines: int
    columns: dict[str, pa.Array]
    """(m,) each."""
    place: parse.Places
    """(m,) line of each row within the block, from 0."""
    refused: tuple[tuple[int, str], ...]
    """(line within the block, reason)."""
    first_line: int
    """Number in the stream of the block's first line, from 1."""


def form_of(
    dataset: Dataset, needed: tuple[str, ...], *, format: str | None = None, ignore_extra: bool = False
) -> Form:
    """The form of a data set's rows on a stream; a data set of Parquet or Delta is read as TSV with a header.

    Raises UsageError for a format that is not one of lines.
    """
    source = dataset.source
    chosen = format or (source.format if source.format in FORMATS else "tsv")
    if chosen not in FORMATS:
        raise UsageError(f"format {chosen!r}: allowed are {', '.join(FORMATS)}")
    return Form(
        format=chosen,
        header=chosen != "jsonl" and source.columns is None,
        columns=None if chosen == "jsonl" else source.columns,
        label=dataset.label,
        known=frozenset(wanted(dataset)) | frozenset(source.columns or ()),
        needed=needed,
        optional=(dataset.event_id,) if dataset.event_id is not None else (),
        max_line_bytes=source.max_line_bytes,
        ignore_extra=ignore_extra,
    )


def read(stream: BinaryIO, form: Form, *, name: str = "standard input", chunk: int = CHUNK) -> Iterator[Block]:
    """The stream's blocks. Raises MissingColumnsError, by name, before the first; NoRowsError for no lines."""
    text: parse.TextForm | None = None
    header, line = 0, 1
    for block in splits.stream_blocks(stream, max_line_bytes=form.max_line_bytes, chunk=chunk):
        data = block.data
        if text is None:
            data = data.removeprefix(parse.BOM)
            text = _text_form(data, form, name)
            if form.header:
                header, data = 1, data[data.index(b"\n") + 1 :]
            line += header
            if not data:
                continue
        parsed = parse.parse(data, text)
        count = len(parsed.lines.start)
        yield Block(count, parsed.columns, parsed.place, parsed.refused, line)
        line += count
    if line == 1 + header:
        raise NoRowsError(f"{name}: has no rows")


def fields(start: bytes, form: Form, name: str) -> tuple[str, ...] | None:
    """The names of the fields, from whole first lines of CSV or TSV; None for JSON lines, whose keys are checked.

    Raises MissingColumnsError for columns that are missing or too many.
    """
    if form.format == "jsonl":
        check(_keys(start), form, name)
        return None
    first = start.partition(b"\n")[0].removesuffix(b"\r")
    found = parse.header_names(first, form.format)
    names = found if form.columns is None else _without_header(len(found), form.columns, form, name)
    check(names, form, name)
    return names


def _text_form(data: bytes, form: Form, name: str) -> parse.TextForm:
    """What to parse, from the first lines of the stream."""
    columns = fields(data, form, name)
    present = _keys(data) if columns is None else columns
    return parse.TextForm(
        format=form.format,
        columns=columns,
        wanted=form.needed + tuple(column for column in form.optional if column in present),
        max_line_bytes=form.max_line_bytes,
    )


def _without_header(fields: int, columns: tuple[str, ...], form: Form, name: str) -> tuple[str, ...]:
    """The names of the fields: all of the data set's columns, or all but the label."""
    unlabelled = tuple(column for column in columns if column != form.label)
    for known in (columns, unlabelled):
        if fields == len(known):
            return known
    told = (
        f"{name}: the first line has {fields} fields; expected {len(columns)}, or {len(unlabelled)} without label"
    )
    if fields > len(columns):
        raise MissingColumnsError(
            f"{told} {form.label!r}: {fields - len(columns)} after {columns[-1]!r} are too many"
        )
    raise MissingColumnsError(f"{told} {form.label!r}: missing are {list(unlabelled[fields:])}")


def check(present: Sequence[str], form: Form, name: str) -> None:
    """Raises MissingColumnsError where columns are missing, stand twice, or are too many."""
    missing = [column for column in form.needed if column not in present]
    if missing:
        raise MissingColumnsError(f"{name}: missing columns {missing}; found {list(present)}")
    twice = sorted({column for column in present if list(present).count(column) > 1})
    if twice:
        raise MissingColumnsError(f"{name}: columns {twice} stand twice, so that it is not clear which is meant")
    extra = [column for column in present if column not in form.known]
    if extra and not form.ignore_extra:
        raise MissingColumnsError(
            f"{name}: columns {extra} are too many: the model's data set has none of these names; "
            "leave them out, or allow them: `--set score.ignore_extra=true`, without Spark `--ignore-extra`"
        )


def _keys(data: bytes) -> list[str]:
    """The keys of the first block's objects: a key may be absent where its value is, but not everywhere."""
    keys: dict[str, None] = {}
    for line in data.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            keys |= dict.fromkeys(row)
    return list(keys)


def spread(block: Block, values: np.ndarray, fill: object) -> np.ndarray:
    """Values of a block's rows (m,) at their lines (n,), `fill` where a line is no row."""
    if len(values) == block.lines:
        return values
    out = np.full(block.lines, fill, values.dtype)
    out[block.place] = values
    return out
