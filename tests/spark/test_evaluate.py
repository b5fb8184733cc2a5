"""The job `evaluate` on Spark and Delta: what it writes against the in-memory figures of the same rows."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import judged_day
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
import stored
from judged_day import DS, KEEP_RATE, save_model

from clickmill import metrics
from clickmill.calibration import Calibrator, prior_correction
from clickmill.config import Config, Sampling
from clickmill.errors import MissingColumnsError, MissingTableError, OverlapError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickmill.job import Run
    from clickmill.tables import Tables

PLATT = Calibrator("platt", slope=0.9, shift=-0.1)
FIGURES = {
    "log_loss": metrics.log_loss,
    "ne": metrics.normalized_entropy,
    "rig": metrics.relative_information_gain,
    "calibration_ratio": metrics.calibration_ratio,
    "brier": metrics.brier_score,
    "ece": metrics.expected_calibration_error,
    "auc": metrics.roc_auc,
    "auc_pr": metrics.average_precision,
}


def evaluate(tables: Tables, *names: str, **changes: Any) -> Run:
    from clickmill.jobs.evaluate import JOB

    cfg = Config.model_validate(
        {
            "dataset": judged_day.DATASET.model_dump(),
            "warehouse": tables.warehouse,
            "models": {name: {"kind": "logreg", "bits": 22} for name in names},
            "split": {"train": "1d", "validation": "1d", "test": "2d"},
            "sampling": {"keep_rate": 0.3},
            **changes,
        }
    )
    return running.run(tables, JOB, cfg, judged_day.days(4), names)


def prepare(tables: Tables, log: pa.Table, *models: dict[str, Any], calibrator: Calibrator = PLATT) -> None:
    judged_day.write_features(tables, log)
    tables.write("models", list(models), replace={"ds": DS})
    rows = [
        {
            "ds": DS,
            "model_id": model["model_id"],
            "run_id": "r",
            "calibration_id": "c-" + model["name"],
            "artifact": model["digest"],
            "stretch": json.dumps(["2026-01-08T00:00:00", "2026-01-09T00:00:00"]),
            "method": calibrator.method,
            "parameters": json.dumps(calibrator.to_dict()),
        }
        for model in models
    ]
    tables.write("calibrations", rows, replace={"ds": DS, "model_id": [row["model_id"] for row in rows]})


def figures(tables: Tables, model_id: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    rows = [
        row for row in stored.rows(tables.warehouse, "metrics") if (row["ds"], row["model_id"]) == (DS, model_id)
    ]
    return {(row["slice"], row["stage"], row["metric"]): row for row in rows}


def test_figures_are_those_of_the_rows_in_memory_for_every_model_at_every_stage(tables: Tables) -> None:
    log = judged_day.features(judged_day.days(3), 2000)
    right = save_model(tables.warehouse, "right")
    close = save_model(tables.warehouse, "close", slope=0.002, shift=-3.0)  # all scores within 0.02 logits
    prepare(tables, log, right, close)
    run = evaluate(tables, "right", "close")

    test = log.filter(pa.compute.is_in(log["ds"], pa.array(judged_day.days(2))))
    label, truth = test["label"].to_numpy(), test["c_p_true"].to_numpy()
    predictions = stored.table(tables.warehouse, "predictions")
    for model in (right, close):
        kept = predictions.filter(pc.equal(predictions["model_id"], model["model_id"]))
        assert kept.num_rows == 4000
        p_sampled = dict(zip(kept["event_id"].to_pylist(), kept["p_sampled"].to_pylist(), strict=True))
        first = np.array([p_sampled[event] for event in test["event_id"].to_pylist()])
        prior = prior_correction(first, KEEP_RATE)
        found = figures(tables, model["model_id"])
        for stage, p in (("p_sampled", first), ("prior", prior), ("calibrated", PLATT.apply(prior))):
            for name, exact in FIGURES.items():
                near = 1e-6 if name in ("auc", "auc_pr", "ece") else 1e-12
                assert found["all", stage, name]["value"] == pytest.approx(exact(label, p), abs=near), (
                    stage,
                    name,
                )
            to_truth = found["all", stage, "calibration_to_truth"]["value"]
            assert to_truth == pytest.approx(p.sum() / truth.sum(), rel=1e-12)
        assert found["all", "prior", "n"]["value"] == 4000
        assert {row["traffic"] for row in found.values()} == {"full"}
        of_last_day = found["day=2026-01-10", "prior", "ne"]
        last = test["ds"].to_numpy() == np.datetime64("2026-01-10")
        assert of_last_day["value"] == pytest.approx(
            metrics.normalized_entropy(label[last], prior[last]), rel=1e-12
        )
        assert of_last_day["n"] == 2000
        key = (model["model_id"], "calibrated")
        bins = [
            row for row in stored.rows(tables.warehouse, "reliability") if (row["model_id"], row["stage"]) == key
        ]
        assert sum(row["n"] for row in bins) == pytest.approx(4000)

    shown = {model["name"]: model for model in run.result["models"]}
    assert (
        shown["right"]["metrics"]["ne"]["value"]
        == figures(tables, right["model_id"])["all", "calibrated", "ne"]["value"]
    )
    before = shown["right"]["metrics_uncalibrated"]["calibration_ratio"]["value"]
    assert before == figures(tables, right["model_id"])["all", "p_sampled", "calibration_ratio"]["value"]
    assert before > 4
    assert set(shown["right"]["metrics"]) == {*FIGURES, "calibration_to_truth", "n", "clicks", "ctr"}
    assert run.counts == {"rows_in": 4000, "rows_out": 8000}


def test_a_rerun_on_other_partitions_gives_the_same_figures_and_doubles_nothing(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr")
    prepare(tables, judged_day.features(judged_day.days(2), 1000), model)
    evaluate(tables, "lr")
    first = figures(tables, model["model_id"])
    tables.write("features", tables.read("features").repartition(7), replace={"ds": judged_day.days(2)})
    assert stored.table(tables.warehouse, "predictions").num_rows == 2000
    evaluate(tables, "lr", predictions={"keep": "none"})
    assert stored.table(tables.warehouse, "predictions").num_rows == 0
    second = figures(tables, model["model_id"])
    assert first.keys() == second.keys()
    for key, row in first.items():
        assert second[key]["value"] == pytest.approx(row["value"], rel=1e-12), key


SLICES = [
    {"kind": "values", "column": "user", "top": 2},
    {"kind": "buckets", "column": "price", "edges": [3, 6]},
    {"kind": "seen", "column": "ad"},
    {"kind": "hour"},
]


def test_two_models_are_compared_with_intervals_overall_and_in_slices(tables: Tables) -> None:
    log = judged_day.features(judged_day.days(4), 1500)
    right, off = save_model(tables.warehouse, "right"), save_model(tables.warehouse, "off", slope=0.3, shift=-2.0)
    prepare(tables, log, right, off)
    judge = {"slices": SLICES, "unit": "user", "replicates": 100, "min_clicks": 20}
    evaluate(tables, "right", "off", judge=judge)
    found = figures(tables, right["model_id"])
    for metric in ("log_loss", "ne", "rig", "calibration_ratio", "brier", "auc"):
        row = found["all", "calibrated", metric]
        assert row["low"] < row["value"] < row["high"], metric
        assert (found["all", "prior", metric]["low"], row["reason"]) == (None, None)
    names = {name for name, _, _ in found}
    assert {"all", "day=2026-01-09", "day=2026-01-10", "hour=13", "3<=price<6", "ad=__seen__"} <= names
    assert {"user=__other__", "user=u0", "user=u1"} <= names
    assert "user=__missing__" not in names, "nobody is in it"
    train = log.filter(pc.equal(log["ds"], judged_day.days(4)[0]))
    test = log.filter(pc.is_in(log["ds"], pa.array(judged_day.days(2))))
    unseen = ~np.isin(test["s_ad"].to_numpy(), train["s_ad"].to_numpy())
    assert found["ad=__unseen__", "prior", "n"]["value"] == unseen.sum()
    price = test["n_price"].to_numpy()
    assert found["3<=price<6", "prior", "n"]["value"] == ((price >= 3) & (price < 6)).sum()
    assert found["user=u0", "calibrated", "ne"]["reason"] == "no interval: 1 units, at least 30 are needed"
    compared = {
        (row["model_id"], row["other_id"], row["slice"], row["metric"]): row
        for row in stored.rows(tables.warehouse, "comparisons")
    }
    worse = compared[off["model_id"], right["model_id"], "all", "ne"]
    assert 0 < worse["low"] < worse["difference"] < worse["high"]
    assert worse["difference"] == pytest.approx(
        figures(tables, off["model_id"])["all", "calibrated", "ne"]["value"]
        - found["all", "calibrated", "ne"]["value"]
    )
    assert compared[off["model_id"], right["model_id"], "3<=price<6", "ne"]["verdict"] == "worse"
    bands = [row for row in stored.rows(tables.warehouse, "reliability") if row["model_id"] == right["model_id"]]
    assert all(row["low"] <= row["high"] for row in bands)
    assert sum(row["low"] <= row["ctr"] <= row["high"] for row in bands) > 0.9 * len(bands)


def test_resampled_sums_do_not_hang_on_the_partitioning(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr")
    prepare(tables, judged_day.features(judged_day.days(2), 1000), model)
    judge = {"slices": SLICES[1:2], "replicates": 20}
    evaluate(tables, "lr", judge=judge)
    first = {row["slice"]: row for row in stored.rows(tables.warehouse, "replicates")}
    tables.write("features", tables.read("features").repartition(7), replace={"ds": judged_day.days(2)})
    evaluate(tables, "lr", judge=judge)
    second = {row["slice"]: row for row in stored.rows(tables.warehouse, "replicates")}
    assert (
        first.keys()
        == second.keys()
        == {"all", "day=2026-01-09", "day=2026-01-10", *("price<3", "3<=price<6", "price>=6")}
    )
    for name, row in first.items():
        assert row["judged"] == second[name]["judged"]
        for column in ("weight", "clicks", "p", "loss", "square"):
            np.testing.assert_allclose(row[column], second[name][column], rtol=1e-12)
        assert len(row["loss"]) == 20


def test_the_driver_finds_in_few_rows_what_workers_find(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    from clickmill.evaluate import passes

    models = [save_model(tables.warehouse, name, shift=shift) for name, shift in (("lr", 0.0), ("off", 0.4))]
    prepare(tables, judged_day.features(judged_day.days(2), 1000), *models)
    found = []
    for few in (passes.FEW, 2 * 2000 - 1):  # two models of 2,000 rows: by the driver, and just too many for it
        monkeypatch.setattr(passes, "FEW", few)
        evaluate(tables, "lr", "off", judge={"slices": SLICES, "replicates": 20})
        found.append(
            {
                name: sorted(map(repr, stored.table(tables.warehouse, name).drop("run_id").to_pylist()))
                for name in ("metrics", "reliability", "comparisons", "replicates")
            }
            | {"predictions": sorted(map(repr, stored.table(tables.warehouse, "predictions").to_pylist()))}
        )
    assert found[0] == found[1]
    assert len(found[0]["predictions"]) == 4000


@pytest.mark.parametrize(("parts", "ranges", "most"), [(6, 3, 3), (12, 3, 3), (12, None, 8)])
def test_the_driver_is_sent_no_more_parcels_by_more_partitions(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, parts: int, ranges: int | None, most: int
) -> None:
    from pyspark.sql.pandas.types import from_arrow_schema

    from clickmill.evaluate import worker
    from clickmill.evaluate.cells import Cells
    from clickmill.evaluate.passes import OnSpark

    def cells(part: int, place: int) -> Cells:
        key = np.array([20 * place, 20 * place + 1 + part])
        ones = np.ones(2)
        return Cells(key, key / 1000, key / 1000, ones, 2 * ones, np.ones((2, 3)))

    rows = [("fine", "m", place, cells(part, place).to_bytes()) for part in range(parts) for place in range(3)]
    frame = spark.createDataFrame(rows, from_arrow_schema(worker.PARCELS)).repartition(parts)
    sent: list[Any] = []
    added = worker.added
    monkeypatch.setattr(worker, "added", lambda some: added(sent.extend(some) or sent))
    found = OnSpark(frame, parts).added(ranges)["fine", "m"]
    assert len(sent) <= most < len(rows)
    assert found.key.tolist() == [20 * place + n for place in range(3) for n in range(parts + 1)]
    assert found.clicks.tolist() == ([parts] + [1] * parts) * 3


def test_where_there_is_only_a_sample_its_rows_count_by_their_weights_and_traffic_says_so(tables: Tables) -> None:
    from clickmill.sample.driver import downsample

    model = save_model(tables.warehouse, "lr")
    prepare(tables, judged_day.features(judged_day.days(2), 1000), model)
    kept = downsample(tables.scan("features"), Sampling(keep_rate=0.3))
    tables.write("sample", kept, replace={"ds": judged_day.days(2), "sample_id": "w0.3-s42"})
    full = evaluate(tables, "lr").result["models"][0]["metrics"]
    shutil.rmtree(f"{tables.warehouse}/features")
    found = evaluate(tables, "lr").result["models"][0]["metrics"]
    assert {row["traffic"] for row in figures(tables, model["model_id"]).values()} == {"weighted_sample"}
    said = stored.table(tables.warehouse, "predictions").sort_by("event_id")
    weight = stored.table(tables.warehouse, "sample").sort_by("event_id")["weight"].to_numpy()
    assert 300 < len(said) == len(weight) < 900
    for name in ("log_loss", "ne", "calibration_ratio", "brier", "ece", "auc"):
        exact = FIGURES[name](said["label"].to_numpy(), said["p"].to_numpy(), weight)
        assert found[name]["value"] == pytest.approx(exact, abs=1e-6), name
    for name in ("ne", "calibration_ratio", "brier"):
        assert found[name]["low"] < full[name]["value"] < found[name]["high"], name


def test_a_slice_or_unit_of_a_column_that_is_not_there_is_named(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr")
    log = judged_day.features(judged_day.days(2), 50).drop(["c_user"])
    prepare(tables, log, model)
    with pytest.raises(MissingColumnsError, match=r"need c_user; carry them \(dataset.carry\)"):
        evaluate(tables, "lr", judge={"unit": "user"})


def test_without_clicks_figures_are_absent_with_their_reason(tables: Tables) -> None:
    log = judged_day.features(judged_day.days(2), 300)
    nothing = log.drop(["label", "c_p_true"]).append_column("label", pa.array(np.zeros(600, np.int8)))
    model = save_model(tables.warehouse, "lr")
    prepare(tables, nothing, model)
    run = evaluate(tables, "lr")
    found = figures(tables, model["model_id"])
    for name in ("ne", "auc", "calibration_ratio", "calibration_to_truth"):
        assert found["all", "calibrated", name]["value"] is None
        assert found["all", "calibrated", name]["reason"]
    assert run.result["models"][0]["metrics"]["ne"] == {"value": None, "low": None, "high": None}


def test_a_model_that_was_not_calibrated_is_named(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr")
    prepare(tables, judged_day.features(judged_day.days(2), 50), model)
    other = save_model(tables.warehouse, "other")
    tables.write("models", [model, other], replace={"ds": DS})
    with pytest.raises(MissingTableError, match=r"other-2026-01-10.*run `calibrate` first"):
        evaluate(tables, "lr", "other")


def test_a_calibrator_of_another_artifact_is_not_taken_for_its_own(tables: Tables) -> None:
    model = save_model(tables.warehouse, "lr")
    prepare(tables, judged_day.features(judged_day.days(2), 50), model)
    again = save_model(tables.warehouse, "lr", shift=0.1)  # trained again: the same id
    assert again["model_id"] == model["model_id"]
    tables.write("models", [again], replace={"ds": DS})
    with pytest.raises(MissingTableError, match=r"lr-2026-01-10.* as it is now .*run `calibrate` first"):
        evaluate(tables, "lr")


@pytest.mark.parametrize("learned", ["train", "validation", "calibrator"])
def test_nothing_is_judged_on_time_that_it_learned_from(tables: Tables, learned: str) -> None:
    model = save_model(tables.warehouse, "lr")
    own = {"train": ["2026-01-06T00:00:00", "2026-01-08T00:00:00"]}
    model["stretches"] = json.dumps(own | {learned: ["2026-01-07T00:00:00", "2026-01-09T01:00:00"]})
    prepare(tables, judged_day.features(judged_day.days(2), 50), model)
    if learned == "calibrator":
        rows = tables.rows("calibrations")
        rows[0]["stretch"] = json.dumps(["2026-01-08T00:00:00", "2026-01-09T01:00:00"])
        tables.write("calibrations", rows, replace={"ds": DS, "model_id": model["model_id"]})
    with pytest.raises(
        OverlapError, match=r"learned from data until 2026-01-09 01:00, and test time is 2026-01-09"
    ):
        evaluate(tables, "lr")
