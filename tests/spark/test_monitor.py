"""monitor: a day's rows against train time and the day before, from tables to `drift`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import judged_day
import numpy as np
import pyarrow as pa
import pytest
from judged_day import DATASET, DS
from running import run

from clickmill.config_files import load
from clickmill.errors import MissingTableError
from clickmill.jobs.monitor import JOB
from clickmill.monitor.driver import day_of, drawn
from clickmill.schema import EVERYTHING, LAST_STAGE
from clickmill.scoring import Contender
from clickmill.tables import Tables


@pytest.fixture
def cfg():
    made = load(["datasets/simulated.yaml"], ["judge.unit=impression", "judge.slices=[]"])
    conf = made.monitor.model_copy(update={"rows": 3000})
    return made.model_copy(update={"dataset": DATASET, "models": {}, "monitor": conf})


@pytest.fixture
def tables(spark, tmp_path):
    return Tables(spark, str(tmp_path), run_id="r")


def drifted(log: pa.Table, *, days: int = 1) -> pa.Table:
    """The log whose last days have ads that nobody has seen."""
    last = np.array(log["ds"]) > np.datetime64(DS - timedelta(days=days))
    hashes = np.where(last, log["s_ad"].to_numpy() + 12345, log["s_ad"].to_numpy()).astype(np.int32)
    return log.set_column(log.schema.get_field_index("s_ad"), "s_ad", pa.array(hashes, pa.int32()))


def crowned(tables: Tables, ne: dict[int, tuple[float, float, float]]) -> None:
    """A champion that has learned from the day before DS, and has that NE so many days before DS."""
    day = DS - timedelta(days=1)
    noon = datetime(day.year, day.month, day.day)
    train = [noon.isoformat(), (noon + timedelta(days=1)).isoformat()]
    model = judged_day.save_model(tables.warehouse, "best", ds=day) | {"stretches": json.dumps({"train": train})}
    tables.write("models", [model], replace={"ds": day, "name": "best"})
    verdict = {"ds": day, "at": datetime.now(UTC), "run_id": "r", "promoted": True, "promotion": 1}
    tables.append("decisions", [verdict | {"champion_model": Contender.of(model).to_json()}])
    for back, (value, low, high) in ne.items():
        keys = {"ds": DS - timedelta(days=back), "model_id": model["model_id"]}
        own = {**keys, "stage": LAST_STAGE, "slice": EVERYTHING, "traffic": "full", "run_id": "r"}
        judged = [own | {"metric": "ne", "value": value, "low": low, "high": high}]
        judged.append(own | {"metric": "calibration_ratio", "value": 1.0, "low": 0.95, "high": 1.05})
        tables.write("metrics", judged, replace=keys)


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


def test_what_the_champion_has_learned_from_is_no_drift(tables, cfg):
    judged_day.write_features(tables, drifted(judged_day.features(judged_day.days(10), 600), days=2))
    assert run(tables, JOB, cfg, [DS]).result["drift"]["verdict"] == "retrain"
    later = Tables(tables.spark, tables.warehouse, run_id="r")
    crowned(later, {})
    assert run(later, JOB, cfg, [DS]).result["drift"] == {"verdict": "none", "sentences": []}


def test_a_champion_is_held_against_its_own_day(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(10), 600))
    crowned(tables, {1: (0.8, 0.75, 0.85), 0: (0.96, 0.9, 1.0)})
    assert run(tables, JOB, cfg, [DS]).result["drift"]["verdict"] == "retrain"
    said = {row["statistic"]: row for row in Tables(tables.spark, tables.warehouse, run_id="").rows("drift")}
    found = [said["ne_loss"][end] for end in ("value", "low", "high")]
    np.testing.assert_allclose(found, [0.2, 0.125, 0.25])
    assert said["ne"]["value"] == 0.96
    assert (said["calibration_ratio"]["value"], said["calibration_ratio"]["verdict"]) == (1.0, "none")


def test_no_more_rows_are_drawn_than_asked_for_and_the_same_again(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(2), 6000))
    draw = [drawn(tables, cfg, day_of(DS), columns=["event_id", "label"]).rows for _ in range(2)]
    assert draw[0].equals(draw[1])
    assert abs(len(draw[0]) - 3000) < 200, "five standard deviations of a share of a half"


def test_a_day_without_rows_is_wrong_input(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(2), 100))
    with pytest.raises(MissingTableError):
        run(tables, JOB, cfg, [DS + timedelta(days=1)])
    with pytest.raises(MissingTableError, match="no rows in 2026-01-02"):
        run(tables, JOB, cfg, [DS])
