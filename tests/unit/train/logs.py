"""Small click logs as features: what the logistic regression is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill import hashing
from clickmill.models import artifact
from clickmill.models.card import Card
from clickmill.models.logreg import LogregModel
from clickmill.specs import LogregSpec
from clickmill.train.logreg import worker
from clickmill.train.logreg.worker import Fitted, Task

SLOTS = ("a", "b", "c", "d")
CARDINALITY = (3, 40, 400, 3000)


def log(rows: int, *, seed: int = 0, keep_rate: float = 1.0) -> pa.RecordBatch:
    """Rows with effects of each slot; clicks about one in eight, non-clicks kept at `keep_rate`."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    logit = np.full(rows, -2.5)
    for slot, size in zip(SLOTS, CARDINALITY, strict=True):
        value = (size * rng.random(rows) ** 3).astype(int)
        effects = np.random.default_rng(size).normal(scale=0.7, size=size)
        logit += effects[value]
        table = hashing.hash_slot(slot, [str(v) for v in range(size)])
        columns[f"s_{slot}"] = table[value]
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    columns["label"] = label
    columns["weight"] = np.where(label == 1, 1.0, 1 / keep_rate)
    columns["keep_rate"] = np.full(rows, keep_rate)
    batch = pa.RecordBatch.from_pydict(columns)
    return batch.filter(pa.array((label == 1) | (rng.random(rows) < keep_rate)))


def task(**spec: Any) -> Task:
    known: dict[str, Any] = {"kind": "logreg", "bits": 18, "l2": 1e-4, "tolerance": 1e-7}
    return Task(LogregSpec.model_validate(known | spec), tuple(f"s_{slot}" for slot in SLOTS), SLOTS)


class Held:
    """Batches in memory as a rank's source, cut in pieces of 700 rows."""

    def __init__(self, training: Sequence[pa.RecordBatch], validation: Sequence[pa.RecordBatch] = ()) -> None:
        self._training, self._validation = training, validation

    def training(self) -> list[pa.RecordBatch]:
        return [batch.slice(at, 700) for batch in self._training for at in range(0, batch.num_rows, 700)]

    def validation(self) -> list[pa.RecordBatch]:
        return list(self._validation)


def indices(batch: pa.RecordBatch, bits: int) -> NDArray[np.int64]:
    """(n, slots) indices, by another way than the trainer's."""
    columns = [batch.column(f"s_{slot}").to_numpy().astype(np.int64) & (2**bits - 1) for slot in SLOTS]
    return np.column_stack(columns)


def card(asked: Task, **changes: Any) -> Card:
    dataset = {
        "name": "d",
        "source": {"path": "x", "format": "parquet"},
        "label": "y",
        "event_time": {"kind": "column", "column": "t"},
        "slots": list(SLOTS),
    }
    values: dict[str, Any] = {
        "model_id": "lr-2026-01-10-0123abcd",
        "name": "lr",
        "kind": "logreg",
        "keep_rate": 1.0,
        "correction": "prior",
        "spec": asked.spec.model_dump(mode="json"),
        "dataset": dataset,
        "edges": [],
        "seed": 42,
        "stretches": {"train": ["2026-01-01T00:00:00", "2026-01-08T00:00:00"]},
        "tables": {},
        "training": {},
        "created_by": "test",
    }
    return Card.model_validate(values | changes)


def stored(fitted: Fitted, asked: Task, root: Path) -> LogregModel:
    """The model, saved and loaded."""
    model = artifact.load(artifact.save(str(root), card(asked), worker.arrays_of(fitted, asked.spec)).path)
    assert isinstance(model, LogregModel)
    return model
