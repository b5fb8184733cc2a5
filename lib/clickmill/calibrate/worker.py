"""Scores batches of validation rows and counts them into histograms of their logits. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from clickmill.calibrate.histogram import LogitHistogram
from clickmill.calibration import logit
from clickmill.hashing import keyed_uniform
from clickmill.metrics import check_probabilities
from clickmill.scoring import Contender

CELLS = pa.schema(
    [
        ("model_id", pa.string()),
        ("cell", pa.int32()),
        ("rows", pa.int64()),
        ("clicks", pa.int64()),
        ("logits", pa.int64()),
    ]
)
"""A bin of a fold of a model that has rows; `cell` is fold · BINS + bin."""


def count(
    batches: Iterator[pa.RecordBatch], *, contenders: Sequence[Contender], folds: int, seed: int
) -> Iterator[pa.RecordBatch]:
    """One batch of CELLS a model: the counts of all rows of the partition. Raises InvalidProbabilityError."""
    counted = [LogitHistogram.empty(folds) for _ in contenders]
    for batch in batches:
        if not batch.num_rows:
            continue
        uniform = keyed_uniform("fold", seed, batch.column("event_id"))
        fold = np.floor(uniform * folds).astype(np.int64)
        label = batch.column("label").to_numpy()
        for contender, histogram in zip(contenders, counted, strict=True):
            p_sampled = contender.p_sampled(batch)
            check_probabilities(p_sampled, f"p_sampled of {contender.model_id}")
            histogram.add(fold, label, logit(contender.prior_corrected(p_sampled)))
    for contender, histogram in zip(contenders, counted, strict=True):
        yield _cells(contender.model_id, histogram)


def histogram_of(cells: pa.Table, folds: int) -> LogitHistogram:
    """The histogram of one model's summed cells, each cell there at most once."""
    found = LogitHistogram.empty(folds)
    place = cells.column("cell").to_numpy()
    for name in ("rows", "clicks", "logits"):
        getattr(found, name).reshape(-1)[place] = cells.column(name).to_numpy()
    return found


def _cells(model_id: str, histogram: LogitHistogram) -> pa.RecordBatch:
    rows, clicks, logits = (part.reshape(-1) for part in (histogram.rows, histogram.clicks, histogram.logits))
    some = np.flatnonzero(rows)
    return pa.record_batch(
        [
            pa.repeat(pa.scalar(model_id), len(some)),
            pa.array(some.astype(np.int32)),
            pa.array(rows[some]),
            pa.array(clicks[some]),
            pa.array(logits[some]),
        ],
        schema=CELLS,
    )
