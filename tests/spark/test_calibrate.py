"""The job `calibrate` on Spark and Delta."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import judged_day
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
import stored
from judged_day import DS, save_model

from clickmill.calibration import Calibrator
from clickmill.config import Config
from clickmill.errors import MissingColumnsError, MissingTableError, NoRowsError, OverlapError
from clickmill.scoring import Contender

if TYPE_CHECKING:
    from clickmill.tables import Tables

SPLIT = {"train": "1d", "validation": "1d", "test": "1d"}


def calibrate(tables: Tables, *names: str) -> dict[str, dict[str, Any]]:
    """Runs the job; the day's rows of `calibrations` by model id."""
    from clickmill.jobs.calibrate import JOB

    spec: dict[str, Any] = {"kind": "logreg", "bits": 22}
    cfg = Config.model_validate(
        {
            "dataset": judged_day.DATASET.model_dump(),
            "warehouse": tables.warehouse,
            "models": dict.fromkeys(names, spec),
            "split": SPLIT,
        }
    )
    running.run(tables, JOB, cfg, judged_day.days(3), names)
    return {row["model_id"]: row for row in stored.rows(tables.warehouse, "calibrations") if row["ds"] == DS}


def write(tables: Tables, log: pa.Table, *models: dict[str, Any], ds: Any = DS) -> None:
    judged_day.write_features(tables, log)
    tables.write("models", list(models), replace={"ds": ds})


def decision(model: dict[str, Any], *, ds: Any = DS, promoted: bool = True) -> dict[str, Any]:
    from datetime import UTC, datetime

    return {
        "ds": ds,
        "at": datetime(2026, 1, 11, tzinfo=UTC),
        "run_id": "r",
        "challenger": model["model_id"],
        "champion": model["model_id"],
        "champion_digest": model["digest"],
        "champion_model": Contender.of(model).to_json(),
        "promoted": promoted,
        "promotion": 1,
    }


def test_the_right_model_is_left_alone_and_the_distorted_one_is_put_right(tables: Tables) -> None:
    right = save_model(tables.warehouse, "right")
    wrong = save_model(tables.warehouse, "wrong", slope=1.4, shift=1.5)
    write(tables, judged_day.features(judged_day.days(3), 4000), right, wrong)
    found = calibrate(tables, "right", "wrong")
    assert found[right["model_id"]]["method"] == "none"
    row = found[wrong["model_id"]]
    assert row["method"] == "platt"
    assert row["rows"] == 4000  # validation time alone, at full traffic
    assert json.loads(row["stretch"])[0].startswith("2026-01-09")
    assert set(json.loads(row["candidates"])) == {"none", "platt"}
    written = json.loads((Path(wrong["artifact"]).parent / "calibration.json").read_text())
    assert written["calibration_id"] == row["calibration_id"]
    assert written["artifact"] == wrong["digest"]
    assert written["calibrator"] == json.loads(row["parameters"])
    calibrator = Calibrator.from_dict(written["calibrator"])
    assert calibrator.slope == pytest.approx(1 / 1.4, abs=0.15)


def test_a_backfill_does_not_turn_back_the_calibration_that_serves(tmp_path: Path) -> None:
    from datetime import datetime, timedelta

    from clickmill.calibrate.driver import Calibrated
    from clickmill.calibrate.fit import Choice
    from clickmill.scoring import Contender
    from clickmill.split import Stretch

    row = save_model(str(tmp_path), "lr")
    contender = Contender(
        **{key: row[key] for key in ("model_id", "name", "kind", "artifact", "digest", "correction", "keep_rate")}
    )
    served = {}
    for day in (5, 2, 7):
        start = datetime(2026, 1, day)
        choice = Choice(Calibrator("platt", slope=float(day)), {})
        Calibrated(contender, choice, Stretch(start, start + timedelta(days=1)), 10, 1).write()
        written = json.loads((Path(row["artifact"]).parent / "calibration.json").read_text())
        served[day] = written["calibrator"]["slope"]
    assert served == {5: 5.0, 2: 5.0, 7: 7.0}


def test_a_champion_whose_day_was_trained_again_keeps_its_calibration(tables: Tables) -> None:
    """Either of the two artifacts may serve; the folder of their model id stands for the newer one."""
    from clickmill.score.scorer import load

    champion = save_model(tables.warehouse, "lr", slope=0.7)
    again = save_model(tables.warehouse, "lr", slope=1.4, shift=1.5)
    write(tables, judged_day.features(judged_day.days(3), 2000), again)
    tables.append("decisions", [decision(champion)])
    found = calibrate(tables, "lr")
    assert {row["artifact"] for row in found.values()} == {champion["digest"], again["digest"]}
    for row in found.values():
        folder = Path(again["artifact"]).parent
        assert load(folder / row["artifact"]).calibrator == Calibrator.from_dict(json.loads(row["parameters"]))
    assert load(folder).calibrator == load(folder / again["digest"]).calibrator


def test_nothing_is_calibrated_on_time_that_it_was_trained_on(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr")
    model["stretches"] = json.dumps({"train": ["2026-01-08T00:00:00", "2026-01-09T05:00:00"]})
    write(tables, judged_day.features(judged_day.days(3), 50), model)
    with pytest.raises(OverlapError, match="2026-01-09 05:00, and validation time is 2026-01-09"):
        calibrate(tables, "lr")


def test_a_rerun_and_another_partitioning_give_the_same_rows(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr", slope=1.4, shift=1.5)
    write(tables, judged_day.features(judged_day.days(3), 2000), model)
    first = calibrate(tables, "lr")
    shuffled = tables.read("features").repartition(7)
    tables.write("features", shuffled, replace={"ds": judged_day.days(3)})
    assert calibrate(tables, "lr") == first


def test_the_champion_is_calibrated_too(tables: Tables) -> None:
    days = judged_day.days(3)
    today = save_model(tables.warehouse, "lr", slope=1.4, shift=1.5)
    champion = save_model(tables.warehouse, "old", slope=0.7, ds=days[1])
    refused = save_model(tables.warehouse, "refused", ds=days[1])
    write(tables, judged_day.features(days, 2000), today)
    tables.write("models", [champion, refused], replace={"ds": days[1]})
    verdicts = [decision(champion, ds=days[0]), decision(refused, ds=days[1], promoted=False)]
    tables.append("decisions", verdicts)
    assert set(calibrate(tables, "lr")) == {today["model_id"], champion["model_id"]}


def test_the_champion_as_of_a_day_is_that_of_the_latest_day_not_after_it(tables: Tables) -> None:
    from clickmill.champion import champion, contenders

    days = judged_day.days(3)
    models = [save_model(tables.warehouse, name, ds=day) for name, day in zip("abc", days, strict=True)]
    tables.write("models", models, replace={"ds": days})
    assert champion(tables, DS) is None
    tables.append("decisions", [decision(models[2], ds=days[2]), decision(models[0], ds=days[0])])
    tables.append("decisions", [decision(models[1], ds=days[1])])  # a backfill
    named = [champion(tables, day) for day in days]
    assert [one.name for one in named if one is not None] == ["a", "b", "c"]
    assert [one.name for one in contenders(tables, DS, ["c"])] == ["c", "b"]


def test_what_is_missing_is_named(tables: Tables) -> None:
    log = judged_day.features(judged_day.days(3), 50)
    write(tables, log.filter(pc.not_equal(log["ds"], judged_day.days(2)[0])), save_model(tables.warehouse, "lr"))
    with pytest.raises(MissingTableError, match="no model called other"):
        calibrate(tables, "lr", "other")
    with pytest.raises(NoRowsError, match="validation time"):
        calibrate(tables, "lr")


def test_a_column_that_a_model_needs_and_features_lack_is_named(tables: Tables) -> None:
    write(tables, judged_day.features(judged_day.days(3), 50).drop(["s_ad"]), save_model(tables.warehouse, "lr"))
    with pytest.raises(MissingColumnsError, match="needs s_ad"):
        calibrate(tables, "lr")
