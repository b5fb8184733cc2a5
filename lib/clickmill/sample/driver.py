"""features → sample on Spark."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from clickmill.config import Sampling
from clickmill.sample import worker
from clickmill.tables import ByWorkers


def downsample(features: DataFrame, sampling: Sampling) -> ByWorkers:
    """Every click and a keyed `keep_rate` share of the non-clicks; the same rows whatever the partitioning."""
    keep = partial(
        worker.keep_batches, keep_rate=sampling.keep_rate, seed=sampling.seed, sample_id=sampling.sample_id
    )
    return ByWorkers(
        features,
        keep,
        pa.schema([*to_arrow_schema(features.schema, timezone="UTC"), *pa.schema(list(worker.ADDED))]),
    )
