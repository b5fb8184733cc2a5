"""What runs on workers: splits of a text log, or batches of a table, → the rows with their p.

An empty partition yields nothing. A line or row that cannot be scored comes out too, with its reason
and no p, so that as many come out as went in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clickmill.ingest import parse, splits
from clickmill.score.scorer import Scorer

Batches = Iterator[pa.RecordBatch]

SPLITS = pa.schema(
    [
        ("file", pa.int32()),
        ("path", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("day", pa.date32()),
        ("columns", pa.list_(pa.string())),  # the fields of this file's lines, in order; null for JSON lines
    ]
)
ADDED = (("p_sampled", pa.float64()), ("p", pa.float64()), ("reason", pa.string()))
"""Columns that scoring adds: both probabilities null and a reason, or both there and none."""


def lines(batches: Batches, *, scorer: Scorer, columns: Sequence[str]) -> Batches:
    """Rows of `SPLITS` → every line of those splits: `columns` as text, and `ADDED`."""
    source = scorer.dataset.source
    schema = pa.schema([*((name, pa.string()) for name in columns), *ADDED])
    for batch in batches:
        for row in batch.to_pylist():
            form = parse.TextForm(
                format=source.format,
                columns=tuple(row["columns"]) if row["columns"] else None,
                wanted=tuple(columns),
                max_line_bytes=source.max_line_bytes,
            )
            yield from _split(row, form, scorer, schema)


def rows(batches: Batches, *, scorer: Scorer) -> Batches:
    """Batches of a table with the raw columns → the same columns, and `ADDED`."""
    for batch in batches:
        if batch.num_rows:
            columns = {name: batch.column(name) for name in batch.schema.names}
            yield _scored(columns, scorer, pa.schema([*batch.schema, *(pa.field(*added) for added in ADDED)]))


def _split(row: Mapping[str, Any], form: parse.TextForm, scorer: Scorer, schema: pa.Schema) -> Batches:
    source = scorer.dataset.source
    split = splits.Split(*(row[name] for name in splits.Split._fields))
    for block in splits.blocks(split, max_line_bytes=source.max_line_bytes):
        data = block.data
        if split.start == 0 and block.line == 0:
            data = data.removeprefix(parse.BOM)
            data = data[data.index(b"\n") + 1 :] if source.header else data
        if not data:
            continue
        parsed = parse.parse(data, form)
        if len(parsed.place):
            yield _scored(parsed.columns, scorer, schema)
        if parsed.refused:
            reasons = pa.array([reason for _, reason in parsed.refused], pa.string())
            empty = [pa.nulls(len(reasons), field.type) for field in schema][:-1]
            yield pa.RecordBatch.from_arrays([*empty, reasons], schema=schema)


def _scored(columns: Mapping[str, pa.Array], scorer: Scorer, schema: pa.Schema) -> pa.RecordBatch:
    scores = scorer.score(columns)
    refused = np.isnan(scores.p)
    arrays = [
        *columns.values(),
        pa.array(scores.p_sampled, mask=refused),
        pa.array(scores.p, mask=refused),
        pa.array(scores.reason, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
