"""Ranks as real processes: every launcher trains the same, whoever is killed is named, and a rerun goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import trained
from safetensors.numpy import load_file

from clickmill import session
from clickmill.errors import InputError, NotEnoughMemoryError, PlatformError, RankError, WorldSizeError
from clickmill.loader import Counted
from clickmill.probe import launchers
from clickmill.train.wide_deep import launch as launching
from clickmill.train.wide_deep import team, words
from clickmill.train.wide_deep.launch import filled, is_here, launch
from clickmill.train.wide_deep.task import CHECKPOINTS, NETWORK, RESULT, TASK, Task

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NEEDS_HOROVOD = pytest.mark.skipif(find_spec("horovod") is None, reason="horovod is not installed (make deep)")
HOROVOD = pytest.param("horovod", marks=NEEDS_HOROVOD)
SOON_S = 60
LONG = 60_000
"""Rows of a training that is not over before it can be killed."""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A training of a few steps; a folder with a space in its name."""
    return trained.task(tmp_path_factory.mktemp("short") / "with space")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return trained.task(tmp_path_factory.mktemp("long"), number=LONG)


@pytest.fixture(scope="module")
def by_torch(short: Task) -> tuple[dict[str, Any], Task]:
    task = trained.again(short, "by-torchrun", launcher="torchrun", ranks=2)
    return launch(task), task


def network(task: Task) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(Path(task.folder) / RESULT / NETWORK)


def furthest(one: Task, other: Task) -> float:
    """The largest difference of two networks' weights."""
    a, b = network(one), network(other)
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in a)


def with_a_wrong_label(folder: Path) -> tuple[Counted, ...]:
    table = trained.rows(3000, seed=1, sampled=True)
    label = table["label"].to_numpy().copy()
    label[1500] = 2
    place = table.schema.get_field_index("label")
    return trained.pieces(folder / "wrong", table.set_column(place, "label", pa.array(label)))


def rank_1_begins_with(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the worker, which goes on as the worker itself."""
    (folder / "stand_in.py").write_text(
        "import os, runpy\n"
        f"if os.environ['RANK'] == '1':\n    {line}\n"
        f"runpy.run_module('{launching.WORKER}', run_name='__main__')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(launching, "WORKER", "stand_in")


def wait_for(ready: Any, what: str) -> None:
    end = time.monotonic() + 5 * SOON_S
    while not ready():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def reached(task: Task, steps: int) -> bool:
    place = Path(task.folder) / CHECKPOINTS / "latest"
    return place.exists() and int(place.read_text()) >= steps


@NEEDS_HOROVOD
def test_horovod_on_hosts_trains_as_torchrun_does(by_torch: tuple[dict[str, Any], Task]) -> None:
    figures, other = by_torch
    task = trained.again(other, "by-horovodrun", launcher="horovod", hosts="localhost:2")
    found = launch(task)
    assert furthest(task, other) <= 1e-6
    assert np.array(found["history"]) == pytest.approx(np.array(figures["history"]), abs=1e-6)


@NEEDS_HOROVOD
def test_horovod_in_spark_trains_as_torchrun_does(
    by_torch: tuple[dict[str, Any], Task], spark: SparkSession
) -> None:
    _, other = by_torch
    task = trained.again(other, "in-spark", launcher="horovod")
    before = signal.getsignal(signal.SIGINT)
    launch(task, spark=spark)
    assert furthest(task, other) <= 1e-6
    assert signal.getsignal(signal.SIGINT) is before  # (Horovod takes it, and it is given back)


@pytest.mark.parametrize("near", [True, False])
def test_spark_s_own_launcher_trains_as_torchrun_does(
    by_torch: tuple[dict[str, Any], Task],
    spark: SparkSession,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    near: bool,
) -> None:
    """By the driver, as where Spark is this machine alone, and by Spark's tasks, as on a cluster."""
    figures, other = by_torch
    monkeypatch.setattr(session, "is_local", lambda _: near)
    task = trained.again(other, f"by-distributor-{near}", launcher="torch_distributor")
    before = dict(os.environ)
    found = launch(task, spark=spark)
    assert furthest(task, other) <= 1e-6
    assert np.array(found["history"]) == pytest.approx(np.array(figures["history"]), abs=1e-6)
    assert [word["kind"] for word in words.heard(task.folder)] == ["done", "done"]
    assert os.environ == before
    assert capfd.readouterr().out == ""  # (which belongs to --json)


def test_figures_say_what_was_trained(by_torch: tuple[dict[str, Any], Task]) -> None:
    figures, _ = by_torch
    assert figures["rows"] == 6000
    assert figures["ranks"] == 2
    assert figures["steps"] == 2 * 12  # (3000 rows of a rank, 256 a step)
    assert figures["bytes_per_step"] > 0
    assert figures["validation_log_loss"] == min(look[2] for look in figures["history"])
    assert all(norm > 0 for norm in figures["gradient_norms"].values())


KILLS = [
    ("local", 1, 0),
    ("torchrun", 2, 1),
    pytest.param("torchrun", 2, 0, marks=pytest.mark.slow),
    pytest.param("horovod", 2, 0, marks=NEEDS_HOROVOD),
    pytest.param("horovod", 2, 1, marks=[NEEDS_HOROVOD, pytest.mark.slow]),
]


@pytest.mark.parametrize(("launcher", "ranks", "killed"), KILLS)
def test_a_killed_rank_is_named_and_a_rerun_ends_as_if_nothing_had_been(
    long: Task, launcher: str, ranks: int, killed: int
) -> None:
    name = f"{launcher}-{killed}"
    whole = trained.again(long, f"{name}-whole", launcher=launcher, ranks=ranks, epochs=1)
    cut = trained.again(whole, f"{name}-cut")
    moment: list[float] = []

    def kill() -> None:
        wait_for(lambda: reached(cut, 8), "no checkpoint")
        (word,) = [one for one in words.heard(cut.folder) if one["rank"] == killed]
        os.kill(word["process"][0], signal.SIGKILL)
        moment.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RankError, match=rf"^rank {killed} \(process \d+ on .*\) was killed"):
        launch(cut)
    assert time.monotonic() - moment[0] < SOON_S
    killer.join()
    assert not any(psutil.pid_exists(word["process"][0]) for word in words.heard(cut.folder))
    figures = launch(cut)
    assert figures["resumed_from"] >= 8
    launch(whole)
    assert furthest(whole, cut) <= (0.0 if ranks == 1 else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "near"),
    [
        pytest.param("horovod", True, marks=NEEDS_HOROVOD),
        ("torch_distributor", True),
        ("torch_distributor", False),
    ],
)
def test_a_rank_that_spark_started_is_named_when_it_is_killed_and_a_rerun_goes_on(
    long: Task, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, launcher: str, near: bool
) -> None:
    monkeypatch.setattr(session, "is_local", lambda _: near)
    name = f"{launcher}-{near}"
    whole = trained.again(long, f"{name}-whole", launcher=launcher, ranks=2, epochs=1)
    cut = trained.again(whole, f"{name}-cut")
    moment: list[float] = []

    def kill() -> None:
        wait_for(lambda: reached(cut, 8), "no checkpoint")
        (word,) = [one for one in words.heard(cut.folder) if one["rank"] == 1]
        os.kill(word["process"][0], signal.SIGKILL)
        moment.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RankError, match=r"^rank 1 .*was killed"):
        launch(cut, spark=spark)
    assert time.monotonic() - moment[0] < SOON_S
    killer.join()
    assert launch(cut, spark=spark)["resumed_from"] >= 8
    launch(whole, spark=spark)
    assert furthest(whole, cut) <= 1e-6


@pytest.mark.parametrize("near", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_rank_of_spark_s_own_launcher_says_itself_what_went_wrong(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    monkeypatch.setattr(session, "is_local", lambda _: near)
    task = trained.task(tmp_path, launcher="torch_distributor", ranks=2)
    with pytest.raises(InputError, match="a label is neither 0 nor 1"):
        launch(replace(task, training=with_a_wrong_label(tmp_path)), spark=spark)


@pytest.mark.parametrize("launcher", ["torchrun", HOROVOD])
def test_no_rank_outlives_the_driver(long: Task, launcher: str) -> None:
    task = trained.again(long, f"driver-of-{launcher}", launcher=launcher, ranks=2, epochs=1000)
    code = (
        "import sys; from clickmill.train.wide_deep.launch import launch; "
        "from clickmill.train.wide_deep.task import Task; launch(Task.load(sys.argv[1]))"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(task.save())])
    wait_for(lambda: reached(task, 4), "no checkpoint")
    pids = [word["process"][0] for word in words.heard(task.folder)]
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), f"of {pids} some are still there")


def test_the_rank_that_meets_a_wrong_label_is_heard_not_its_neighbour(tmp_path: Path) -> None:
    task = trained.task(tmp_path, launcher="torchrun", ranks=2)
    with pytest.raises(InputError, match=r"wrong.*\.parquet, row group 1: a label is neither 0 nor 1"):
        launch(replace(task, training=with_a_wrong_label(tmp_path)))


def test_world_sizes_that_disagree_are_an_error_by_name(short: Task) -> None:
    task = trained.again(short, "two-asked", launcher="torchrun", ranks=2)
    worker = [sys.executable, "-m", launching.WORKER, str(task.save()), "--team", "alone"]
    assert subprocess.run(worker, capture_output=True, check=False).returncode == 1
    reason = words.verdict(task.folder, 2)
    assert isinstance(reason, WorldSizeError)
    assert "by 2 ranks, and 1 were started" in str(reason)


def test_what_a_launcher_says_is_told_where_no_rank_came(short: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "WORKER", "clickmill.no_such_module")
    task = trained.again(short, "nobody", launcher="local")
    with pytest.raises(RankError, match=r"0 of 1 ranks had come \(not rank 0\): .*no_such_module"):
        launch(task)


def test_a_rank_that_is_killed_before_it_says_a_word_is_named(
    short: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank_1_begins_with("import signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path, monkeypatch)
    with pytest.raises(RankError, match=r"[01] of 2 ranks had come \(not rank (0, )?1\)"):
        launch(trained.again(short, "killed-early", launcher="torchrun", ranks=2))


def test_a_rank_on_a_machine_with_too_little_memory_says_so_before_it_has_tables(
    short: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = "from clickmill.train.wide_deep import memory; memory.free = lambda: 2**12"
    rank_1_begins_with(little, tmp_path, monkeypatch)
    with pytest.raises(NotEnoughMemoryError, match="where each of 2 ranks may use"):
        launch(trained.again(short, "little", launcher="torchrun", ranks=2))


def test_a_package_that_is_not_there_is_said_with_what_installs_it(
    short: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PlatformError, match="horovod is not installed: `make deep`"):
        launch(trained.again(short, "no-horovod", launcher="horovod", ranks=2))
    with pytest.raises(PlatformError, match="starts processes by Spark, and there is no session"):
        launch(trained.again(short, "no-session", launcher="torch_distributor", ranks=2))


@pytest.mark.slow
@NEEDS_HOROVOD
def test_the_doctor_has_every_launcher_train_and_leaves_nothing(spark: SparkSession, tmp_path: Path) -> None:
    found = launchers.tried(spark, str(tmp_path))
    assert [(one.ok, one.found.partition(" in ")[0]) for one in found] == [
        (True, "trained a network by 1 rank"),
        *[(True, "trained a network by 2 ranks")] * 4,
    ]


def test_the_doctor_tells_why_a_launcher_does_not_work(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "WORKER", "clickmill.no_such_module")
    monkeypatch.setattr(launchers, "WAYS", launchers.WAYS[:1])
    found, none = launchers.tried(spark, str(tmp_path))
    assert (found.name, found.ok, found.needed) == ("launcher local", False, False)
    assert "no_such_module" in found.found
    assert (none.found, none.ok, none.needed) == ("none works", False, True), "what the doctor ends with 2 for"
    monkeypatch.setattr(session, "is_local", lambda _: False)
    (found,) = launchers.tried(spark, "s3://bucket/warehouse")
    assert "not tried" in found.found
    assert not found.needed, "what was not tried is not known to fail"


def test_hosts_that_are_this_machine_are_known() -> None:
    assert is_here(f"localhost:2,127.0.0.1:1,{socket.gethostname()}:4")
    assert not is_here("localhost:1,elsewhere:1")


def test_no_more_slots_are_filled_than_there_are_ranks() -> None:
    assert filled("a:4", 2) == "a:2"
    assert filled("a:1, b:3,c:1", 3) == "a:1,b:2"
    assert filled("a:1,a:1", 2) == "a:2"


def test_a_rank_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "JOIN", timedelta(seconds=1))
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "TORCHELASTIC_RUN_ID": "one"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(RankError, match=r"^rank 1, 2 did not start within 0:00:01, for which rank 0 waited$"),
        team.joined("torch", meeting=str(tmp_path)),
    ):
        pass


def test_the_task_comes_back_from_its_file(short: Task) -> None:
    place = short.save()
    assert place.name == TASK
    found = Task.load(place)
    assert found.spec == short.spec
    assert found.layout == short.layout
    assert found.validation[0].rows == short.validation[0].rows
    assert json.loads(place.read_text())["folder"] == short.folder
