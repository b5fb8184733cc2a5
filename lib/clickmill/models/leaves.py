"""The leaf that each tree puts a row into, as a slot's value: `t17=leaf5` (He et al. 2014)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.hashing import hash_slot
from clickmill.models.trees import booster_from
from clickmill.models.xgboost import Inputs, Matrix

if TYPE_CHECKING:
    from xgboost import Booster


@dataclass(frozen=True)
class Leaves:
    """Trees as columns of hashes. trees: what `Booster.save_raw("ubj")` gave; `t3` is the fourth of them."""

    trees: bytes
    inputs: Inputs

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The column of each tree, and the name that its leaves are hashed under."""
        return tuple(f"t{tree}" for tree in range(len(self._hashes)))

    def hashes(self, batch: pa.RecordBatch) -> NDArray[np.int32]:
        """h(t<tree>, leaf<node>) of n rows' leaves, (trees, n). Raises MissingColumnsError as the trees do."""
        rows = self.inputs.matrix(batch)
        with ThreadPoolExecutor(1) as alone:  # XGBoost's ring is a thread's own, and a DMatrix made in it waits
            nodes = alone.submit(self._nodes, rows).result()  # for those of the other ranks, who may have no batch
        return np.stack([known[nodes[:, tree]] for tree, known in enumerate(self._hashes)])

    def _nodes(self, rows: Matrix) -> NDArray[np.int32]:
        """The leaf of n rows in each tree, (n, trees)."""
        from xgboost import DMatrix

        matrix = DMatrix(rows, feature_names=list(self.inputs.names), nthread=1)
        found = self._booster.predict(matrix, pred_leaf=True)
        return np.asarray(found, np.int32).reshape(len(rows), len(self._hashes))

    def beside(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with a column of hashes for each tree."""
        if not batch.num_rows:
            columns: list[Any] = [pa.array([], pa.int32()) for _ in self.names]
        else:
            columns = [pa.array(column) for column in self.hashes(batch)]
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], names=[*batch.schema.names, *self.names])

    @cached_property
    def _booster(self) -> Booster:
        return booster_from(self.trees)

    @cached_property
    def _hashes(self) -> list[NDArray[np.int32]]:
        """By tree, of each of its nodes."""
        model = json.loads(bytes(self._booster.save_raw("json")))["learner"]["gradient_booster"]["model"]
        sizes = [int(tree["tree_param"]["num_nodes"]) for tree in model["trees"]]
        leaf = [f"leaf{node}" for node in range(max(sizes, default=0))]
        return [hash_slot(f"t{tree}", leaf[:size]) for tree, size in enumerate(sizes)]

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to workers: not what each process makes of it."""
        return {"trees": self.trees, "inputs": self.inputs}
