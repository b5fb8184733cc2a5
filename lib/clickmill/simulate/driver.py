"""The simulated log, as rows that workers make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from clickmill.config import Simulate
from clickmill.session import slots
from clickmill.simulate import worker
from clickmill.tables import ByWorkers

TASK_BLOCKS = 25
"""Blocks a task makes at most: Spark's own writer sorts a task's rows by day, so that this bounds its memory."""


def simulate(spark: SparkSession, conf: Simulate, days: Sequence[date]) -> ByWorkers:
    """The rows of these days; the same for any number of partitions."""
    world = worker.World(
        conf.seed, conf.users, conf.drift, conf.new_value_share, conf.rows_per_day, affinity=conf.affinity
    )
    world = replace(world, intercept=worker.intercept_for(world, conf.ctr))
    blocks = worker.blocks_a_day(world)
    first = min(days)
    wanted = [(day - first).days for day in days]
    span = (max(wanted) + 1) * blocks
    tasks = conf.partitions or max(slots(spark), -(-span // TASK_BLOCKS))
    numbers = spark.range(0, span, 1, min(tasks, span))
    if len(set(wanted)) * blocks < span:
        numbers = numbers.where(F.floor(F.col("id") / blocks).isin(wanted))
    return ByWorkers(numbers, partial(worker.rows, world=world, first=first), worker.RAW_LOG)
