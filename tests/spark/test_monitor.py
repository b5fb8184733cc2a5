"""monitor: a day's rows against train time and the day before, from tables to `drift`."""

from __future__ import annotations

from datetime import timedelta

import judged_day
import numpy as np
import pyarrow as pa
import pytest
from judged_day import DATASET, DS
from running import run

from clickmill.config_files import load
from clickmill.errors import MissingTableError
from clickmill.jobs.monitor import JOB
from clickmill.tables import Tables


@pytest.fixture
def cfg():
    made = load(["datasets/simulated.yaml"], ["judge.unit=impression", "judge.slices=[]"])
    conf = made.monitor.model_copy(update={"rows": 3000})
    return made.model_copy(update={"dataset": DATASET, "models": {}, "monitor": conf})


@pytest.fixture
def tables(spark, tmp_path):
    return Tables(spark, str(tmp_path), run_id="r")


def drifted(log: pa.Table) -> pa.Table:
    """The log whose last day has ads that nobody has seen."""
    last = np.array(log["ds"]) == np.datetime64(DS)
    hashes = np.where(last, log["s_ad"].to_numpy() + 12345, log["s_ad"].to_numpy()).astype(np.int32)
    return log.set_column(log.schema.get_field_index("s_ad"), "s_ad", pa.array(hashes, pa.int32()))


def test_replaced_values_ask_for_training_and_a_rerun_says_the_same(tables, cfg):
    judged_day.write_features(tables, drifted(judged_day.features(judged_day.days(10), 600)))
    first = run(tables, JOB, cfg, [DS])
    assert first.result["drift"]["verdict"] == "retrain"
    assert first.result["drift"]["sentences"][0].startswith("s_ad: ")
    again = Tables(tables.spark, tables.warehouse, run_id="r")
    run(again, JOB, cfg, [DS])
    found = [Tables(tables.spark, tables.warehouse, run_id="").rows("drift", version=at) for at in (1, 2)]
    key = lambda row: (row["against"], row["column"], row["statistic"])  # noqa: E731
    assert sorted(found[0], key=key) == sorted(found[1], key=key)
    assert {row["against"] for row in found[0]} == {"train", "day_before"}


def test_a_day_like_those_before_is_none(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(10), 600))
    assert run(tables, JOB, cfg, [DS]).result["drift"] == {"verdict": "none", "sentences": []}


def test_a_day_without_rows_is_wrong_input(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(2), 100))
    with pytest.raises(MissingTableError):
        run(tables, JOB, cfg, [DS + timedelta(days=1)])
    with pytest.raises(MissingTableError, match="no rows in 2026-01-02"):
        run(tables, JOB, cfg, [DS])
