"""features → sample on Spark."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from clickmill.config import Sampling
from clickmill.sample import worker


def downsample(features: DataFrame, sampling: Sampling) -> DataFrame:
    """Every click and a keyed `keep_rate` share of the non-clicks; the same rows whatever the partitioning."""
    added = from_arrow_schema(pa.schema(list(worker.ADDED)))
    keep = partial(
        worker.keep_batches, keep_rate=sampling.keep_rate, seed=sampling.seed, sample_id=sampling.sample_id
    )
    return features.mapInArrow(keep, StructType([*features.schema, *added]))
