"""What Airflow makes of a job's end: what is tried again, what a failure says, a refusal, the events of assets."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import ROOT
from deltalake import write_deltalake
from played import Played, error

DAY = "2026-01-05"
OF_DAYS = ["ingest", "build_features", "downsample"]
TRAINED = [*OF_DAYS, "train_logreg", "train_logreg"]
JUDGED = [*TRAINED, "calibrate", "evaluate", "promote"]


@pytest.fixture(scope="module")
def _database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def played(tmp_path, monkeypatch, _database) -> Played:
    player = Played(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "airflow" / "include")
    monkeypatch.setenv("CLICKMILL_SPARK_SUBMIT", str(player.script))
    monkeypatch.setenv("CLICKMILL_RETRY_SECONDS", "0")
    monkeypatch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.02)))  # dag.test's
    monkeypatch.setenv("CLICKMILL_RESULTS", str(tmp_path / "results"))
    return player


class Ended:
    """A run of click_models_daily that has ended."""

    def __init__(self, run: Any) -> None:
        self.state = str(run.state)
        self.tasks = {ti.task_id: ti for ti in run.get_task_instances()}

    def states(self) -> dict[str, str]:
        return {name: str(ti.state) for name, ti in self.tasks.items()}


def run_day() -> Ended:
    """Runs the day in this process, as `airflow dags test` does."""
    import pendulum
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "airflow" / "dags"))
    assert bag.import_errors == {}
    return Ended(bag.dags["click_models_daily"].test(logical_date=pendulum.parse(DAY)))


def jobs(played: Played) -> list[str]:
    return [job for job, _day, _arguments in played.calls]


def events() -> dict[str, list[dict[str, Any]]]:
    """The metadata of all events there are, by the asset's name, the newest last."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.execute(
            select(AssetModel.name, AssetEvent.extra)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .order_by(AssetEvent.id)
        ).all()
    found: dict[str, list[dict[str, Any]]] = {}
    for name, extra in rows:
        found.setdefault(name, []).append(extra)
    return found


def test_a_good_day_runs_each_job_once_and_says_what_it_made(played):
    played.ends(
        train_logreg={"models": [{"model_id": "lr-2026-01-05-0a"}]},
        promote={"decision": {"promoted": True, "champion": "lr-2026-01-05-0a", "sentences": ["it is better"]}},
        monitor={"drift": {"verdict": "retrain", "sentences": ["C3 has changed"]}},
    )
    ended = run_day()
    assert ended.state == "success"
    assert jobs(played) == [*JUDGED, "monitor"]
    assert {day for _job, day, _arguments in played.calls} == {DAY}
    said = {name: found[-1] for name, found in events().items()}
    assert said["clickmill_features"] == {
        "ds": DAY,
        "run_id": "r-build_features",
        "tables": {"features": 3, "build_features": 1},
    }
    assert said["clickmill_models"]["models"] == ["lr-2026-01-05-0a"]
    assert said["clickmill_models"]["tables"] == {"features": 3, "train_logreg": 1}
    assert said["clickmill_champion"]["champion"] == "lr-2026-01-05-0a"
    assert said["clickmill_champion"]["sentences"] == ["it is better"]
    assert said["clickmill_drift"]["verdict"] == "retrain"
    assert said["clickmill_drift"]["ds"] == DAY


@pytest.mark.parametrize("level", ["none", "watch"])
def test_a_champion_that_stays_and_a_day_that_has_not_drifted_are_no_events(played, level):
    before = events()
    played.ends(
        promote={"decision": {"promoted": False, "champion": "a", "sentences": ["a is the champion already"]}},
        monitor={"drift": {"verdict": level, "sentences": []}},
    )
    assert run_day().state == "success"
    after = events()
    for name in ("clickmill_champion", "clickmill_drift"):
        assert after.get(name, []) == before.get(name, [])
    assert len(after["clickmill_features"]) == len(before.get("clickmill_features", [])) + 1


def test_a_failure_that_a_retry_may_help_is_tried_as_often_as_set_and_told_in_the_jobs_words(
    played, monkeypatch, tmp_path
):
    alert = tmp_path / "alert"
    alert.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/message"\n', encoding="utf-8")
    alert.chmod(0o755)
    monkeypatch.setenv("CLICKMILL_ALERT", str(alert))
    played.ends(train_logreg=error("RankError", "rank 1 was killed", code=1))
    ended = run_day()
    assert ended.state == "failed"
    assert jobs(played).count("train_logreg") >= 3, "once, and two retries"
    assert ended.states()["calibrate"] == "upstream_failed"
    message = (tmp_path / "message").read_text(encoding="utf-8")
    assert message.startswith("click_models_daily.train_lr")
    assert "train_logreg: RankError: rank 1 was killed (exit code: 1, a retry may help)" in message
    assert "INFO of Spark" not in message


@pytest.mark.parametrize(("name", "code"), [("ConfigError", 2), ("RejectLimitError", 3)], ids=["usage", "input"])
def test_wrong_usage_and_wrong_input_fail_at_once(played, name, code):
    played.ends(ingest=error(name, "told by the job", code=code))
    ended = run_day()
    assert ended.state == "failed"
    assert jobs(played) == ["ingest"]
    assert ended.states()["ingest"] == "failed"
    assert {state for task, state in ended.states().items() if task != "ingest"} == {"upstream_failed"}


@pytest.mark.parametrize("code", [1, 3])
def test_without_a_verdict_the_exit_code_that_spark_submit_had_counts(played, code):
    """As where the JVM dies, or a cluster's disk is not this machine's."""
    played.ends(ingest={"silent": True, "exit_code": code})
    ended = run_day()
    assert ended.state == "failed"
    assert jobs(played) == ["ingest"] * (1 if code == 3 else 3)


def test_a_verdict_of_an_earlier_try_is_not_taken_for_this_ones(played):
    """The second try dies without one: its exit code counts, not what the first has left."""
    played.ends(ingest=[error("RankError", "rank 1 was killed", code=1), {"silent": True, "exit_code": 3}])
    assert run_day().state == "failed"
    assert jobs(played) == ["ingest"] * 2


def test_a_refusal_marks_the_day_as_not_promoted_and_not_as_broken(played):
    before = events()
    played.ends(promote=error("GateRefusedError", "NE is not proven lower", code=4))
    ended = run_day()
    assert ended.state == "success"
    assert jobs(played) == [*JUDGED, "monitor"], "a refusal is not tried again"
    assert ended.states()["promote"] == "skipped"
    assert ended.states()["monitor"] == "success"
    assert events().get("clickmill_champion") == before.get("clickmill_champion")


def test_what_is_raised_is_the_jobs_own_error(played):
    from airflow.sdk.exceptions import AirflowException
    from click_tasks.outcome import JobFailed, NotPromoted, exit_code, told

    result = played.script.parent / "result.json"
    result.write_text(json.dumps(error("GateRefusedError", "NE 0.91 against 0.90", code=4)), encoding="utf-8")
    with pytest.raises(NotPromoted, match=r"^not promoted: NE 0\.91 against 0\.90$"), told("promote", str(result)):
        raise AirflowException("Cannot execute: spark-submit. Error code is: 4.\nINFO of Spark")
    with pytest.raises(JobFailed) as raised, told("ingest", None):
        raise AirflowException("failed with the errors [{'task_key': 'ingest', 'error': 'SystemExit: 3'}]")
    assert exit_code(raised.value) == 3, "Databricks tells the code so"


@pytest.mark.parametrize(("code", "kind"), [(1, "JobFailed"), (3, "JobFailed"), (4, "NotPromoted"), (0, None)])
def test_the_verdict_counts_where_the_platform_tells_of_no_error(played, code, kind):
    from click_tasks import outcome

    result = played.script.parent / "result.json"
    result.write_text(json.dumps(error("NoRowsError", "no rows", code=code)), encoding="utf-8")
    if kind is None:
        with outcome.told("downsample", str(result)):
            pass
        return
    with pytest.raises(getattr(outcome, kind), match="no rows"), outcome.told("downsample", str(result)):
        pass


def test_a_spark_submit_that_is_not_there_is_not_tried_again(played, monkeypatch):
    monkeypatch.setenv("CLICKMILL_SPARK_SUBMIT", str(played.script.parent / "nowhere"))
    monkeypatch.setenv("CLICKMILL_RETRIES", "3")
    ended = run_day()
    assert (ended.state, ended.tasks["ingest"].try_number) == ("failed", 1)


def test_the_policy_is_asked_with_what_the_operator_raised(played):
    from airflow.sdk.definitions.retry_policy import RetryAction
    from click_tasks.outcome import ByExitCode, JobFailed

    for code, action in ((1, "default"), (2, "fail"), (3, "fail"), (137, "default")):
        raised = JobFailed("ingest: words", code=code)
        assert ByExitCode().evaluate(raised, 1, 3).action is RetryAction(action)
    assert ByExitCode().evaluate(KeyError("x"), 1, 3).action is RetryAction.DEFAULT


@pytest.mark.parametrize("code", [1, 3])
@pytest.mark.parametrize(
    "words", ["worker 1 failed, SystemExit: 2", "Cannot execute: a. Error code is: 2.", "(exit code: 2"]
)
def test_the_verdicts_own_code_counts_whatever_codes_its_message_tells(played, code, words):
    from airflow.sdk.exceptions import AirflowException
    from click_tasks.outcome import JobFailed, exit_code, told

    result = played.script.parent / "result.json"
    result.write_text(json.dumps(error("RankError", words, code=code)), encoding="utf-8")
    with pytest.raises(JobFailed, match="RankError") as raised, told("train", str(result)):
        raise AirflowException(f"Cannot execute: spark-submit. Error code is: {code}.")
    assert exit_code(raised.value) == code


def test_the_platforms_code_is_where_the_platform_tells_it(played):
    """Of spark-submit before the output's last lines, of Databricks at the end of the trace."""
    from airflow.sdk.exceptions import AirflowException
    from click_tasks.outcome import exit_code

    spark = "Cannot execute: spark-submit --conf a.b=c ingest.py. Error code is: 143.\nINFO SystemExit: 2"
    assert exit_code(AirflowException(spark)) == 143
    trace = "with the errors [{'error': 'RankError: a worker had SystemExit: 2\\n...\\nSystemExit: 3'}]"
    assert exit_code(AirflowException(trace)) == 3
    assert exit_code(AirflowException("no code at all")) == 1


@pytest.mark.parametrize("torn", ['{"exit_code": 1, "err', "[1]", "7", '"\\ud8'])
def test_a_result_file_that_is_torn_counts_as_none_and_the_log_says_so(played, torn, caplog):
    from airflow.sdk.exceptions import AirflowException
    from click_tasks.outcome import JobFailed, exit_code, told

    result = played.script.parent / "result.json"
    result.write_text(torn, encoding="utf-8")
    with pytest.raises(JobFailed, match="Cannot execute") as raised, told("ingest", str(result)):
        raise AirflowException("Cannot execute: spark-submit. Error code is: 3.")
    assert exit_code(raised.value) == 3
    assert f"{result} holds no" in caplog.text


def test_a_torn_verdict_is_retried_by_the_platforms_code(played):
    played.ends(ingest={"torn": True, "exit_code": 3})
    assert run_day().state == "failed"
    assert jobs(played) == ["ingest"]


NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)


def runs(place: Path, *rows: tuple[str, date, datetime, int | None, str | None], models: str = "[]") -> str:
    """A table of such rows: job, day, at, exit code, error."""
    names = ("job", "ds", "at", "exit_code", "error", "run_id", "models")
    told = [dict(zip(names, (*row, f"r{number}", models), strict=True)) for number, row in enumerate(rows)]
    kinds = (pa.string(), pa.date32(), pa.timestamp("us", "UTC"), pa.int32(), *[pa.string()] * 3)
    write_deltalake(place, pa.Table.from_pylist(told, pa.schema(list(zip(names, kinds, strict=True)))))
    return str(place)


def test_the_table_runs_tells_how_the_newest_run_of_the_job_and_day_ended(tmp_path, caplog):
    from click_tasks.ledger import ended, sought

    day, refused = date(2026, 1, 5), "GateRefusedError: NE 0.91: against 0.90"
    table = runs(
        tmp_path / "runs",
        ("promote", day, NOW - timedelta(minutes=5), 3, "NoRowsError: an earlier try's"),
        ("promote", day, NOW + timedelta(minutes=1), None, None),
        ("promote", day, NOW + timedelta(minutes=2), 1, "RankError: rank 0"),
        ("promote", day, NOW + timedelta(minutes=3), 4, refused),
        ("promote", date(2026, 1, 4), NOW + timedelta(minutes=4), 2, "ConfigError: another day's"),
        ("evaluate", day, NOW + timedelta(minutes=4), 2, "ConfigError: another job's"),
    )
    error = {"name": "GateRefusedError", "message": "NE 0.91: against 0.90"}
    found = {"exit_code": 4, "error": error, "run_id": "r3", "ds": "2026-01-05"}
    own = sought("promote", ["--conf", "a.yaml", "--ds", "2026-01-05"])
    assert ended(table, own, NOW) == found
    assert ended(table, own, NOW + timedelta(hours=1)) is None
    assert ended(table, own | {"job": "calibrate"}, NOW) is None
    assert ended(None, own, NOW) is None
    assert not caplog.text
    assert ended(str(tmp_path / "nowhere"), own, NOW) is None
    assert "nowhere cannot be read and is not asked" in caplog.text


def test_another_models_run_of_the_same_job_and_day_is_not_the_tasks_own(tmp_path):
    from click_tasks.ledger import ended, sought

    row = ("train_logreg", date(2026, 1, 5), NOW, 3, "NoRowsError: none")
    table = runs(tmp_path / "runs", row, models='["lr", "lr_nocross"]')
    both, one = (sought("train_logreg", ["--ds", "2026-01-05", "--models", of]) for of in ("lr,lr_nocross", "lr"))
    assert ended(table, both, NOW)["exit_code"] == 3
    assert ended(table, one, NOW) is None


@pytest.mark.parametrize(("code", "platform", "tries"), [(3, 1, 1), (1, 3, 2)])
def test_where_the_platform_loses_the_code_and_the_verdict_the_table_runs_is_asked(
    played, monkeypatch, tmp_path, code, platform, tries
):
    row = ("ingest", date(2026, 1, 5), datetime.now(UTC) + timedelta(hours=1), code, "RejectLimitError: 5%")
    monkeypatch.setenv("CLICKMILL_RUNS", runs(tmp_path / "runs", row))
    monkeypatch.setenv("CLICKMILL_RETRIES", "1")
    played.ends(ingest={"torn": True, "exit_code": platform})
    ended = run_day()
    assert (ended.state, ended.tasks["ingest"].try_number) == ("failed", tries)


def test_a_task_waits_for_the_log_where_asked_and_a_day_long_gone_has_its(played, monkeypatch):
    monkeypatch.setenv("CLICKMILL_WAIT_HOURS", "6.5")
    ended = run_day()
    assert ended.state == "success"
    assert ended.states()["wait"] == "success"
    assert jobs(played) == [*JUDGED, "monitor"]


def test_a_connection_that_is_missing_is_an_error_and_not_a_job_on_yarn(played, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_CLICKMILL_SPARK")
    monkeypatch.setenv("CLICKMILL_RETRIES", "0")
    assert run_day().state == "failed"
    assert played.calls == []


def test_the_command_line_ends_with_the_runs_state(played):
    """`airflow dags test` is what a CI calls."""
    played.ends(ingest=error("NoRowsError", "no rows", code=3))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "airflow" / "include")}
    command = ["airflow", "dags", "test", "click_models_daily", DAY, "--conf", '{"days": 3}']
    done = subprocess.run(
        [os.path.join(os.path.dirname(os.sys.executable), command[0]), *command[1:]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    ((_job, _day, arguments),) = played.calls
    assert arguments[arguments.index("--days") + 1] == "3"
    assert "NoRowsError: no rows" in done.stdout + done.stderr
