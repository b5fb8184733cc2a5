"""Lines of the raw log → p, without Spark: `clickmill score --model DIR < file.tsv`.

One line out for each line in, in the same order. A line that is no row, or whose number is none, keeps its place
with an empty p; standard error names it, and the count stands at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.errors import InputError, UsageError
from clickmill.score import raw
from clickmill.score.scorer import Scores, load

OUTPUTS = ("tsv", "csv", "jsonl")
EVENT_ID, P = "event_id", "p"
MOST_TOLD = 100
"""Refused lines that are named one by one; the rest is counted."""


class Scored(NamedTuple):
    """Lines read, and how many of them have no p."""

    lines: int
    refused: int


def run(
    model: Path,
    source: BinaryIO,
    sink: BinaryIO,
    messages: TextIO,
    *,
    calibration: str | None = None,
    format: str | None = None,
    output: str = "tsv",
    ignore_extra: bool = False,
) -> Scored:
    """Scores every line of `source` into `sink`.

    model, calibration: see `scorer.load`. format: tsv, csv or jsonl; the data set's own unless given.
    Lines of tsv and csv have a header where the data set's config does not name the columns; without
    header the label may be absent. output: tsv, csv (both with a header: the log's own key as
    `event_id` if it has one, then `p`) or jsonl.
    Raises MissingColumnsError for columns that are missing or too many, by name; NoRowsError for no
    lines; InputError where no line at all could be scored; ArtifactError, KeepRateError, UsageError.
    """
    if output not in OUTPUTS:
        raise UsageError(f"output {output!r}: allowed are {', '.join(OUTPUTS)}")
    scorer = load(model, calibration=calibration)
    form = raw.form_of(scorer.dataset, scorer.needed, format=format, ignore_extra=ignore_extra)
    names = (*form.optional, P)
    lines, refused = 0, 0
    for block in raw.read(source, form):
        scores = scorer.score(block.columns) if len(block.place) else None
        if not lines and output != "jsonl":
            sink.write((("\t" if output == "tsv" else ",").join(_heads(names)) + "\n").encode())
        sink.write(_written(block, scores, form, output))
        for line, reason in _refused(block, scores):
            refused += 1
            if refused <= MOST_TOLD:
                print(f"clickmill: line {line}: {reason}: no p", file=messages)
        lines += block.lines
    if refused:
        more = f" (the first {MOST_TOLD} are named above)" if refused > MOST_TOLD else ""
        print(f"clickmill: {refused} of {lines} lines have no p{more}", file=messages)
    if refused == lines:
        raise InputError(f"none of {lines} lines could be scored: is this the form of {scorer.dataset.name!r}?")
    return Scored(lines, refused)


def _heads(names: tuple[str, ...]) -> tuple[str, ...]:
    return (P,) if len(names) == 1 else (EVENT_ID, P)


def _refused(block: raw.Block, scores: Scores | None) -> Iterator[tuple[int, str]]:
    """(line in the stream, reason) of the block's lines without p, in order."""
    bad = [(place, reason) for place, reason in block.refused]
    if scores is not None:
        rows = np.flatnonzero(np.isnan(scores.p))
        bad += [(int(block.place[row]), str(scores.reason[row])) for row in rows]
    for place, reason in sorted(bad):
        yield block.first_line + place, reason


def _written(block: raw.Block, scores: Scores | None, form: raw.Form, output: str) -> bytes:
    """The block's lines of output."""
    p = np.full(block.lines, np.nan) if scores is None else raw.spread(block, scores.p, np.nan)
    told = _texts(p)
    if form.optional:
        ids = _ids(block, form)
        if output == "jsonl":
            keys = [json.dumps(one, ensure_ascii=False) for one in ids]
            told = [
                f'{{"{EVENT_ID}": {key}, "{P}": {one or "null"}}}' for key, one in zip(keys, told, strict=True)
            ]
        else:
            quote = _csv if output == "csv" else _tsv
            mark = "," if output == "csv" else "\t"
            told = [f"{quote(key or '')}{mark}{one}" for key, one in zip(ids, told, strict=True)]
    elif output == "jsonl":
        told = [f'{{"{P}": {one or "null"}}}' for one in told]
    return ("\n".join(told) + "\n").encode()


def _texts(p: np.ndarray) -> list[str]:
    """Each p with the digits that give the same double back; NaN is empty."""
    some = pa.array(p, from_pandas=True)
    texts: list[str] = pc.fill_null(pc.cast(some, pa.string()), "").to_pylist()
    return texts


def _ids(block: raw.Block, form: raw.Form) -> list[str | None]:
    column = block.columns.get(form.optional[0])
    if column is None:
        return [None] * block.lines
    ids = np.array(column.to_pylist(), object)
    spread: list[str | None] = raw.spread(block, ids, None).tolist()
    return spread


def _csv(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(mark in value for mark in ',"\r') else value


def _tsv(value: str) -> str:
    return value.replace("\t", " ").replace("\r", " ")
