"""What runs on workers: splits of text, or batches of a table, → counts, rejects, rows of `click_log`.

Each function takes an iterator of Arrow batches and yields Arrow batches; an empty partition yields
nothing. Every pass reads its input anew, so that memory does not grow with the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickmill import hashing
from clickmill.dataset import Dataset
from clickmill.ingest import parse, splits, times
from clickmill.ingest.judge import Judged, Place, day_from, day_number, judge, out_columns, wanted

Batches = Iterator[pa.RecordBatch]
Longs = npt.NDArray[np.int64]

SCANNED = pa.schema([("file", pa.int32()), ("start", pa.int64()), ("lines", pa.int64())])
SPLITS = pa.schema(
    [
        ("file", pa.int32()),
        ("path", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("day", pa.date32()),
        ("line", pa.int64()),  # lines of the file before this split
        ("ordinal", pa.int64()),  # see splits.number
        ("day_rows", pa.int64()),
        ("columns", pa.list_(pa.string())),  # what this file's header says
    ]
)
KEYS = pa.schema(
    [
        ("day", pa.date32()),  # null: refused, or not a day asked for
        ("reason", pa.string()),  # null: not refused
        ("high", pa.int64()),  # the key's 128 bits; 0 where `day` is null
        ("low", pa.int64()),
        ("event_day", pa.date32()),
        ("column", pa.string()),  # not null: no row of the log, but word that this column was seen
    ]
)
REJECTS = pa.schema(
    [
        ("source", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("text", pa.string()),
        ("ds", pa.date32()),
        ("event_id", pa.string()),  # with event_day, high, low: which rows have the same key, and which is first
        ("event_day", pa.date32()),
        ("__high", pa.int64()),
        ("__low", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Plan:
    """What a run's workers need to know."""

    dataset: Dataset
    days: tuple[date, ...]
    """The days asked for."""
    ds: date
    """The job's day: that of rejects whose file says no other one."""
    source: str
    """What to call a source that is not made of files."""


@dataclass(frozen=True)
class Piece:
    """Rows as they were read: n of them, and the lines beside them that are none."""

    source: str
    ds: date | None
    """The day that its rejects belong to; None: that of another run, which tells of them."""
    columns: Mapping[str, pa.Array]
    fields: tuple[pa.Array, ...]
    line: Longs | None
    """(n,) line in the file, from 1; None: the source has no lines."""
    file: int
    place: Place | None
    text: Callable[[int], str]
    """What row i said."""
    refused: tuple[tuple[int, str, Callable[[], str]], ...] = ()
    """(line in the file, reason, what it said) of lines that are no rows."""
    seen: frozenset[str] = frozenset()
    """JSON lines: the columns that some line has. Other forms name their columns before any row."""


# --- the passes -------------------------------------------------------------------------------


def scan(batches: Batches) -> Batches:
    """Rows of `SPLITS` → how many lines begin in each."""
    for batch in batches:
        rows = [(row, splits.count_lines(_split(row))) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(
            [{"file": row["file"], "start": row["start"], "lines": lines} for row, lines in rows], SCANNED
        )


def keys(batches: Batches, *, plan: Plan) -> Batches:
    """One row of `KEYS` for every row and every refused line of the log, and for every column seen."""
    for piece in pieces(batches, plan):
        judged = judge(piece.columns, plan.dataset, piece.place)
        asked = _asked(judged, plan)
        good = judged.reason == None  # noqa: E711
        high, low = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.int64)
        high[asked], low[asked] = _bits(_event_key(piece, plan, asked))
        event_day = pa.array(times.day_of(judged.micros), pa.int32(), mask=~good).cast(pa.date32())
        day = pa.array(times.day_of(judged.micros), pa.int32(), mask=~asked).cast(pa.date32())
        nothing = pa.nulls(len(asked), pa.string())
        found = pa.RecordBatch.from_arrays(
            [day, pa.array(judged.reason, pa.string()), pa.array(high), pa.array(low), event_day, nothing],
            schema=KEYS,
        )
        yield found if piece.ds else found.filter(pa.array(good))
        told = [{"reason": reason, "high": 0, "low": 0} for _, reason, _ in piece.refused if piece.ds]
        told += [{"column": name, "high": 0, "low": 0} for name in sorted(piece.seen)]
        if told:
            yield pa.RecordBatch.from_pylist(told, KEYS)


def rejects(batches: Batches, *, plan: Plan, candidates: bool, among: Longs | None = None) -> Batches:
    """Rows of `REJECTS` for what is refused; with `candidates` also for good rows, whose reason is null.

    among: of these only such whose key begins with one of these words (`high` of `KEYS`), rising.
    """
    for piece in pieces(batches, plan):
        judged = judge(piece.columns, plan.dataset, piece.place)
        found = [
            {"source": piece.source, "line": line, "reason": reason, "text": text(), "ds": piece.ds}
            for line, reason, text in piece.refused
            if piece.ds
        ]
        for row in np.flatnonzero(judged.reason != None) if piece.ds else ():  # noqa: E711
            line = None if piece.line is None else int(piece.line[row])
            text = piece.text(int(row))
            found.append(
                {"source": piece.source, "line": line, "reason": judged.reason[row], "text": text, "ds": piece.ds}
            )
        if found:
            yield pa.RecordBatch.from_pylist(found, REJECTS)
        asked = _asked(judged, plan) if candidates else np.zeros(len(judged.reason), bool)
        if among is not None and asked.any():
            asked[asked] = np.isin(_bits(_event_key(piece, plan, asked))[0], among)
        if asked.any():
            yield _candidates(piece, judged, asked, plan)


def rows(batches: Batches, *, plan: Plan, ordered: bool) -> Batches:
    """The impressions of the days asked for, as `row_schema` says.

    Not `ordered`: no two rows of a day have the same key, so that ids are complete. `ordered`: the
    caller numbers (or drops) equal keys of a day by `__high`, `__low`.
    """
    schema = row_schema(plan.dataset, ordered=ordered)
    own = plan.dataset.event_id is not None
    for piece in pieces(batches, plan):
        judged = judge(piece.columns, plan.dataset, piece.place)
        asked = _asked(judged, plan)
        if not asked.any():
            continue
        key = _event_id(piece, plan, asked)
        if not own and not ordered:
            key = pc.binary_join_element_wise(key, "0", "-")
        day = pa.array(times.day_of(judged.micros)[asked], pa.int32()).cast(pa.date32())
        arrays = [key, *(_filtered(column, asked) for column in judged.columns.values()), day]
        if ordered:
            arrays += [pa.array(part) for part in _order(piece, asked)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def row_schema(dataset: Dataset, *, ordered: bool) -> pa.Schema:
    """Columns of `rows`: event_id, those of `judge`, ds; `ordered`: and __high, __low."""
    order = [("__high", pa.int64()), ("__low", pa.int64())] if ordered else []
    return pa.schema([("event_id", pa.string()), *out_columns(dataset).items(), ("ds", pa.date32()), *order])


# --- what is read -----------------------------------------------------------------------------


def pieces(batches: Batches, plan: Plan) -> Iterator[Piece]:
    """The rows of splits (text) or of a table's batches."""
    read = _text_pieces if plan.dataset.source.is_text else _table_pieces
    for batch in batches:
        yield from read(batch, plan)


def _text_pieces(batch: pa.RecordBatch, plan: Plan) -> Iterator[Piece]:
    source = plan.dataset.source
    for row in batch.to_pylist():
        form = parse.TextForm(
            format=source.format,
            columns=source.columns or (tuple(row["columns"]) if row["columns"] else None),
            wanted=wanted(plan.dataset),
            max_line_bytes=source.max_line_bytes,
            with_fields=plan.dataset.event_id is None,
        )
        for block in splits.blocks(_split(row), max_line_bytes=source.max_line_bytes):
            line, data = block.line, block.data
            if row["start"] == 0 and line == 0:
                data = data.removeprefix(parse.BOM)
                if source.header:
                    line, data = 1, data[data.index(b"\n") + 1 :]
            if data:
                yield _text_piece(row, row["line"] + line, row["ordinal"] + line, data, form, plan)


def _text_piece(
    row: Mapping[str, Any], line: int, ordinal: int, data: bytes, form: parse.TextForm, plan: Plan
) -> Piece:
    parsed = parse.parse(data, form)
    header = 1 if plan.dataset.source.header else 0  # the first line is no row
    place = Place(parsed.place + (ordinal - header), row["day"], row["day_rows"])
    return Piece(
        source=row["path"],
        ds=_rejects_day(row["day"], plan),
        columns=parsed.columns,
        fields=parsed.fields,
        line=parsed.place + line + 1,
        file=row["file"],
        place=place,
        text=lambda i: parsed.lines.text(int(parsed.place[i])),
        refused=tuple(
            (line + 1 + place, reason, lambda place=place: parsed.lines.text(place))  # type: ignore[misc]
            for place, reason in parsed.refused
        ),
        seen=parsed.seen if form.format == "jsonl" else frozenset(),
    )


def _table_pieces(batch: pa.RecordBatch, plan: Plan) -> Iterator[Piece]:
    if not batch.num_rows:
        return
    names = [name for name in batch.schema.names if name != FILE_DAY]
    columns = {name: batch.column(name) for name in names}
    day = batch.column(FILE_DAY)[0].as_py() if FILE_DAY in batch.schema.names else None
    yield Piece(
        source=plan.source,
        ds=_rejects_day(day, plan),
        columns=columns,
        fields=tuple(column.cast(pa.string()) for column in columns.values()),
        line=None,
        file=0,
        place=None,
        text=lambda i: _as_json(batch, names, i),
    )


def _rejects_day(day: date | None, plan: Plan) -> date | None:
    """For a piece of the files of `day`: see `Piece.ds`."""
    if day is None:
        return plan.ds
    return day if day in plan.days else None


FILE_DAY = "__file_day"
"""Column of a table's batches: the day that its path was made from (the same on every row of a batch)."""


def _as_json(batch: pa.RecordBatch, names: list[str], row: int) -> str:
    values = {name: batch.column(name)[row].as_py() for name in names}
    text = json.dumps(values, default=str, ensure_ascii=False)
    return text.encode()[: parse.TEXT_BYTES].decode("utf-8", "ignore")


def _split(row: Mapping[str, Any]) -> splits.Split:
    return splits.Split(*(row[name] for name in splits.Split._fields))


# --- keys -------------------------------------------------------------------------------------


def _asked(judged: Judged, plan: Plan) -> npt.NDArray[np.bool_]:
    """Which rows are good and of a day asked for."""
    days = np.array([day_number(day) for day in plan.days], np.int32)
    asked = np.isin(times.day_of(judged.micros), days)
    asked &= judged.reason == None  # noqa: E711
    return asked


def _event_id(piece: Piece, plan: Plan, at: npt.NDArray[np.bool_]) -> pa.Array:
    """The log's own key, or the hash of the row's fields, of the rows `at`."""
    if plan.dataset.event_id is not None:
        return _filtered(piece.columns[plan.dataset.event_id].cast(pa.string()), at)
    return hashing.event_ids([_filtered(field, at) for field in piece.fields])


def _event_key(piece: Piece, plan: Plan, at: npt.NDArray[np.bool_]) -> pa.Array:
    """32 hex digits that are equal where event ids are."""
    ids = _event_id(piece, plan, at)
    return ids if plan.dataset.event_id is None else hashing.event_ids([ids])


def _bits(hexes: pa.Array) -> tuple[Longs, Longs]:
    """Strings of 32 hex digits as two int64 arrays."""
    start = hexes.offset * 32
    digits = hexes.buffers()[2].slice(start, 32 * len(hexes)).to_pybytes() if len(hexes) else b""
    both = np.frombuffer(bytes.fromhex(digits.decode("ascii")), ">i8").astype(np.int64)
    return both[0::2], both[1::2]


def _order(piece: Piece, at: npt.NDArray[np.bool_]) -> tuple[Longs, Longs]:
    """Two numbers by which equal keys are told apart: file and line, or else the hash of the whole row."""
    if piece.line is not None:
        return np.full(int(at.sum()), piece.file, np.int64), piece.line[at]
    return _bits(hashing.event_ids([_filtered(field, at) for field in piece.fields]))


def _candidates(piece: Piece, judged: Judged, asked: npt.NDArray[np.bool_], plan: Plan) -> pa.RecordBatch:
    high, low = _order(piece, asked)
    rows = np.flatnonzero(asked)
    days = times.day_of(judged.micros)
    ids = _event_id(piece, plan, asked).to_pylist()
    found = [
        {
            "source": piece.source,
            "line": None if piece.line is None else int(piece.line[row]),
            "text": piece.text(int(row)),
            "ds": piece.ds or day_from(int(days[row])),
            "event_id": ids[n],
            "event_day": day_from(int(days[row])),
            "__high": int(high[n]),
            "__low": int(low[n]),
        }
        for n, row in enumerate(rows)
    ]
    return pa.RecordBatch.from_pylist(found, REJECTS)


def _filtered(values: pa.Array, at: npt.NDArray[np.bool_]) -> pa.Array:
    return values if at.all() else values.filter(pa.array(at))
