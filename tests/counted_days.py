"""The small days of `judged_day` as a model that eats encodings needs them: features, sample and encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import judged_day
import pyarrow as pa
import pyarrow.compute as pc
import running

from clickmill.config import Config

if TYPE_CHECKING:
    from clickmill.tables import Tables

DAYS = judged_day.days(4)
LOG = judged_day.features(DAYS, 6000)
TEST = LOG.filter(pc.equal(LOG["ds"], pa.scalar(DAYS[3]))).combine_chunks().to_batches()[0]


def config(tables: Tables, *, train: str = "1d", **models: Any) -> Config:
    """Validation and test time are the last two days, train time the one before, or more."""
    return Config.model_validate(
        {
            "dataset": judged_day.DATASET.model_dump(),
            "warehouse": tables.warehouse,
            "sampling": {"keep_rate": 0.5},
            "split": {"train": train},
            "models": models,
        }
    )


def prepared(tables: Tables, log: pa.Table = LOG) -> Tables:
    """The tables as a later run sees them, with features, sample and encodings of the four days of a log."""
    from clickmill.jobs import downsample, encode
    from clickmill.tables import Tables as Fresh

    judged_day.write_features(tables, log)
    for job in (downsample.JOB, encode.JOB):
        running.run(Fresh(tables.spark, tables.warehouse, run_id=job.name), job, config(tables), DAYS)
    return Fresh(tables.spark, tables.warehouse, run_id="run-of-the-test")
