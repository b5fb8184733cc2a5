"""Days by scheduler and LocalExecutor on a cluster: a backfill with a poisoned day, its mending, retraining."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from conftest import ROOT
from stand import QUICK, Cluster
from world import README, World

pytestmark = pytest.mark.slow
UP_AND_DOWN = README[1].splitlines()
"""Its three lines, of which the second asks for three days."""
CALM = {
    "click_rate": [1.0, 2.0],
    "calibration": [1.0, 2.0],
    "ne_loss": [1.0, 2.0],
    "adversarial_auc": [0.95, 0.99],
}
"""So that no chance event of drift starts a retraining, whose models would take the place of the day's."""
PATIENCE = 40 * 60
"""Seconds for a backfill, on a machine that does other things too."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose first three days are in its tables, an Airflow that is up, and a cluster for its jobs."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), ROOT / ".venv")
    cluster.environment["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
    found = World(
        tmp_path_factory.mktemp("backfill"),
        AIRFLOW_CONN_CLICKMILL_SPARK=json.dumps({"conn_type": "spark", "host": cluster.master}),
        SPARK_LOCAL_IP="127.0.0.1",
        AIRFLOW__API__PORT=str(_free_port()),
        CLICKMILL_START="2026-03-01",
        CLICKMILL_END="2026-03-31",
        CLICKMILL_POOL_SLOTS="1",
        CLICKMILL_TEST_BACKFILL="1",
    )
    quick = found.folder / "quick.yaml"
    settings = {"spark": {"settings": dict(one.split("=") for one in QUICK)}, "monitor": CALM}
    quick.write_text(json.dumps(settings), encoding="utf-8")
    found.environment["CLICKMILL_CONF"] += f" env/cluster.yaml '{quick}'"
    for number in range(1, 8):
        found.log(number)
    for job in ("ingest", "build_features", "downsample"):
        asked = f"--conf '{found.folder}/small.yaml' --ds {found.day(3)} --days 3 --set 'spark.master=local[2]'"
        found.sh(f"airflow/bin/spark-submit --master 'local[2]' --driver-memory 1g $PWD/jobs/{job}.py {asked}")
    try:
        cluster.call("up")
        assert "Airflow is up: http://localhost:" in found.sh(UP_AND_DOWN[0])
        assert "Airflow is up" in found.sh(UP_AND_DOWN[0]), "a second call finds it"
        yield found
    finally:
        found.sh(UP_AND_DOWN[2])
        cluster.call("down")
        left = [one for one in psutil.process_iter() if _is_of(one)]
        assert left == [], "down means down"


def test_a_poisoned_day_stops_alone_and_is_mended_alone(world):
    world.poison(6, share=0.05)  # (the last: a day that comes later would miss it as its validation time)
    first, last = world.day(4), world.day(6)
    command = UP_AND_DOWN[1].replace("2026-01-10", str(first)).replace("2026-01-12", str(last))
    world.sh(command, timeout=300)
    runs = wait_for(world, lambda found: len(found) == 3 and set(found.values()) <= {"success", "failed"})
    assert [runs[str(world.day(number))] for number in (4, 5, 6)] == ["success", "success", "failed"]
    poisoned = states(world, world.day(6))
    assert poisoned.pop("ingest") == ("failed", 1), "the input is wrong: one try"
    assert {state for state, _tries in poisoned.values()} == {"upstream_failed"}
    (run,) = query(world, f"select run_id from dag_run where date(logical_date) = '{world.day(6)}'")
    (log,) = (world.folder / "airflow" / "logs").rglob(f"run_id={run['run_id']}/task_id=ingest/*.log")
    assert "RejectLimitError" in log.read_text(encoding="utf-8")
    untouched = {number: tries(world, world.day(number)) for number in (4, 5)}
    before = world.tables()

    world.mend(6)
    world.sh(f"airflow tasks clear --yes click_models_daily -s {world.day(6)} -e {world.day(6)}", timeout=300)
    runs = wait_for(world, lambda found: found[str(world.day(6))] == "success")
    assert set(runs.values()) == {"success"}
    assert {number: tries(world, world.day(number)) for number in (4, 5)} == untouched, "only that day ran again"
    after = world.tables()
    assert after["click_log"][0] == before["click_log"][0] + 2400
    assert after["rejects"][0] == 0


def test_a_day_run_again_changes_nothing(world):
    before, was = world.tables(), tries(world, world.day(6))
    world.sh(f"airflow tasks clear --yes click_models_daily -s {world.day(6)} -e {world.day(6)}", timeout=300)
    wait_for(world, lambda found: found[str(world.day(6))] == "running")
    wait_for(world, lambda found: found[str(world.day(6))] == "success")
    again = tries(world, world.day(6))
    assert all(again[task] == was[task] + 1 for task in was)
    assert world.tables() == before


def test_an_event_of_drift_starts_retraining_on_its_day(world):
    (asset,) = query(world, "select id from asset where name = 'clickmill_drift'")
    event = {"asset_id": asset["id"], "extra": {"ds": str(world.day(6)), "verdict": "retrain"}}
    post(world, "/api/v2/assets/events", event)
    asked = "select state from dag_run where dag_id = 'click_models_retrain'"
    end = time.monotonic() + PATIENCE
    while (found := [row["state"] for row in query(world, asked)]) not in (["success"], ["failed"]):
        assert time.monotonic() < end, found
        time.sleep(2)
    assert found == ["success"]
    done = query(world, "select task_id, state from task_instance where dag_id = 'click_models_retrain'")
    kept = {row["task_id"]: row["state"] for row in done}
    assert kept.pop("promote") in ("success", "skipped")
    assert kept == dict.fromkeys(("train_lr", "train_lr_nocross", "calibrate", "evaluate"), "success")


def wait_for(world: World, reached: Any) -> dict[str, str]:
    """The states of the daily runs by day, once they are as hoped for."""
    end = time.monotonic() + PATIENCE
    while True:
        asked = "select date(logical_date) as ds, state from dag_run where dag_id = 'click_models_daily'"
        found = {row["ds"]: row["state"] for row in query(world, asked)}
        if reached(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.5)


def states(world: World, day: object) -> dict[str, tuple[str, int]]:
    """State and number of tries of each task of a day."""
    asked = f"""select task_id, t.state, try_number from task_instance t join dag_run r using (run_id)
        where t.dag_id = 'click_models_daily' and r.dag_id = t.dag_id and date(r.logical_date) = '{day}'"""
    return {row["task_id"]: (row["state"], row["try_number"]) for row in query(world, asked)}


def tries(world: World, day: object) -> dict[str, int]:
    return {task: number for task, (_state, number) in states(world, day).items()}


def query(world: World, sql: str) -> list[sqlite3.Row]:
    with sqlite3.connect(f"file:{world.folder}/airflow/airflow.db?mode=ro", uri=True, timeout=60) as database:
        database.row_factory = sqlite3.Row
        return database.execute(sql).fetchall()


def post(world: World, path: str, body: dict[str, Any]) -> None:
    """As anyone on this machine may: the UI is on loopback, and everyone is its administrator."""
    url = f"http://localhost:{world.environment['AIRFLOW__API__PORT']}"
    with urllib.request.urlopen(f"{url}/auth/token", timeout=60) as answer:
        token = json.load(answer)["access_token"]
    asked = urllib.request.Request(
        f"{url}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.status == 200


def _is_of(process: psutil.Process) -> bool:
    try:
        return process.environ().get("CLICKMILL_TEST_BACKFILL") == "1"
    except psutil.Error:
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
