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
from clickmill.errors import MissingColumnsError, MissingTableError
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


def crowned(tables: Tables, ne: dict[int, tuple[float, float, float]], *, back: int = 1, number: int = 1) -> None:
    """A champion of a day before DS, which it has learned from, that has that NE so many days before DS."""
    day = DS - timedelta(days=back)
    midnight = datetime(day.year, day.month, day.day)
    train = [midnight.isoformat(), (midnight + timedelta(days=1)).isoformat()]
    name = f"best{number}"
    model = judged_day.save_model(tables.warehouse, name, ds=day) | {"stretches": json.dumps({"train": train})}
    tables.write("models", [model], replace={"ds": day, "name": name})
    verdict = {"ds": day, "at": datetime.now(UTC), "run_id": "r", "promoted": True, "promotion": number}
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


def test_a_champion_that_has_learned_from_the_day_itself_leaves_it_to_the_day_before(tables, cfg):
    judged_day.write_features(tables, drifted(judged_day.features(judged_day.days(10), 600)))
    crowned(tables, {}, back=0)
    found = run(tables, JOB, cfg, [DS]).result["drift"]
    assert (found["verdict"], found["sentences"][0][:6]) == ("retrain", "s_ad: ")
    said = Tables(tables.spark, tables.warehouse, run_id="").rows("drift")
    assert "psi" not in {row["statistic"] for row in said if row["against"] == "train"}


def test_a_champion_is_held_against_its_own_day(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(10), 600))
    crowned(tables, {1: (0.8, 0.75, 0.85), 0: (0.96, 0.9, 1.0)})
    assert run(tables, JOB, cfg, [DS]).result["drift"]["verdict"] == "retrain"
    said = {row["statistic"]: row for row in Tables(tables.spark, tables.warehouse, run_id="").rows("drift")}
    found = [said["ne_loss"][end] for end in ("value", "low", "high")]
    low = 0.2 - np.hypot(0.06, 1.2 * 0.05) / 0.8
    np.testing.assert_allclose(found, [0.2, low, 0.2 + np.hypot(0.04, 1.2 * 0.05) / 0.8])
    assert said["ne"]["value"] == 0.96
    assert (said["calibration_ratio"]["value"], said["calibration_ratio"]["verdict"]) == (1.0, "none")


def test_the_champion_is_that_of_the_day_and_held_against_its_own_promotion(tables, cfg):
    judged_day.write_features(tables, drifted(judged_day.features(judged_day.days(10), 600), days=3))
    crowned(tables, {5: (0.5, 0.4, 0.6)}, back=5)
    crowned(tables, {2: (0.8, 0.75, 0.85), 0: (0.84, 0.8, 0.9)}, back=2, number=2)
    crowned(tables, {}, back=-1, number=3)
    found = run(tables, JOB, cfg, [DS]).result["drift"]
    assert found == {"verdict": "none", "sentences": []}, "the second, which has learned from the new ads"
    said = {row["statistic"]: row for row in Tables(tables.spark, tables.warehouse, run_id="").rows("drift")}
    assert said["ne_loss"]["value"] == pytest.approx(0.05)


def test_a_day_replaces_its_own_rows_alone(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(4), 600))
    for day in (DS - timedelta(days=1), DS, DS):
        run(Tables(tables.spark, tables.warehouse, run_id="r"), JOB, cfg, [day])
    rows = Tables(tables.spark, tables.warehouse, run_id="").rows("drift")
    keys = [(row["ds"], row["against"], row["column"], row["statistic"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row["ds"] for row in rows} == {DS - timedelta(days=1), DS}


def test_a_slot_that_earlier_days_lack_is_wrong_input_that_says_what_to_run(tables, cfg):
    log = judged_day.features(judged_day.days(3), 300)
    lacks = np.array(log["ds"]) < np.datetime64(DS)
    site = pa.array(np.where(lacks, 0, 7).astype(np.int32), mask=lacks)
    judged_day.write_features(tables, log.append_column("s_site", site))
    dataset = DATASET.model_copy(update={"slots": ("ad", "site")})
    with pytest.raises(MissingColumnsError, match=r"s_site is null .* run build_features for them .*2026-01-08"):
        run(tables, JOB, cfg.model_copy(update={"dataset": dataset}), [DS])


def test_no_more_rows_are_drawn_than_asked_for_and_the_same_again(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(2), 6000))
    draw = [drawn(tables, cfg.monitor, day_of(DS), columns=["event_id", "label"]).rows for _ in range(2)]
    assert draw[0].equals(draw[1])
    assert abs(len(draw[0]) - 3000) < 200, "five standard deviations of a share of a half"


def test_a_day_without_rows_is_wrong_input(tables, cfg):
    judged_day.write_features(tables, judged_day.features(judged_day.days(2), 100))
    with pytest.raises(MissingTableError):
        run(tables, JOB, cfg, [DS + timedelta(days=1)])
    with pytest.raises(MissingTableError, match="no rows in 2026-01-02"):
        run(tables, JOB, cfg, [DS])
