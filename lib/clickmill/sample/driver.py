"""features → sample on Spark."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from clickmill.config import Sampling
from clickmill.sample import worker
from clickmill.tables import ByWorkers, Scan


def downsample(features: Scan, sampling: Sampling) -> ByWorkers:
    """Every click and a keyed `keep_rate` share of the non-clicks; the same rows whatever the partitioning."""
    keep = partial(
        worker.keep_batches, keep_rate=sampling.keep_rate, seed=sampling.seed, sample_id=sampling.sample_id
    )
    return features.through(keep, pa.schema([*features.schema, *pa.schema(list(worker.ADDED))]))
