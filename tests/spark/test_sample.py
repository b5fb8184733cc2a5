"""The keyed sample on Spark and Delta: the same rows however they lie, nested, two rates side by side."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
import stored
from scipy.stats import binom

from clickmill.config import Config, Sampling
from clickmill.errors import KeepRateError
from clickmill.sampling import single_keep_rate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from clickmill.tables import Tables

DAY = date(2026, 1, 1)
N = 6000
CLICKS = 300


@pytest.fixture(scope="module")
def features(spark: SparkSession) -> DataFrame:
    log = pa.table(
        {
            "event_id": [f"e{k}" for k in range(N)],
            "event_time": pa.array([datetime(2026, 1, 1, 3, tzinfo=UTC)] * N, pa.timestamp("us", tz="UTC")),
            "label": pa.array((np.arange(N) < CLICKS).astype(np.int8)),
            "s_site": pa.array(np.random.default_rng(1).integers(-(2**31), 2**31, N).astype(np.int32)),
            "n_price": pa.array([None if k % 3 else float(k) for k in range(N)], pa.float32()),
            "ds": pa.array([DAY] * N),
        }
    )
    return spark.createDataFrame(log)


def sampled(frame: DataFrame, keep_rate: float, seed: int = 42) -> pa.Table:
    from clickmill.sample.driver import downsample
    from clickmill.tables import Scan

    table = downsample(Scan.of(frame), Sampling(keep_rate=keep_rate, seed=seed)).rows().toArrow()
    return table.sort_by("event_id").combine_chunks()


def downsample_job(tables: Tables, keep_rate: float) -> None:
    from clickmill.jobs.downsample import JOB

    dataset = {
        "name": "mine",
        "source": {"path": "x", "format": "parquet"},
        "label": "click",
        "event_time": {"kind": "column", "column": "at"},
        "slots": ["site"],
        "numbers": ["price"],
    }
    cfg = Config.model_validate(
        {"dataset": dataset, "warehouse": tables.warehouse, "sampling": {"keep_rate": keep_rate}}
    )
    running.run(tables, JOB, cfg, (DAY,))


def test_partitions_and_a_shuffle_change_no_row(features):
    from pyspark.sql import functions as F

    expected = sampled(features, 0.2)
    for frame in (features.coalesce(1), features.repartition(3), features.repartition(17)):
        assert sampled(frame, 0.2) == expected
    assert sampled(features.orderBy(F.rand(5)), 0.2) == expected


def test_samples_are_nested_and_keep_every_click(features):
    kept = {rate: set(sampled(features, rate)["event_id"].to_pylist()) for rate in (0.02, 0.2, 0.7)}
    assert kept[0.02] < kept[0.2] < kept[0.7]
    assert {f"e{k}" for k in range(CLICKS)} <= kept[0.02]
    for rate, ids in kept.items():
        low, high = binom.interval(0.999, N - CLICKS, rate)
        assert low <= len(ids) - CLICKS <= high


def test_rate_one_is_the_identity(features):
    whole = sampled(features, 1.0)
    assert whole.select(features.columns) == features.toArrow().sort_by("event_id").combine_chunks()
    assert set(whole["weight"].to_pylist()) == {1.0}


def test_rates_live_side_by_side_and_never_mix(tables, features):
    tables.write("features", features, replace={"ds": DAY})
    for rate in (0.3, 0.05):
        downsample_job(tables, rate)
    downsample_job(tables, 0.3)  # a rerun
    mixed = stored.table(tables.warehouse, "sample")
    for rate in (0.05, 0.3):
        rows = mixed.filter(pc.equal(mixed["sample_id"], f"w{rate:g}-s42"))
        assert single_keep_rate(rows["keep_rate"].to_pylist()) == rate
        weight = np.where(rows["label"].to_numpy() == 1, 1.0, 1.0 / rate)
        assert (rows["weight"].to_numpy() == weight).all()
        assert rows.num_rows == sampled(features, rate).num_rows
    with pytest.raises(KeepRateError, match="must not mix"):
        single_keep_rate(mixed["keep_rate"].to_pylist())
