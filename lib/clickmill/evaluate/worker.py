"""Scores batches of test rows with every contender, and counts what the judge needs. No Spark here."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.bootstrap import Keys
from clickmill.calibration import Calibrator
from clickmill.evaluate.cells import Cells, Counter, Judged, Refinement, fine_key
from clickmill.evaluate.resampling import Ranked, Resampled
from clickmill.evaluate.slices import Slices
from clickmill.evaluate.tally import Tally, Tallying
from clickmill.hashing import keyed_uniform
from clickmill.metrics import Array, check_probabilities
from clickmill.scoring import Contender
from clickmill.units import Units

PARCELS = pa.schema(
    [("kind", pa.string()), ("model_id", pa.string()), ("place", pa.int32()), ("content", pa.binary())]
)
"""What workers hand on, so packed that the JVM between them has nothing to do but carry it.

kind `scored`: a batch as `Scored` packs it, `kept`: one of KEPT; all other kinds are sums as bytes, see KINDS.
place: parcels of one place are added up by one worker.
"""
KEPT = pa.schema(
    [("event_id", pa.string()), ("label", pa.int8()), ("p_sampled", pa.float64()), ("p", pa.float64())]
)
"""Predictions that are to be stored."""
PREDICTIONS = pa.schema([*KEPT, ("calibration_id", pa.string()), ("model_id", pa.string()), ("ds", pa.date32())])
KINDS: dict[str, Any] = {"tally": Tally, "resampled": Resampled, "ranked": Ranked, "fine": Cells}
"""What the sums of one model (`resampled`: of all, model_id empty) are, by kind."""
PARTS = 8
"""Workers that add up what all partitions found, before the driver does."""


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
        last = prior if self.calibrator.method == "none" else self.calibrator.apply(prior)
        return Judged(label, weight, (p_sampled, prior, last))


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


class Scored(NamedTuple):
    """Impressions as one model sees them, as much of them as the later passes need: label (n,) int8, p_sampled."""

    label: NDArray[np.int8]
    p_sampled: Array
    weight: Array | None
    """None: all are 1."""
    unit: Keys | None
    """None: nothing is resampled."""

    def pack(self) -> pa.RecordBatch:
        """The batch that `unpack` takes."""
        return pa.record_batch({name: pa.array(part) for name, part in self._asdict().items() if part is not None})

    @classmethod
    def unpack(cls, batch: pa.RecordBatch) -> Scored:
        """What `pack` made."""
        there = {name: batch.column(name).to_numpy() for name in batch.schema.names}
        return cls(there["label"], there["p_sampled"], there.get("weight"), there.get("unit"))

    @property
    def weights(self) -> Array:
        """Always an array."""
        return np.ones(len(self.label)) if self.weight is None else self.weight


def score(batches: Iterator[pa.RecordBatch], *, plan: Plan) -> Iterator[pa.RecordBatch]:
    """Parcels of every batch as every entry sees it, and at the end of the partition of what it adds up to."""
    groups = len(plan.slices.names)
    counting = [Tallying(groups) for _ in plan.entries]
    resampled = Resampled.empty(groups, len(plan.entries), plan.replicates)
    for batch in batches:
        if not batch.num_rows:
            continue
        event_id = batch.column("event_id").cast(pa.string())
        label, weight, truth = batch.column("label").to_numpy(), _weights(batch), _truth(batch)
        place = plan.slices.groups(batch)
        unit = plan.units.keys(batch) if plan.replicates else None
        stored = _stored(event_id, plan.keep, plan.seed)
        found = []
        for entry, own in zip(plan.entries, counting, strict=True):
            rows = entry.judged(label, weight, entry.contender.p_sampled(batch))
            own.add(rows, truth, place)
            found.append(rows)
            first, _, last = rows.stages
            name = entry.contender.model_id
            again = Scored(label, first, weight if "weight" in batch.schema.names else None, unit)
            yield _packed("scored", name, again.pack())
            if stored is not None:
                columns = [event_id, *(pa.array(part) for part in (label, first, last))]
                yield _packed("kept", name, pa.record_batch(columns, schema=KEPT).filter(stored))
        resampled.add(event_id, unit, place, found)
    if resampled.rows:
        yield from (
            _sums("tally", entry.contender.model_id, own.tally())
            for entry, own in zip(plan.entries, counting, strict=True)
        )
        yield _sums("resampled", "", resampled)


def rank(
    batches: Iterator[pa.RecordBatch], *, edges: Mapping[str, Array], replicates: int
) -> Iterator[pa.RecordBatch]:
    """Parcels of scored rows → the resampled ranking of each model. edges: `resampling.rank_edges` of each."""
    found = {name: Ranked.empty(len(edge) + 1, replicates) for name, edge in edges.items()}
    for name, batch in unpacked(batches):
        rows = Scored.unpack(batch)
        assert rows.unit is not None, "what is resampled has units"
        found[name].add(np.searchsorted(edges[name], rows.p_sampled), rows.label, rows.weights, rows.unit)
    yield from (_sums("ranked", name, ranked) for name, ranked in found.items())


def refine(
    batches: Iterator[pa.RecordBatch], *, cuts: Mapping[str, tuple[Entry, Refinement]], places: int
) -> Iterator[pa.RecordBatch]:
    """Parcels of scored rows → the parts of the cells that are cut, of the models that `cuts` names.

    They are dealt to `places` by ranges of keys, so that whoever adds them up holds a range alone.
    """
    found = {name: Counter(cut.keys) for name, (_, cut) in cuts.items()}
    for name, batch in unpacked(batches):
        if name in cuts:
            (entry, cut), rows = cuts[name], Scored.unpack(batch)
            judged = entry.judged(rows.label, rows.weights, rows.p_sampled)
            found[name].add(fine_key(rows.p_sampled, cut), judged)
    for name, counter in found.items():
        cells = counter.cells()
        ends = np.searchsorted(cells.key, np.linspace(0, cuts[name][1].keys, places + 1).astype(np.int64))
        for place, (start, end) in enumerate(pairwise(ends)):
            if start < end:
                yield _sums("fine", name, cells.take(np.arange(start, end)), place)


def add_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Parcels of sums → one of each kind and model."""
    rows = [row for batch in batches for row in batch.to_pylist()]
    yield from (_sums(*key, sums) for key, sums in added(rows).items())


def added(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    """The sums of parcels by kind and model, put together in an order that no scheduling can change."""
    parts: dict[tuple[str, str], list[bytes]] = {}
    for row in rows:
        parts.setdefault((row["kind"], row["model_id"]), []).append(bytes(row["content"]))
    return {
        (kind, model_id): KINDS[kind].merge([KINDS[kind].from_bytes(content) for content in sorted(contents)])
        for (kind, model_id), contents in sorted(parts.items())
    }


def predictions(
    batches: Iterator[pa.RecordBatch], *, calibrations: Mapping[str, str], ds: date
) -> Iterator[pa.RecordBatch]:
    """Parcels of KEPT → rows of `predictions`. calibrations: model_id → calibration_id."""
    for name, rows in unpacked(batches):
        same = (pa.scalar(calibrations[name]), pa.scalar(name), pa.scalar(ds, pa.date32()))
        own = [pa.repeat(value, rows.num_rows) for value in same]
        yield pa.record_batch([*rows.columns, *own], schema=PREDICTIONS)


def unpacked(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """What parcels of rows hold, each with its model_id."""
    for batch in batches:
        for name, content in zip(batch.column("model_id").to_pylist(), batch.column("content"), strict=True):
            yield name, pa.ipc.open_stream(content.as_buffer()).read_next_batch()


def _packed(kind: str, model_id: str, rows: pa.RecordBatch) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return _parcel(kind, model_id, 0, sink.getvalue().to_pybytes())


def _sums(kind: str, model_id: str, sums: Any, place: int | None = None) -> pa.RecordBatch:
    content = sums.to_bytes()
    return _parcel(kind, model_id, zlib.crc32(content) % PARTS if place is None else place, content)


def _parcel(kind: str, model_id: str, place: int, content: bytes) -> pa.RecordBatch:
    columns = ([kind], [model_id], [place], [content])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PARCELS, strict=True)]
    return pa.record_batch(arrays, schema=PARCELS)


def _stored(event_id: pa.Array, keep: float, seed: int) -> pa.Array | None:
    """Which rows are to be stored; None: none is."""
    if keep == 0.0:
        return None
    own = np.ones(len(event_id), bool) if keep == 1.0 else keyed_uniform("predictions", seed, event_id) < keep
    return pa.array(own)


def _weights(batch: pa.RecordBatch) -> Array:
    if "weight" not in batch.schema.names:
        return np.ones(batch.num_rows)
    return np.asarray(batch.column("weight").to_numpy(), np.float64)


def _truth(batch: pa.RecordBatch) -> Array:
    """p_true, NaN where it is not known."""
    if "c_p_true" not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    return np.asarray(batch.column("c_p_true").cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
