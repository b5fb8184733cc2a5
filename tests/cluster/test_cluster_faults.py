"""Parts of a cluster that die as a job runs: Spark tries again, or the job ends soon, by name; a rerun works."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import stored
from deltalake import DeltaTable
from disks import MIB, fill, small_disk
from stand import VENV, Cluster, kill, log_of, until

pytestmark = pytest.mark.slow
DS = date(2026, 1, 1)
SMALL = (
    *(
        "--set",
        "simulate.rows_per_day=40000",
        "--set",
        "simulate.ctr=0.1",
        "--set",
        "features.audit_bits=[18, 20]",
    ),
    *(
        "--set",
        "sampling.keep_rate=0.3",
        "--set",
        "split.train=12h",
    ),
    *("--set", "split.validation=6h", "--set", "split.test=6h", "--ds", str(DS), "--json"),
)
FILES = "ds=*/**/*.parquet"
ENDLESS = ("--models", "lr", "--set", "models.lr.max_iterations=100000000", "--set", "models.lr.tolerance=1e-300")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "cluster")
    found.call("up")
    yield found
    found.call("down")
    assert found.processes() == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The day up to the sample, on this machine alone."""
    warehouse = tmp_path_factory.mktemp("faults") / "undisturbed"
    for job in ("simulate", "ingest", "build_features", "downsample"):
        command = [str(VENV / "bin" / "clickmill"), "run", job, "--conf", "datasets/simulated.yaml"]
        command += ["--set", "spark.master=local[2]", "--set", f"warehouse={warehouse}", *SMALL]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    return warehouse


def test_a_worker_killed_during_ingest_changes_no_row(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    warehouse = tmp_path / "killed"
    job = cluster.submit("ingest", warehouse, "--set", f"dataset.source.path={undisturbed}/raw_log", *SMALL)
    until(cluster.computes, job)
    cluster.kill_a_worker()
    assert job.wait(timeout=300) == 0, log_of(warehouse).read_text()[-4000:]
    assert "Lost executor" in log_of(warehouse).read_text()
    for table in ("click_log", "rejects"):
        assert _rows(warehouse, table) == _rows(undisturbed, table)


def test_a_worker_killed_in_training_ends_the_job_by_name_within_a_minute_and_a_rerun_works(
    cluster: Cluster, undisturbed: Path
) -> None:
    asked = ("--set", "models.lr.ranks=2", *SMALL)
    job = cluster.submit("train_logreg", undisturbed, *ENDLESS, *asked)
    until(cluster.computes, job)
    time.sleep(5)  # (from Python's start to the first sum)
    assert job.poll() is None
    cluster.kill_a_worker()
    killed = time.monotonic()
    assert job.wait(timeout=300) == 1
    seconds = time.monotonic() - killed
    error = _verdict(undisturbed)["error"]
    print(f"ended {seconds:.0f} s after the worker: {error}")
    assert error["name"] == "RankError"
    assert "killed or lost" in error["message"]
    assert seconds < 60
    cluster.call("up")
    again = cluster.submit("train_logreg", undisturbed, "--models", "lr", *asked)
    assert again.wait(timeout=300) == 0, log_of(undisturbed).read_text()[-4000:]
    assert _verdict(undisturbed)["exit_code"] == 0


@pytest.mark.parametrize("committed", [False, True], ids=["before its commit", "after it"])
def test_a_driver_killed_leaves_old_rows_or_new_ones_and_a_rerun_mends_all(
    cluster: Cluster, undisturbed: Path, tmp_path: Path, committed: bool
) -> None:
    warehouse = shutil.copytree(undisturbed, tmp_path / "killed")
    sample = warehouse / "sample"
    DeltaTable(sample).delete("label = 1")
    old, expected = _rows(warehouse, "sample"), _rows(undisturbed, "sample")
    assert old != expected
    files, version = set(sample.glob(FILES)), stored.version(warehouse, "sample")
    job = cluster.submit("downsample", warehouse, *SMALL)
    commit = sample / "_delta_log" / f"{version + 1:020}.json"
    until(commit.exists if committed else lambda: set(sample.glob(FILES)) > files, job)
    kill(job)
    assert stored.version(warehouse, "sample") == version + committed
    assert _rows(warehouse, "sample") == (expected if committed else old)
    assert cluster.submit("downsample", warehouse, *SMALL).wait(timeout=300) == 0, log_of(warehouse).read_text()
    assert _rows(warehouse, "sample") == expected
    killed = [row["status"] for row in stored.rows(warehouse, "runs") if row["job"] == "downsample"]
    assert sorted(killed) == ["done", "done", "lost", "running", "running", "running"]


@pytest.mark.parametrize("place", ["{}", "file://{}"], ids=["workers write", "spark writes"])
def test_a_table_s_path_that_runs_full_is_named_and_the_table_is_as_it_was(
    cluster: Cluster, undisturbed: Path, tmp_path: Path, place: str
) -> None:
    with small_disk(tmp_path / "small-disk", 64) as disk:
        warehouse = shutil.copytree(undisturbed, disk / "warehouse")
        version, filler, result = (
            stored.version(warehouse, "features"),
            fill(disk, but=MIB // 4),
            tmp_path / "result",
        )
        asked = ("--set", f"warehouse={place.format(warehouse)}", "--result-file", str(result), *SMALL)
        log = tmp_path / "outside"
        job = cluster.submit("build_features", log, *asked)
        assert job.wait(timeout=300) == 2, log_of(log).read_text()[-4000:]
        error = json.loads(result.read_text())["error"]
        assert (error["name"], "make room" in error["message"]) == ("NoSpaceError", True)
        assert stored.version(warehouse, "features") == version
        assert _rows(warehouse, "features") == _rows(undisturbed, "features")
        filler.unlink()
        assert cluster.submit("build_features", log, *asked).wait(timeout=300) == 0, log_of(log).read_text()[
            -4000:
        ]
        assert _rows(warehouse, "features") == _rows(undisturbed, "features")


def test_of_two_submits_of_one_day_that_start_at_once_the_day_is_wholly_ones_and_a_loser_says_so(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    """Both make the warehouse. Who commits first is chance; the other's commit may be told of a conflict, may be
    tried again because the first has given the table its columns, or may come when all is over.
    """
    warehouse = tmp_path / "both"
    jobs = [_ingest(cluster, undisturbed, warehouse, tmp_path / name) for name in ("one", "other")]
    codes = [job.wait(timeout=300) for job in jobs]
    verdicts = [json.loads((tmp_path / name).read_text()) for name in ("one", "other")]
    print(f"exit codes {codes}: {[verdict['error'] for verdict in verdicts]}")
    assert sorted(codes) in ([0, 0], [0, 1]), log_of(warehouse).read_text()[-4000:]
    for code, verdict in zip(codes, verdicts, strict=True):
        assert verdict["exit_code"] == code
        assert code == 0 or verdict["error"]["name"] == "ConflictError"
    for table in ("click_log", "rejects"):
        assert _rows(warehouse, table) == _rows(undisturbed, table)
    _told_in_runs(warehouse, verdicts)


def test_of_two_submits_of_one_day_the_one_that_commits_late_ends_with_exit_1_by_name(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    """The first is stopped as it writes, and goes on when the second has ended."""
    warehouse = shutil.copytree(undisturbed, tmp_path / "both")
    log = warehouse / "click_log"
    before, version = set(log.glob(FILES)), stored.version(warehouse, "click_log")
    late = _ingest(cluster, undisturbed, warehouse, tmp_path / "late")
    until(lambda: set(log.glob(FILES)) > before, late)
    late.send_signal(signal.SIGSTOP)
    try:
        assert stored.version(warehouse, "click_log") == version, "stopped before its commit"
        early = _ingest(cluster, undisturbed, warehouse, tmp_path / "early")
        assert early.wait(timeout=300) == 0, log_of(warehouse).read_text()[-4000:]
    finally:
        late.send_signal(signal.SIGCONT)
    assert late.wait(timeout=300) == 1
    verdicts = [json.loads((tmp_path / name).read_text()) for name in ("late", "early")]
    assert verdicts[0]["error"]["name"] == "ConflictError"
    assert f"{warehouse}/click_log: another writer changed ds" in verdicts[0]["error"]["message"]
    assert stored.version(warehouse, "click_log") == version + 1, "the loser has committed nothing"
    assert _rows(warehouse, "click_log") == _rows(undisturbed, "click_log")
    _told_in_runs(warehouse, verdicts)


def test_the_doctor_finds_in_seconds_what_a_job_would_wait_for(cluster: Cluster, tmp_path: Path) -> None:
    def doctor(*sets: str) -> tuple[int, dict[str, Any]]:
        command = [str(VENV / "bin" / "clickmill"), "doctor", "--master", cluster.master, "--json"]
        command += ["--conf", "datasets/simulated.yaml", "--conf", "env/cluster.yaml"]
        for item in (f"warehouse={tmp_path}/new", *sets):
            command += ["--set", item]
        environment = cluster.environment | {"SPARK_LOCAL_IP": "127.0.0.1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        found = json.loads(done.stdout)["checks"]
        return done.returncode, {one["name"]: one for one in found}

    told = "spark.settings={spark.cores.max: '2'}"
    code, found = doctor(told)
    assert (code, [name for name, one in found.items() if one["needed"] and not one["ok"]]) == (0, [])
    assert found["executors"]["found"] == "tasks at once: 2, executors: 2, machines: 1"
    assert not list(tmp_path.glob(".clickmill-doctor*"))
    code, found = doctor(told, "models.lr.ranks=3")
    assert (code, found["slots for training"]["ok"]) == (2, False)
    assert "models.lr.ranks to 2" in found["slots for training"]["advice"]
    cluster.call("down")
    code, found = doctor(told)
    assert (code, found["master"]["ok"]) == (2, False)


def _ingest(cluster: Cluster, undisturbed: Path, warehouse: Path, verdict: Path) -> subprocess.Popen[bytes]:
    """A submit that takes one of the cluster's two cores."""
    asked = ("--set", f"dataset.source.path={undisturbed}/raw_log", "--result-file", str(verdict))
    return cluster.submit("ingest", warehouse, *asked, *SMALL, cores=1)


def _told_in_runs(warehouse: Path, verdicts: list[dict[str, Any]]) -> None:
    """`runs` says of each run how it ended, and why."""
    told = {row["run_id"]: row for row in stored.rows(warehouse, "runs") if row["status"] != "running"}
    for verdict in verdicts:
        row = told[verdict["run_id"]]
        assert row["status"] == ("failed" if verdict["exit_code"] else "done")
        assert row["exit_code"] == verdict["exit_code"]
        assert (row["error"] or "").startswith("ConflictError" if verdict["exit_code"] else "")


def _rows(warehouse: Path, table: str) -> list[dict[str, Any]]:
    return stored.rows(warehouse, table, without=("run_id",)) if (warehouse / table).exists() else []


def _verdict(warehouse: Path) -> dict[str, Any]:
    """The last object of --json among what Spark says."""
    lines = log_of(warehouse).read_text().splitlines()
    verdict: dict[str, Any] = json.loads([line for line in lines if line.startswith('{"run_id"')][-1])
    return verdict
