"""Barrier stages: ranks join, sum, fail by name, and are missed when killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from pyspark import cloudpickle

from clickmill.errors import KeepRateError, NotEnoughSlotsError, RankError
from clickmill.train import driver
from clickmill.train.report import report
from clickmill.train.ring import Ring

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Batches = Iterator[pa.RecordBatch]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have no tests on their path


def _sums(_: Batches, ring: Ring) -> Batches:
    values = np.random.default_rng(ring.rank).normal(size=100_000)
    first, again = ring.sum(values), ring.sum(values)
    yield report(ring.rank, "sum", value=[ring.size, first.sum(), bool(np.array_equal(first, again))])


def _fails(_: Batches, ring: Ring, *, how: str, who: int) -> Batches:
    ring.sum(np.ones(3))
    if ring.rank == who:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "input":
            raise KeepRateError("two rates")
        raise ValueError(f"the fault of {who}")
    for _i in range(1000):
        ring.sum(np.ones(10))
        time.sleep(0.05)
    yield report(ring.rank, "done")


def test_ranks_sum_the_same_bits_each_time(spark: SparkSession) -> None:
    for size in (1, 3):
        rows = driver.run(spark, _sums, ranks=size)
        assert [row.rank for row in rows] == list(range(size))
        expected = sum(np.random.default_rng(rank).normal(size=100_000).sum() for rank in range(size))
        for row in rows:
            assert row.value[0] == size
            assert row.value[1] == pytest.approx(expected)
            assert row.value[1:] == rows[0].value[1:]
            assert row.value[2]


def test_more_ranks_than_slots_are_refused_before_the_stage_starts(spark: SparkSession) -> None:
    with pytest.raises(NotEnoughSlotsError, match="5 ranks need 5 slots, and Spark has 4"):
        driver.run(spark, _sums, ranks=5)


def _one_failure(spark: SparkSession, how: str, who: int, ranks: int) -> None:
    start = time.monotonic()
    kind, words = {
        "raise": (RankError, f"rank {who} failed: ValueError: the fault of {who}"),
        "input": (KeepRateError, "two rates"),
        "kill": (RankError, f"rank {who} was killed"),
    }[how]
    with pytest.raises(kind, match=words):
        driver.run(spark, partial(_fails, how=how, who=who), ranks=ranks)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("how", ["raise", "input", "kill"])
@pytest.mark.parametrize("who", [0, 1])
def test_the_error_is_that_of_the_rank_that_failed(spark: SparkSession, how: str, who: int) -> None:
    _one_failure(spark, how, who, 2)


def _busy(_: Batches, ring: Ring) -> Batches:
    if ring.rank == 1:
        raise ValueError("the fault of 1")
    time.sleep(120)  # as long as a large shard takes to read
    yield report(ring.rank, "done")


def test_a_rank_that_fails_while_another_is_far_from_the_next_sum_ends_the_job(spark: SparkSession) -> None:
    start = time.monotonic()
    with pytest.raises(RankError, match="rank 1 failed: ValueError: the fault of 1"):
        driver.run(spark, _busy, ranks=2)
    assert time.monotonic() - start < 30


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "kill"])
def test_it_is_the_right_error_ten_times_of_ten(spark: SparkSession, how: str) -> None:
    for attempt in range(10):
        _one_failure(spark, how, attempt % 3, 3)
