"""Small logs of numbers, for trees: a click hangs on one number, and on the product of two others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clickmill.models.xgboost import Inputs
from clickmill.specs import XgboostSpec
from clickmill.train.xgboost.worker import Task

NAMES = tuple(f"n_{j}" for j in range(5))


def log(rows: int, *, seed: int = 0, keep_rate: float = 1.0) -> pa.RecordBatch:
    """Rows with label, weight and keep rate; a tenth of the numbers is missing, non-clicks kept at `keep_rate`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, len(NAMES))).astype(np.float32)
    label = (rng.random(rows) < 1 / (1 + np.exp(2.0 - x[:, 0] - x[:, 1] * x[:, 2]))).astype(np.int8)
    x[rng.random(x.shape) < 0.1] = np.nan
    columns: dict[str, Any] = {
        name: pa.array(x[:, j], pa.float32(), from_pandas=True) for j, name in enumerate(NAMES)
    }
    columns |= {"label": label, "weight": np.where(label == 1, 1.0, 1 / keep_rate)}
    columns["keep_rate"] = np.full(rows, keep_rate)
    kept = pa.array((label == 1) | (rng.random(rows) < keep_rate))
    return pa.RecordBatch.from_pydict(columns).filter(kept)


def spec(**changes: Any) -> XgboostSpec:
    known = {"kind": "xgboost", "values": "hashes", "rounds": 12, "max_depth": 4, "eta": 0.3}
    return XgboostSpec.model_validate(known | {"early_stopping_rounds": None, "checkpoint_rounds": 5} | changes)


def task(start: Any = None, folder: str | None = None, **changes: Any) -> Task:
    given = {} if start is None else {"start": start}
    return Task(spec(**changes), Inputs(NAMES), folder=folder, **given)


class Held:
    """Batches in memory as a rank's source, cut in pieces of 700 rows."""

    def __init__(self, training: Sequence[pa.RecordBatch], validation: Sequence[pa.RecordBatch] = ()) -> None:
        self._training, self._validation = training, validation

    def training(self) -> list[pa.RecordBatch]:
        return [batch.slice(at, 700) for batch in self._training for at in range(0, batch.num_rows, 700)]

    def validation(self) -> list[pa.RecordBatch]:
        return [batch.select([*NAMES, "label"]) for batch in self._validation]
