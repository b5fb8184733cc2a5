"""The DAG files: their tasks, their order, what they tell a job, what they may not import, on either platform."""

from __future__ import annotations

import ast
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pendulum
import pytest
from conftest import ROOT

DAGS, INCLUDE = ROOT / "airflow" / "dags", ROOT / "airflow" / "include"
PARSE = f"""
import airflow.sdk, airflow.dag_processing.dagbag, json, sys, time
sys.path.insert(0, {str(INCLUDE)!r})
start = time.process_time()
bag = airflow.dag_processing.dagbag.DagBag({str(DAGS)!r})
took = time.process_time() - start
assert not bag.import_errors, bag.import_errors
heavy = sorted({{"pyspark", "torch", "clickmill", "numpy", "pandas"}} & set(sys.modules))
dags = {{}}
for name, dag in bag.dags.items():
    dags[name] = {{task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}}
print(json.dumps({{"took": took, "heavy": heavy, "dags": dags}}))
"""
CHAIN = {
    "ingest": ["build_features"],
    "build_features": ["downsample"],
    "downsample": ["train_lr", "train_lr_nocross"],
    "train_lr": ["calibrate"],
    "train_lr_nocross": ["calibrate"],
    "calibrate": ["evaluate"],
    "evaluate": ["promote"],
    "promote": ["monitor"],
    "monitor": [],
}


def parsed(before: str = "", **environment: str) -> dict[str, object]:
    """The DAGs as a process of its own finds them: {"took": CPU seconds, "heavy": modules, "dags": …}.

    before: modules that it has when the clock starts.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"import {before}\n{PARSE}" if before else PARSE],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_day_goes_from_the_log_to_the_gate_and_then_looks_for_drift():
    found = parsed()
    assert found["dags"]["click_models_daily"] == CHAIN
    again = {task: after for task, after in CHAIN.items() if task in ("calibrate", "evaluate")}
    trained = {"train_lr": ["calibrate"], "train_lr_nocross": ["calibrate"]}
    assert found["dags"]["click_models_retrain"] == trained | again | {"promote": []}
    assert found["heavy"] == []


@pytest.mark.parametrize("platform", ["local", "databricks"])
def test_parsing_takes_less_than_half_a_second_of_cpu(platform):
    """In one of three tries: what else the machine does makes a second dearer, never cheaper. Databricks' provider
    loads two HTTP libraries, which are not the DAGs' and are there before the clock starts.
    """
    before = "requests, aiohttp" if platform == "databricks" else ""
    took = (parsed(before, CLICKMILL_PLATFORM=platform)["took"] for _ in range(3))
    assert any(seconds < 0.5 for seconds in took)


@pytest.mark.parametrize("time", ["00:00:01", "07:00:00", "23:59:59"])
def test_the_schedulers_next_run_is_of_the_day_that_has_ended(dag, monkeypatch, time):
    now = pendulum.parse(f"2026-11-26T{time}Z")
    monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda: now)
    daily = scheduled(dag("local"))
    last = None
    for day in (25, 26, 27):  # (the first after unpausing; then each when it has ended)
        info = daily.next_dagrun_info(last_automated_run_info=last, restricted=True)
        assert info.logical_date == pendulum.datetime(2026, 11, day, tz="UTC")
        assert info.run_after == pendulum.datetime(2026, 11, day + 1, tz="UTC")
        last = info


def test_a_backfill_makes_exactly_the_days_asked_for(dag):
    daily = scheduled(dag("local", CLICKMILL_WAIT_HOURS="6"))
    asked = [pendulum.datetime(2026, 1, day, tz="UTC") for day in (10, 11, 12)]
    found = list(daily.iter_dagrun_infos_between(asked[0], asked[-1]))
    assert [info.logical_date for info in found] == asked


def test_the_schedule_ends_with_the_last_day(dag, monkeypatch):
    daily = scheduled(dag("local", CLICKMILL_START="2026-01-01", CLICKMILL_END="2026-01-31"))
    for now, runs in (("2026-01-31T01:00Z", True), ("2026-02-01T01:00Z", True), ("2026-02-02T01:00Z", False)):
        monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda now=now: pendulum.parse(now))
        info = daily.next_dagrun_info(last_automated_run_info=None)
        assert (info is not None) == runs


def test_a_day_whose_log_comes_late_waits_for_it_and_holds_no_slot(dag):
    daily = dag("local", CLICKMILL_WAIT_HOURS="6.5", CLICKMILL_SIMULATE="1")
    task = rendered(daily, "wait", logical_date=pendulum.datetime(2026, 1, 5, tz="UTC"), macros=datetime)
    assert pendulum.parse(task.target_time) == pendulum.datetime(2026, 1, 6, 6, 30, tz="UTC")
    assert task.mode == "reschedule"
    assert task.downstream_task_ids == {"simulate"}


@pytest.mark.parametrize("kind", ["xgboost", "trees_logreg"])
def test_values_are_counted_where_a_model_looks_back(dag, kind):
    daily = dag("local", CLICKMILL_MODELS=f"lr:logreg back:{kind}")
    assert daily.get_task("build_features").downstream_task_ids == {"encode"}
    assert daily.get_task("encode").downstream_task_ids == {"downsample"}


@pytest.mark.parametrize("name", ["click_models_daily", "click_models_retrain"])
def test_days_that_were_missed_are_not_run_unasked_and_no_two_at_once(dag, name):
    found = dag("local", name=name)
    assert (found.catchup, found.max_active_runs) == (False, 1)


def test_values_are_counted_and_a_log_is_simulated_where_asked():
    found = parsed(CLICKMILL_SIMULATE="1", CLICKMILL_MODELS="lr:logreg trees:xgboost net:wide_deep")
    daily = found["dags"]["click_models_daily"]
    assert daily["simulate"] == ["ingest"]
    assert daily["build_features"] == ["encode"]
    assert daily["encode"] == ["downsample"]
    assert daily["downsample"] == ["train_lr", "train_net", "train_trees"]


def test_on_databricks_the_same_tasks_need_no_spark():
    assert parsed(CLICKMILL_PLATFORM="databricks")["dags"]["click_models_daily"] == CHAIN


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PLATFORM", "yarn", "='yarn': write one of local, databricks"),
        ("CONF", "", "='': write config files, 1 at least"),
        ("CONF", "a.yaml ''", ": '': write config files"),
        ("SETS", "'a=1", '="\'a=1": write a list as in a shell'),
        ("SETS", "a", ": 'a': write SECTION.KEY=VALUE"),
        ("RETRAIN_SETS", "a=1 =2", ": '=2': write SECTION.KEY=VALUE"),
        ("MODELS", "", "='': write NAME:KIND"),
        ("MODELS", "lr", ": 'lr': write NAME:KIND"),
        ("MODELS", "lr:foo", ": 'lr:foo': write NAME:KIND, where KIND is one of logreg, "),
        ("MODELS", "lr:logreg lr:xgboost", ": 'lr' is there 2 times: write each name once"),
        ("SIMULATE", "7", "='7': write one of 0, 1"),
        ("WAIT_HOURS", "25", "='25': write a number from 0 to 24"),
        ("START", "2026-1-1", "='2026-1-1': write a day, YYYY-MM-DD"),
        ("START", "20260101", "='20260101': write a day, YYYY-MM-DD"),
        ("END", "2026-W01-4", "='2026-W01-4': write a day from CLICKMILL_START=2026-01-01 on, or nothing"),
        ("END", "tomorrow", "='tomorrow': write a day from CLICKMILL_START=2026-01-01 on, or nothing"),
        ("END", "2025-12-31", "='2025-12-31': write a day from CLICKMILL_START=2026-01-01 on, or nothing"),
        ("POOL", "", "='': write a pool's name"),
        ("RETRIES", "some", "='some': write a whole number from 0 to 100"),
        ("RETRIES", "-1", "='-1': write a whole number from 0 to 100"),
        ("RETRY_SECONDS", "inf", "='inf': write a number from 0 to 86400"),
        ("TIMEOUT_MINUTES", "-5", "='-5': write a number from 0.1 to 100000"),
        ("TIMEOUT_MINUTES", "nan", "='nan': write a number from 0.1 to 100000"),
        ("JOBS", " ", "=' ': write a folder"),
        ("SPARK_SUBMIT", "", "='': write a program"),
        ("SPARK_CONF", "spark.x", ": 'spark.x': write KEY=VALUE"),
        ("SPARK_CONF", "x=1", ": 'x=1': write KEY=VALUE, where KEY begins with spark."),
        ("DRIVER_MEMORY", "3 GB", "='3 GB': write a heap's size"),
        ("RESULTS", "results", "='results': write an absolute path, or nothing"),
        ("DATABRICKS", "[1]", "='[1]': write a JSON object"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_found_and_what_is_allowed(monkeypatch, name, value, said):
    monkeypatch.syspath_prepend(INCLUDE)
    from click_tasks.settings import Settings

    monkeypatch.setenv(f"CLICKMILL_{name}", value)
    with pytest.raises(ValueError, match=f"^CLICKMILL_{name}") as raised:
        Settings.from_env()
    assert f"CLICKMILL_{name}{said}" in str(raised.value)


def test_a_wrong_setting_is_an_import_error_of_both_dags(monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.syspath_prepend(INCLUDE)
    monkeypatch.setenv("CLICKMILL_RETRIES", "-1")
    bag = DagBag(str(DAGS))
    assert sorted(Path(path).name for path in bag.import_errors) == sorted(path.name for path in DAGS.glob("*.py"))
    assert all("CLICKMILL_RETRIES='-1'" in error for error in bag.import_errors.values())


def test_there_is_a_job_that_trains_each_kind_of_model(monkeypatch):
    monkeypatch.syspath_prepend(INCLUDE)
    from click_tasks.settings import KINDS

    assert sorted(f"train_{kind}" for kind in KINDS) == sorted(
        path.stem for path in (ROOT / "jobs").glob("train_*.py")
    )


def test_nothing_of_clickmill_is_imported_and_the_dag_files_import_only_airflow_and_their_helpers():
    for path in [*DAGS.glob("*.py"), *INCLUDE.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] not in ("clickmill", "pyspark", "torch", "numpy", "pandas"), path
                if path.parent == DAGS:
                    assert name.split(".")[0] in ("__future__", "airflow", "click_tasks", "pendulum"), path


def test_the_folder_is_no_package_or_it_would_hide_airflow_itself():
    assert not list(ROOT.glob("airflow/__init__.py"))
    assert not list(Path(__file__).parent.glob("__init__.py"))


def test_the_lock_is_plain_pins_and_what_is_installed():
    pins = (ROOT / "airflow" / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert all(pin.count("==") == 1 and not set(pin) & set("/@ ") for pin in pins)
    asked = (ROOT / "airflow" / "requirements.in").read_text(encoding="utf-8").splitlines()
    assert {name.partition("==")[0] for name in asked} <= {pin.partition("==")[0] for pin in pins}
    freeze = [sys.executable, "-m", "pip", "freeze"]
    installed = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(pins) == set(installed)


def test_a_job_is_told_day_models_settings_and_master(dag, monkeypatch):
    task = rendered(dag("local", CLICKMILL_SETS="'dataset.slots=[C1, C2]'"), "calibrate")
    command = task._get_hook()._build_spark_submit_command(task.application)
    assert command[:3] == [str(ROOT / "airflow" / "bin" / "spark-submit"), "--master", "local[2]"]
    told = command[command.index(str(ROOT / "jobs" / "calibrate.py")) + 1 :]
    result = str(Path(os.environ["AIRFLOW_HOME"]) / "results" / "click_models_daily-r1-calibrate.json")
    assert told == [
        *("--conf", "datasets/simulated.yaml", "--set", "dataset.slots=[C1, C2]", "--ds", "2026-01-05"),
        *("--models", "lr,lr_nocross", "--set", "spark.master=local[2]", "--result-file", result),
    ]
    assert all(isinstance(part, str) for part in command)


@pytest.mark.parametrize("host", ["spark://10.1.2.3", "10.1.2.3"])  # (the second as of a connection by its URI)
def test_the_port_of_the_connection_is_the_masters_to_spark_submit_and_job_alike(dag, monkeypatch, host):
    spark = {"conn_type": "spark", "host": host, "port": 7077}
    daily = dag("local")
    monkeypatch.setenv("AIRFLOW_CONN_CLICKMILL_SPARK", json.dumps(spark))
    task = rendered(daily, "calibrate", host=spark["host"], port=spark["port"])
    command = task._get_hook()._build_spark_submit_command(task.application)
    assert command[1:3] == ["--master", "spark://10.1.2.3:7077"]
    assert "spark.master=spark://10.1.2.3:7077" in command


def test_the_days_of_a_first_run_are_told_to_the_jobs_of_days_alone(dag):
    daily = dag("local", CLICKMILL_MODELS="trees:xgboost", CLICKMILL_SIMULATE="1")
    for task in daily.tasks:
        arguments = rendered(daily, task.task_id, days=9).application_args
        if task.task_id in ("simulate", "ingest", "build_features", "encode", "downsample"):
            assert arguments[arguments.index("--days") + 1] == "9"
        else:
            assert "--days" not in arguments


def test_every_task_has_the_pool_a_limit_of_time_and_the_rule_of_retries(dag):
    for task in dag("local", CLICKMILL_POOL="narrow", CLICKMILL_RETRIES="5", CLICKMILL_TIMEOUT_MINUTES="30").tasks:
        assert (task.pool, task.retries, task.execution_timeout.total_seconds()) == ("narrow", 5, 1800)
        assert type(task.retry_policy).__name__ == "ByExitCode"


def test_retraining_takes_the_latest_day_that_drifted_and_other_stretches(dag):
    from types import SimpleNamespace

    daily = dag("local", name="click_models_retrain", CLICKMILL_RETRAIN_SETS="split.test=3h")
    events = {"drift": [SimpleNamespace(extra={"ds": day}) for day in ("2026-01-03", "2026-01-07", "2026-01-05")]}
    told = rendered(daily, "train_lr", triggering_asset_events=events).application_args
    assert told[told.index("--ds") + 1] == "2026-01-07"
    assert told[told.index("split.test=3h") - 1] == "--set"


def test_on_databricks_the_wheel_gets_the_same_arguments_and_the_compute_that_is_set(dag, monkeypatch):
    from unittest import mock

    from airflow.sdk.exceptions import TaskDeferred

    compute = {"existing_cluster_id": "0101-1", "libraries": [{"whl": "/Volumes/main/wheels/clickmill.whl"}]}
    task = rendered(dag("databricks", CLICKMILL_DATABRICKS=json.dumps(compute)), "ingest", days=2)
    hook = mock.Mock()
    hook.submit_run.return_value = 7
    hook.get_run.return_value = {"state": {"life_cycle_state": "PENDING", "result_state": "", "state_message": ""}}
    with mock.patch.object(type(task), "_hook", hook), pytest.raises(TaskDeferred):
        task.execute({"ti": mock.Mock(), "outlet_events": {}})
    (sent,) = hook.submit_run.call_args.args
    assert sent["tasks"] == [
        {
            "task_key": "ingest",
            "python_wheel_task": {
                "package_name": "clickmill",
                "entry_point": "clickmill",
                "parameters": [
                    *("run", "ingest", "--conf", "datasets/simulated.yaml"),
                    *("--ds", "2026-01-05", "--days", "2"),
                ],
            },
            **compute,
        }
    ]
    assert sent["idempotency_token"] == "5f3c"


def test_on_databricks_each_try_leaves_its_verdict_in_a_file_of_its_own_where_a_folder_is_set(dag):
    def told(**environment: str) -> list[str]:
        task = rendered(dag("databricks", **environment), "ingest")
        (sent,) = task.json["tasks"]
        return sent["python_wheel_task"]["parameters"]

    assert "--result-file" not in told()
    words = told(CLICKMILL_RESULTS="/Volumes/main/results")
    assert words[-2:] == ["--result-file", "/Volumes/main/results/click_models_daily-r1-ingest-1.json"]


@pytest.fixture
def dag(monkeypatch):
    """Parses a DAG with the environment that is given."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.syspath_prepend(INCLUDE)

    def parse(platform: str, name: str = "click_models_daily", **environment: str):
        monkeypatch.setenv("CLICKMILL_PLATFORM", platform)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        bag = DagBag(str(DAGS))
        assert bag.import_errors == {}
        return bag.dags[name]

    return parse


def scheduled(dag):
    """A DAG as the scheduler reads it, out of the database."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


def rendered(
    dag, task_id: str, *, days: int = 1, host="local[2]", port: int | None = None, kind="spark", **context: object
):
    """A copy of a task as it would run on 2026-01-05."""
    from types import SimpleNamespace

    task = dag.get_task(task_id)
    conn = SimpleNamespace(clickmill_spark=SimpleNamespace(conn_type=kind, host=host, port=port))
    ti = SimpleNamespace(task_id=task_id, try_number=1, id="5f3c")
    known = {"ds": "2026-01-05", "run_id": "r1", "dag": dag, "ti": ti, "conn": conn, "params": {"days": days}}
    task.render_template_fields(known | (dag.user_defined_macros or {}) | context)
    return task
