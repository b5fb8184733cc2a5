"""What one rank does for the linear part: reads its rows, drops each down the trees, trains on both. No Spark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from clickmill.models.leaves import Leaves
from clickmill.train.logreg import worker
from clickmill.train.logreg.worker import Fitted
from clickmill.train.ring import Ring
from clickmill.train.sampled import Source
from clickmill.train.watch import Say


@dataclass(frozen=True)
class Task:
    """All that a rank must know: sent to every rank. `linear.columns` end with the leaves' names."""

    leaves: Leaves
    linear: worker.Task


@dataclass(frozen=True)
class WithLeaves:
    """A rank's rows, with the leaves beside them."""

    source: Source
    leaves: Leaves

    def training(self) -> Iterator[pa.RecordBatch]:
        return map(self.leaves.beside, self.source.training())

    def validation(self) -> Iterator[pa.RecordBatch]:
        return map(self.leaves.beside, self.source.validation())


def fit(source: Source, ring: Ring, task: Task, *, say: Say | None = None) -> Fitted:
    """As `logreg.worker.fit`, and raises what it raises."""
    return worker.fit(WithLeaves(source, task.leaves), ring, task.linear, say=say)
