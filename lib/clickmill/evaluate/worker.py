"""Scores batches of test rows with every contender, and counts what the judge needs. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.calibration import Calibrator
from clickmill.evaluate.cells import Cells, Judged, Refinement, cells_of, empty_cells, fine_key, merged
from clickmill.evaluate.tally import Tally
from clickmill.hashing import keyed_uniform
from clickmill.metrics import Array, check_probabilities
from clickmill.scoring import Contender

SCORED = pa.schema(
    [
        ("model_id", pa.string()),
        ("event_id", pa.string()),
        ("label", pa.int8()),
        ("p_sampled", pa.float64()),
        ("p", pa.float64()),
        ("weight", pa.float64()),
        ("stored", pa.bool_()),
        ("tally", pa.binary()),
    ]
)
"""Either an impression as a model sees it, or (the rest null) the tally of a partition."""
FINE = pa.schema(
    [
        ("model_id", pa.string()),
        ("key", pa.int64()),
        *(
            (name, pa.float64())
            for name in ("low", "high", "clicks", "others", "p_sampled", "prior", "calibrated")
        ),
    ]
)
"""A cell as a row."""


@dataclass(frozen=True)
class Entry:
    """A contender with its calibrator."""

    contender: Contender
    calibrator: Calibrator
    calibration_id: str

    def judged(self, label: np.ndarray, weight: Array, p_sampled: Array) -> Judged:
        """Rows with their p at all three stages. Raises InvalidProbabilityError."""
        check_probabilities(p_sampled, f"p_sampled of {self.contender.model_id}")
        prior = self.contender.prior_corrected(p_sampled)
        return Judged(label, weight, (p_sampled, prior, self.calibrator.apply(prior)))


def score(
    batches: Iterator[pa.RecordBatch], *, entries: Sequence[Entry], keep: float, seed: int
) -> Iterator[pa.RecordBatch]:
    """SCORED rows of every batch and entry, and at the end of the partition a tally of each entry.

    keep: share of the predictions that is to be stored, drawn by event id.
    """
    tallies = [Tally() for _ in entries]
    for batch in batches:
        if not batch.num_rows:
            continue
        stored = _stored(batch.column("event_id"), keep, seed)
        label, weight = batch.column("label").to_numpy(), _weights(batch)
        truth, day = _truth(batch), _days(batch.column("event_time"))
        for entry, tally in zip(entries, tallies, strict=True):
            rows = entry.judged(label, weight, entry.contender.p_sampled(batch))
            tally.add(rows, truth, day)
            yield _scored(batch, entry.contender.model_id, rows, stored)
    for entry, tally in zip(entries, tallies, strict=True):
        if tally.sums:
            ends = {"model_id": entry.contender.model_id, "tally": tally.to_bytes()}
            yield pa.RecordBatch.from_pylist([ends], schema=SCORED)


def refine(
    batches: Iterator[pa.RecordBatch], *, cuts: Mapping[str, tuple[Entry, Refinement]]
) -> Iterator[pa.RecordBatch]:
    """FINE rows: the parts of the cells that are cut, from SCORED rows of the models that `cuts` names."""
    found = dict.fromkeys(cuts, empty_cells())
    for batch in batches:
        p_sampled = batch.column("p_sampled").to_numpy()
        label, weight = batch.column("label").to_numpy(), batch.column("weight").to_numpy()
        for model_id, (entry, cut) in cuts.items():
            key = fine_key(p_sampled, cut)
            own = (key >= 0) & pc.equal(batch.column("model_id"), model_id).to_numpy(zero_copy_only=False)
            rows = entry.judged(label[own], weight[own], p_sampled[own])
            found[model_id] = merged([found[model_id], cells_of(key[own], rows)])
    for model_id, cells in found.items():
        columns = [cells.key, cells.low, cells.high, cells.clicks, cells.others, *cells.sums.T]
        arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
        yield pa.record_batch([pa.repeat(pa.scalar(model_id), len(cells.key)), *arrays], schema=FINE)


def fine_cells(rows: pa.Table, model_id: str) -> Cells:
    """The cells of one model's FINE rows, one a key."""
    ordered = rows.filter(pc.equal(rows.column("model_id"), model_id)).sort_by("key")
    key, low, high, clicks, others, *sums = (ordered.column(name).to_numpy() for name in FINE.names[1:])
    return Cells(key, low, high, clicks, others, np.stack(sums, axis=1))


def _scored(batch: pa.RecordBatch, model_id: str, rows: Judged, stored: np.ndarray) -> pa.RecordBatch:
    columns = [
        pa.repeat(pa.scalar(model_id), batch.num_rows),
        batch.column("event_id").cast(pa.string()),
        pa.array(rows.label, pa.int8()),
        pa.array(rows.stages[0]),
        pa.array(rows.stages[2]),
        pa.array(rows.weight),
        pa.array(stored),
        pa.nulls(batch.num_rows, pa.binary()),
    ]
    return pa.record_batch(columns, schema=SCORED)


def _stored(event_id: pa.Array, keep: float, seed: int) -> np.ndarray:
    if keep in (0.0, 1.0):
        return np.full(len(event_id), keep == 1.0)
    return np.asarray(keyed_uniform("predictions", seed, event_id) < keep)


def _weights(batch: pa.RecordBatch) -> Array:
    if "weight" not in batch.schema.names:
        return np.ones(batch.num_rows)
    return np.asarray(batch.column("weight").to_numpy(), np.float64)


def _truth(batch: pa.RecordBatch) -> Array:
    """p_true, NaN where it is not known."""
    if "c_p_true" not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    return np.asarray(batch.column("c_p_true").cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _days(event_time: pa.Array) -> np.ndarray:
    micros = pc.cast(event_time.cast(pa.timestamp("us", tz="UTC")), pa.int64()).to_numpy()
    return np.asarray(micros.astype("datetime64[us]").astype("datetime64[D]"))
