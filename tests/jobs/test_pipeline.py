"""Whole jobs: the chain, its rerun, its verdict, what may not hang on what."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stored
from pyspark.sql import SparkSession
from small import DS, run
from typer.testing import CliRunner

from clickmill import cli
from clickmill.errors import DifferentError, UsageError
from clickmill.jobs import ingest
from clickmill.progress import Progress
from clickmill.reproduce import FOLDER, Finding, reproduce, require_same
from clickmill.runs import latest
from clickmill.tables import Tables

METRICS = {
    "log_loss", "ne", "rig", "calibration_ratio", "ece", "brier", "auc", "auc_pr", "calibration_to_truth", "n",
    "clicks", "ctr",
}  # fmt: skip
OWN = ("run_id", "seconds", "artifact", "versions", "training")
"""Columns in which two equal runs may differ."""


@pytest.fixture(scope="module")
def finished(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The warehouse and the verdict of a pipeline of four days. Tests may not change its day tables."""
    warehouse = str(tmp_path_factory.mktemp("jobs") / "ware house")
    Path(warehouse).mkdir()
    code, verdict = run("pipeline", warehouse)
    assert code == 0, verdict
    return warehouse, verdict


def rows(warehouse: str, name: str) -> list[dict[str, Any]]:
    """A table's newest rows, without what may differ between equal runs."""
    return stored.rows(warehouse, name, without=OWN)


def test_the_verdict_is_as_the_contract_says(finished: tuple[str, dict[str, Any]]) -> None:
    _warehouse, verdict = finished
    assert verdict["exit_code"] == 0
    assert verdict["ds"] == "2026-01-04"
    assert {"raw_log", "click_log", "features", "sample", "models", "metrics"} <= set(verdict["tables"])
    assert [model["name"] for model in verdict["models"]] == ["lr", "lr_nocross"]
    for model in verdict["models"]:
        assert {"model_id", "name", "kind", "keep_rate", "metrics", "metrics_uncalibrated", "seconds"} <= set(
            model
        )
        assert set(model["metrics"]) >= METRICS
        assert set(model["metrics"]["ne"]) == {"value", "low", "high"}
        assert model["metrics"]["n"]["value"] == 3000
    assert Path(verdict["report"]).read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_recalibration_undoes_the_sampling(finished: tuple[str, dict[str, Any]]) -> None:
    for model in finished[1]["models"]:
        before = model["metrics_uncalibrated"]["calibration_ratio"]["value"]
        after = model["metrics"]["calibration_ratio"]["value"]
        assert before > 1.8, "trained on 30% of the non-clicks, p_sampled is far too high"
        assert abs(after - 1) < 0.2


def test_every_job_of_the_chain_has_a_finished_run(
    finished: tuple[str, dict[str, Any]], spark: SparkSession
) -> None:
    done = {
        row["job"]: row for row in latest(Tables(spark, finished[0], run_id="look")) if row["status"] == "done"
    }
    chain = {
        "simulate",
        "ingest",
        "build_features",
        "downsample",
        "train_logreg",
        "calibrate",
        "evaluate",
        "pipeline",
    }
    assert set(done) >= chain
    for row in done.values():
        assert row["seconds"] > 0
        assert row["driver_peak_mb"] > 50
    ingest = done["ingest"]
    assert ingest["rows_in"] == ingest["rows_out"] + ingest["rejected"] + ingest["other_day"] == 12_000


def test_a_second_pipeline_makes_no_day_again_and_the_same_models(finished: tuple[str, dict[str, Any]]) -> None:
    warehouse, first = finished
    tables = ("models", "calibrations", "metrics", "reliability", "predictions")
    before = {name: rows(warehouse, name) for name in tables}
    code, _second = run("pipeline", warehouse)
    assert code == 0
    for name in ("click_log", "features", "sample"):
        assert stored.version(warehouse, name) == first["tables"].get(name, 1)
    for name in tables:
        assert rows(warehouse, name) == before[name], name


@pytest.mark.parametrize(
    ("job", "table"), [("ingest", "click_log"), ("build_features", "features"), ("downsample", "sample")]
)
def test_a_day_run_again_gives_the_same_rows(
    finished: tuple[str, dict[str, Any]], tmp_path: Path, job: str, table: str
) -> None:
    warehouse = str(shutil.copytree(finished[0], tmp_path / "again"))
    before = rows(warehouse, table)
    assert run(job, warehouse, ds=date(2026, 1, 3))[0] == 0
    assert rows(warehouse, table) == before


def test_p_true_reaches_no_feature_sample_or_model(
    finished: tuple[str, dict[str, Any]], spark: SparkSession, tmp_path: Path
) -> None:
    """Another p_true on every row: whatever trains may not notice."""
    warehouse, _verdict = finished
    other = str(tmp_path / "permuted")
    raw = stored.table(warehouse, "raw_log")
    reversed_truth = raw["p_true"].combine_chunks()[::-1]
    raw = raw.set_column(raw.schema.get_field_index("p_true"), "p_true", reversed_truth)
    Tables(spark, other, run_id="permute").write("raw_log", raw, replace={"ds": days()})
    for job in ("ingest", "build_features", "downsample"):
        assert run(job, other, days=4)[0] == 0
    assert run("train_logreg", other)[0] == 0
    for table in ("features", "sample"):
        mine, its = (stored.rows(one, table, without=["c_p_true"]) for one in (warehouse, other))
        assert mine == its, table
    digests = [sorted(row["digest"] for row in stored.rows(one, "models")) for one in (warehouse, other)]
    assert digests[0] == digests[1]


def test_a_changed_keep_rate_makes_only_the_sample_stale(
    finished: tuple[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse = str(shutil.copytree(finished[0], tmp_path / "other rate"))
    code, _ = run("pipeline", warehouse, "sampling.keep_rate=1", models=("lr_nocross",))
    told = capsys.readouterr().err
    assert code == 0
    assert "ingest: all 4 days are fresh" in told
    assert "build_features: all 4 days are fresh" in told
    assert "downsample, 4 days" in told
    kept = [row for row in stored.rows(warehouse, "sample") if row["sample_id"] == "w1-s42"]
    assert len(kept) == 12_000
    assert {(row["keep_rate"], row["weight"]) for row in kept} == {(1.0, 1.0)}


def test_a_dry_run_writes_nothing(finished: tuple[str, dict[str, Any]]) -> None:
    warehouse, _ = finished
    names = ("click_log", "rejects", "runs")
    before = [stored.version(warehouse, name) for name in names]
    assert run("ingest", warehouse, dry_run=True)[0] == 0
    assert [stored.version(warehouse, name) for name in names] == before


def test_a_dry_run_of_the_whole_chain_ends_with_the_first_job_that_would_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse = tmp_path / "new"
    assert run("pipeline", str(warehouse), dry_run=True)[0] == 0
    told = capsys.readouterr().err
    assert "simulate, 4 days" in told
    assert "the dry run ends here" in told
    assert "ingest" not in told
    assert not warehouse.exists()


TREES = (
    "models.trees.history=1d",
    "models.trees.rounds=30",
    "models.trees_lr.trees.history=1d",
    "models.trees_lr.trees.rounds=10",
    "models.trees_lr.linear.bits=18",
)


def test_without_intervals_the_gate_is_not_asked(
    finished: tuple[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse = str(tmp_path / "w")
    shutil.copytree(finished[0], warehouse)
    code, verdict = run("pipeline", warehouse, "judge.replicates=0", models=("lr_nocross",))
    assert (code, verdict["decision"]) == (0, None)
    assert verdict["models"][0]["metrics"]["ne"]["low"] is None
    assert Path(verdict["report"]).is_file()
    assert "the gate has nothing to decide by" in capsys.readouterr().err


def test_trees_go_the_same_road(finished: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """The next day on tables that are there: the days that they look back to are counted, they are judged beside a
    linear model, and score without Spark."""
    others = shutil.ignore_patterns("models", "decisions")  # (whose artifacts lie in the other warehouse)
    warehouse = str(shutil.copytree(finished[0], tmp_path / "trees", ignore=others))
    day = DS + timedelta(days=1)
    code, verdict = run("pipeline", warehouse, *TREES, ds=day, models=("lr", "trees", "trees_lr"))
    assert code == 0
    found = {model["name"]: model for model in verdict["models"]}
    kinds = {name: model["kind"] for name, model in found.items()}
    assert kinds == {"lr": "logreg", "trees": "xgboost", "trees_lr": "trees_logreg"}
    counted = {row["ds"] for row in stored.rows(warehouse, "encodings")}
    assert counted == {day - timedelta(days=back) for back in range(5)}
    pairs = {(row["model_id"], row["other_id"]) for row in stored.rows(warehouse, "comparisons")}
    for name in ("trees", "trees_lr"):
        model = found[name]
        assert model["metrics"]["ne"]["value"] < 1
        assert abs(model["metrics"]["calibration_ratio"]["value"] - 1) < 0.2
        assert (model["model_id"], found["lr"]["model_id"]) in pairs
        _scores_alike(warehouse, name, day)
    assert _stale(warehouse) == {}
    again = day - timedelta(days=3)
    assert run("encode", warehouse, *TREES, ds=again)[0] == 0
    assert _stale(warehouse) == {found[name]["model_id"]: [str(again)] for name in ("trees", "trees_lr")}


def test_days_that_models_only_look_back_to_may_be_missing(
    finished: tuple[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The raw log begins with train time, and the trees look back to the day before it."""
    source = f"dataset.source.path={finished[0]}/raw_log"
    warehouse = str(tmp_path / "looks back")
    for _ in range(2):
        code, verdict = run("pipeline", warehouse, *TREES, source, "judge.replicates=40", models=("trees",))
        assert code == 0, verdict
        told = " ".join(capsys.readouterr().err.split())
        assert "models look back to 2025-12-31, and know less without" in told
        assert "warning: encodings look back to 2025-12-31, and 2025-12-31 was not counted" in told
    assert "build_features: all 4 days are fresh" in told
    assert {row["ds"] for row in stored.rows(warehouse, "encodings")} == set(days())
    later = {"ds": DS + timedelta(days=1), "models": ("trees",)}
    code, verdict = run("pipeline", str(tmp_path / "lacks a day of its own"), *TREES, source, **later)
    assert (code, verdict["error"]["name"]) == (3, "NoRowsError")
    assert "2026-01-05" in verdict["error"]["message"]


def _stale(warehouse: str) -> dict[str, list[str]]:
    """The models that `clickmill models list` calls stale, and the days it names."""
    asked = ["models", "list", "--conf", "datasets/simulated.yaml", "--set", f"warehouse={warehouse}"]
    rows = json.loads(CliRunner().invoke(cli.app, [*asked, "--json"]).stdout)["models"]
    found = {row["model_id"]: row["counted_again"] for row in rows if row["counted_again"]}
    plain = CliRunner().invoke(cli.app, asked).stdout
    assert plain.count("was counted again") == len(found)
    return found


def _scores_alike(warehouse: str, name: str, day: date) -> None:
    """The rows of a day in Spark, and without it from JSON lines."""
    code, verdict = run("score", warehouse, *TREES, "score.ignore_extra=true", ds=day, models=(name,))
    assert code == 0
    scored = pq.read_table(verdict["scores"], columns=["event_id", "p"]).to_pydict()
    in_spark = dict(zip(scored["event_id"], scored["p"], strict=True))
    log = [row for row in stored.rows(warehouse, "raw_log", without=["ds"]) if row["event_id"] in in_spark]
    lines = "".join(json.dumps(row, default=str) + "\n" for row in log)
    (model,) = [row for row in stored.rows(warehouse, "models") if (row["name"], row["ds"]) == (name, day)]
    asked = ["score", "--model", f"{warehouse}/_models/{model['model_id']}", "--format", "jsonl", "--ignore-extra"]
    said = CliRunner().invoke(cli.app, asked, input=lines)
    assert said.exit_code == 0, said.output
    alone = dict(line.split("\t") for line in said.stdout.splitlines()[1:])
    assert in_spark.keys() == alone.keys()
    assert all(abs(float(p) - in_spark[event_id]) < 1e-6 for event_id, p in alone.items())


def test_a_verdict_that_cannot_be_written_is_told_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ingest.JOB.run(["--ds", "2026-01-01", "--result-file", "/nowhere/verdict.json"])
    assert ended.value.code == 2
    assert "'/nowhere/verdict.json' cannot be written: No such file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("job", "sets", "arguments", "code", "error"),
    [
        ("ingest", ["sampling.keep_rates=1"], {}, 2, "ConfigError"),
        ("train_logreg", [], {"models": ("forest",)}, 2, "UsageError"),
        ("ingest", [], {"ds": None}, 2, "UsageError"),
        ("ingest", [], {"ds": date(2027, 1, 1)}, 3, "NoRowsError"),
        ("train_logreg", [], {"ds": date(2027, 1, 1)}, 3, "MissingTableError"),
        ("train_logreg", ["models.lr.ranks=64"], {"models": ("lr",)}, 2, "NotEnoughSlotsError"),
    ],
)
def test_exit_codes_and_named_errors(
    finished: tuple[str, dict[str, Any]],
    job: str,
    sets: list[str],
    arguments: dict[str, Any],
    code: int,
    error: str,
) -> None:
    found, verdict = run(job, finished[0], *sets, **({"ds": DS} | arguments))
    assert found == code == verdict["exit_code"], verdict
    assert verdict["error"]["name"] == error, verdict


def test_a_dead_run_is_closed_as_lost_by_the_next(
    finished: tuple[str, dict[str, Any]], spark: SparkSession, tmp_path: Path
) -> None:
    warehouse = str(shutil.copytree(finished[0], tmp_path / "dead"))
    tables = Tables(spark, warehouse, run_id="dead-run")
    host = latest(tables)[0]["host"]
    row = {"run_id": "dead-run", "job": "ingest", "status": "running", "at": datetime(2026, 1, 4), "host": host}
    tables.append("runs", [row | {"process": "999999@1.00", "days": json.dumps([])}])
    assert run("downsample", warehouse)[0] == 0
    found = {row["run_id"]: row["status"] for row in latest(Tables(spark, warehouse, run_id="look"))}
    assert found["dead-run"] == "lost"


def days() -> list[date]:
    return [date(2026, 1, day) for day in range(1, 5)]


def ids(warehouse: str) -> dict[str, str]:
    """The first run of each job."""
    ended = [row for row in stored.rows(warehouse, "runs") if row["status"] in ("done", "refused")]
    return {row["job"]: row["run_id"] for row in sorted(ended, key=lambda row: row["run_id"], reverse=True)}


def again(spark: SparkSession, warehouse: str, run_id: str) -> list[Finding]:
    return reproduce(Tables(spark, warehouse, run_id="again"), run_id, progress=Progress(quiet=True))


@pytest.mark.parametrize("job", ["downsample", "train_logreg", "calibrate", "evaluate", "promote"])
def test_the_same_tables_give_the_same_result_to_the_bit(
    spark: SparkSession, finished: tuple[str, dict[str, Any]], job: str
) -> None:
    warehouse = finished[0]
    before = {str(path): path.stat().st_mtime_ns for path in Path(warehouse, "_models").rglob("*")}
    found = again(spark, warehouse, ids(warehouse)[job])
    require_same(found)
    assert found
    assert all(one.detail.endswith("to the bit") for one in found), found
    assert not Path(warehouse, FOLDER, ids(warehouse)[job]).exists()
    assert {str(path): path.stat().st_mtime_ns for path in Path(warehouse, "_models").rglob("*")} == before


def test_one_altered_row_is_seen(spark: SparkSession, finished: tuple[str, dict[str, Any]]) -> None:
    """A non-click of one file of `features` becomes a click: the sample and what is learned from it are others."""
    warehouse = finished[0]
    (file,) = Path(warehouse, "features", "ds=2026-01-01").glob("*.parquet")
    held = file.read_bytes()
    rows = pq.read_table(pa.BufferReader(held))
    label = rows["label"].to_pylist()
    label[label.index(0)] = 1
    pq.write_table(rows.set_column(rows.column_names.index("label"), "label", pa.array(label, pa.int8())), file)
    try:
        (found,) = again(spark, warehouse, ids(warehouse)["downsample"])
        assert found.sentence.startswith("different: sample: ")
        assert "now and not then, such as" in found.detail or "then and not now" in found.detail
        with pytest.raises(DifferentError, match="different: sample"):
            require_same([found])
    finally:
        file.write_bytes(held)


def test_a_run_that_cannot_be_done_again_is_named(
    spark: SparkSession, finished: tuple[str, dict[str, Any]]
) -> None:
    warehouse = finished[0]
    pipeline = ids(warehouse)["pipeline"]
    for run_id, told in (("nobody", "has no such run"), (pipeline, "steps are runs of their own")):
        with pytest.raises(UsageError, match=told):
            again(spark, warehouse, run_id)


def test_the_command_prints_one_object(spark: SparkSession, finished: tuple[str, dict[str, Any]]) -> None:
    """It finds the session that is there."""
    warehouse = finished[0]
    named = ["--conf", "datasets/simulated.yaml", "--set", f"warehouse={warehouse}"]
    done = CliRunner().invoke(cli.app, ["reproduce", ids(warehouse)["promote"], *named, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["same"]
    assert [one["what"] for one in told["findings"]] == ["decisions"]


def test_each_judged_model_has_its_card(finished: tuple[str, dict[str, Any]]) -> None:
    warehouse, verdict = finished
    for model in verdict["models"]:
        (card,) = Path(warehouse, "_models", model["model_id"]).glob("card.md")
        told = card.read_text(encoding="utf-8")
        assert f"{model['metrics']['ne']['value']:.4f}" in told
        assert "## Where it is weak" in told
