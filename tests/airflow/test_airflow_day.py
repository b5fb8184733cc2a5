"""A real day of two models on local Spark, as the README says; jobs that are killed or run too long."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import pytest
from conftest import ROOT
from world import README, World

MARK = "CLICKMILL_TEST_TASK"
ENDLESS = ("simulate.rows_per_day=50000000", "simulate.partitions=2")
SMALL = "import json, sys; sys.path.insert(0, 'tests'); import small; print(json.dumps(small.SETS))"


def small_sets() -> list[str]:
    """The small simulated world of the jobs' tests, whose first model is promoted and whose day has drifted."""
    done = subprocess.run([ROOT / ".venv/bin/python", "-c", SMALL], cwd=ROOT, capture_output=True, check=True)
    drifts = "monitor.adversarial_auc=[1.0e-9, 1.0e-9]"
    return ["warehouse=ware house", *json.loads(done.stdout), "gate.calibration_band=[0.1, 10]", drifts]


def test_the_day_of_the_readme(tmp_path):
    """Set-up, nine simulated days, the chain, the gate, drift; the events of assets with the tables' versions."""
    world = World(tmp_path, CLICKMILL_SETS=shlex.join(small_sets()))
    del world.environment["CLICKMILL_CONF"]
    from click_tasks.ledger import ended

    said = world.sh(README[0])
    assert "DagRun Finished" in said
    with sqlite3.connect(tmp_path / "airflow" / "airflow.db") as database:
        states = dict(database.execute("select task_id, state from task_instance"))
        found = database.execute(
            "select name, e.extra from asset_event e join asset a on a.id = e.asset_id order by e.id"
        ).fetchall()
    assert set(states.values()) == {"success"}
    assert len(states) == 10
    events = {name: json.loads(extra) for name, extra in found}
    assert [name for name, _ in found] == [
        "clickmill_features",
        *["clickmill_models"] * 2,
        "clickmill_champion",
        "clickmill_drift",
    ]
    written = {"features": "features", "models": "models", "champion": "decisions", "drift": "drift"}
    for name, table in written.items():
        event = events[f"clickmill_{name}"]
        assert event["ds"] == "2026-01-09"
        log = world.warehouse / table / "_delta_log" / f"{event['tables'][table]:020}.json"
        assert event["run_id"] in log.read_text(encoding="utf-8"), "the version that this run wrote"
    assert events["clickmill_champion"]["champion"].startswith("lr")
    promote = {"job": "promote", "ds": "2026-01-09", "models": "lr,lr_nocross"}
    in_runs = ended(str(world.warehouse / "runs"), promote, datetime(2026, 1, 1, tzinfo=UTC))
    assert in_runs is not None
    assert (in_runs["exit_code"], in_runs["error"]) == (0, None)
    assert in_runs["run_id"] == events["clickmill_champion"]["run_id"]
    assert events["clickmill_drift"]["verdict"] == "retrain"
    assert {rows for rows, _digest in (world.tables()[name] for name in ("click_log", "features"))} == {27_000}


@pytest.fixture
def mark() -> Iterator[str]:
    """Stands in the environment of a task and of all that it starts; what is left of them is killed."""
    found = uuid.uuid4().hex
    yield found
    for pid in family(found):
        os.kill(pid, signal.SIGKILL)


def test_where_the_task_is_killed_its_jvm_and_driver_die(tmp_path, mark):
    """As by the kernel, where memory runs out: nobody is left to clean up."""
    environment = os.environ | {MARK: mark, "CLICKMILL_HOME": str(tmp_path)}
    arguments = [
        *("--master", "local[2]", "--driver-memory", "1g", str(ROOT / "jobs" / "simulate.py")),
        *("--conf", "datasets/simulated.yaml", "--ds", "2026-01-01", "--set", "spark.master=local[2]"),
        *(part for item in (f"warehouse={tmp_path}/w", *ENDLESS) for part in ("--set", item)),
    ]
    command = [str(ROOT / "airflow" / "bin" / "spark-submit"), *arguments]
    task = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, "-c", task, *command], env=environment, stdout=log, stderr=log)
    _until(lambda: any("pyspark.daemon" in one for one in family(mark).values()), seconds=240)
    names = " ".join(family(mark).values())
    assert "org.apache.spark.deploy.SparkSubmit" in names
    process.kill()
    process.wait()
    _until(lambda: not family(mark), seconds=30)


def test_a_task_that_runs_too_long_fails_and_leaves_nothing(tmp_path, mark):
    world = World(tmp_path, CLICKMILL_SETS=shlex.join(["warehouse=w", *ENDLESS]), CLICKMILL_RETRIES="0")
    world.environment |= {MARK: mark, "CLICKMILL_TIMEOUT_MINUTES": "0.5", "CLICKMILL_SIMULATE": "1"}
    world.environment["CLICKMILL_CONF"] = "datasets/simulated.yaml"
    said = world.sh("airflow db migrate; airflow dags test click_models_daily 2026-01-01", fails=True)
    assert "AirflowTaskTimeout" in said
    _until(lambda: not family(mark), seconds=30)
    with sqlite3.connect(tmp_path / "airflow" / "airflow.db") as database:
        states = dict(database.execute("select task_id, state from task_instance"))
    assert states["simulate"] == "failed"
    assert not list((tmp_path / "w").glob("raw_log/_delta_log/*1.json")), "it was at work, not done"


def family(mark: str) -> dict[int, str]:
    """Command lines of the processes that carry the mark in their environment, by number."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


def _until(happened, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.2)
