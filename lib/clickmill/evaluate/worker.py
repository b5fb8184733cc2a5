"""Scores batches of test rows with every contender, and counts what the judge needs. No Spark here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.calibration import Calibrator
from clickmill.evaluate.cells import Cells, Judged, Refinement, cells_of, empty_cells, fine_key, merged
from clickmill.evaluate.resampling import Ranked, Resampled, statistics
from clickmill.evaluate.slices import Slices, Units
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
        ("unit", pa.int64()),
        ("stored", pa.bool_()),
        ("kind", pa.string()),
        ("sums", pa.binary()),
    ]
)
"""Either an impression as a model sees it, or (the rest null) what a partition adds up to: see ADDED."""
ADDED = pa.schema([("kind", pa.string()), ("model_id", pa.string()), ("sums", pa.binary())])
"""Of each kind in KINDS the sums of one model (`resampled`: of all, model_id empty)."""
KINDS: dict[str, Any] = {"tally": Tally, "resampled": Resampled, "ranked": Ranked}
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


@dataclass(frozen=True)
class Plan:
    """What a partition's pass needs to know."""

    entries: tuple[Entry, ...]
    slices: Slices
    units: Units
    replicates: int
    keep: float
    """Share of the predictions that is to be stored, drawn by event id."""
    seed: int


def score(batches: Iterator[pa.RecordBatch], *, plan: Plan) -> Iterator[pa.RecordBatch]:
    """SCORED rows of every batch and entry, and at the end of the partition what it adds up to."""
    groups = len(plan.slices.names)
    tallies = [Tally.empty(groups) for _ in plan.entries]
    resampled = Resampled.empty(groups, len(plan.entries), plan.replicates)
    seen = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        seen += batch.num_rows
        stored = _stored(batch.column("event_id"), plan.keep, plan.seed)
        label, weight, truth = batch.column("label").to_numpy(), _weights(batch), _truth(batch)
        place, unit = plan.slices.groups(batch), plan.units.keys(batch)
        found = []
        for entry, tally in zip(plan.entries, tallies, strict=True):
            rows = entry.judged(label, weight, entry.contender.p_sampled(batch))
            tally.add(rows, truth, place)
            found.append(rows)
            yield _scored(batch, entry.contender.model_id, rows, unit, stored)
        resampled.add(batch.column("event_id"), unit, place, label, statistics(found))
    if seen:
        ids = (one.contender.model_id for one in plan.entries)
        ends = [("tally", model_id, tally) for model_id, tally in zip(ids, tallies, strict=True)]
        yield from _sums([*ends, ("resampled", "", resampled)], SCORED)


def add_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of ADDED → one of each kind and model."""
    rows = [row for batch in batches for row in batch.select(ADDED.names).to_pylist()]
    yield from _sums([(*key, sums) for key, sums in added(rows).items()], ADDED)


def added(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    """The sums of rows of ADDED by kind and model, put together in an order that no scheduling can change."""
    parts: dict[tuple[str, str], list[bytes]] = {}
    for row in rows:
        parts.setdefault((row["kind"], row["model_id"]), []).append(bytes(row["sums"]))
    return {
        (kind, model_id): KINDS[kind].merge([KINDS[kind].from_bytes(content) for content in sorted(contents)])
        for (kind, model_id), contents in sorted(parts.items())
    }


def _sums(found: Sequence[tuple[str, str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for kind, model_id, sums in found:
        row = {"kind": kind, "model_id": model_id, "sums": sums.to_bytes()}
        yield pa.RecordBatch.from_pylist([row], schema=schema)


def rank(
    batches: Iterator[pa.RecordBatch], *, edges: Mapping[str, Array], replicates: int
) -> Iterator[pa.RecordBatch]:
    """SCORED rows → the resampled ranking of each model, rows of ADDED. edges: `resampling.rank_edges` of each."""
    found = {name: Ranked.empty(len(edge) + 1, replicates) for name, edge in edges.items()}
    for batch in batches:
        for model_id, edge in edges.items():
            own = batch.filter(pc.equal(batch.column("model_id"), model_id))
            if own.num_rows:
                columns = ("p_sampled", "label", "weight", "unit")
                p, label, weight, unit = (own.column(name).to_numpy() for name in columns)
                found[model_id].add(np.searchsorted(edge, p), label, weight, unit.view(np.uint64))
    yield from _sums([("ranked", model_id, ranked) for model_id, ranked in found.items()], ADDED)


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


def _scored(
    batch: pa.RecordBatch, model_id: str, rows: Judged, unit: np.ndarray, stored: np.ndarray
) -> pa.RecordBatch:
    columns = [
        pa.repeat(pa.scalar(model_id), batch.num_rows),
        batch.column("event_id").cast(pa.string()),
        pa.array(rows.label, pa.int8()),
        pa.array(rows.stages[0]),
        pa.array(rows.stages[2]),
        pa.array(rows.weight),
        pa.array(unit.view(np.int64)),
        pa.array(stored),
        pa.nulls(batch.num_rows, pa.string()),
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
