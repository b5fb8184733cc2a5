"""A driver killed at any point: what it left can be read, and a rerun ends as if nothing had been."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import SparkSession
from running import QUICK_JVM
from small import SETS, run

MARK = "CLICKMILL_TEST_DRIVER"
"""Stands in the environment of a driver and of all that it starts, so that none of them is overlooked."""
DAYS = (date(2026, 1, 1), date(2026, 1, 2))
TABLES = {"ingest": ("click_log", "rejects"), "downsample": ("sample",)}
"""What each job writes."""
BROKEN = ("no fields at all", "20260101-x,2026-01-01T00:00:00Z", '"', "one,two,three")
"""Lines that are refused, whatever the log's fields."""
Rows = dict[str, pa.Table | None]


class Driver(NamedTuple):
    """A job in a process of its own."""

    process: subprocess.Popen[bytes]
    mark: str

    def family(self) -> list[psutil.Process]:
        """The driver and all that it started, its JVM and Python workers, as far as they are alive."""
        return [found for found in psutil.process_iter() if _marked(found, self.mark)]

    def kill(self, *, everything: bool) -> bool:
        """Kills the driver alone or with all that it started, waits for the rest; whether it was still at work."""
        self.process.kill()
        killed = self.process.wait() == -9
        patience = time.monotonic() + 60
        while left := self.family():
            for one in left if everything else ():
                _kill(one)
            assert time.monotonic() < patience, f"outlived its driver by a minute: {left}"
            time.sleep(0.2)
        return killed


def start(job: str, warehouse: Path, *sets: str) -> Driver:
    """The job of DAYS, as its command line would be typed."""
    mark = uuid.uuid4().hex
    arguments = ["--conf", "datasets/simulated.yaml", "--ds", str(DAYS[-1]), "--days", str(len(DAYS)), "--json"]
    for item in (f"warehouse={warehouse}", *SETS, *sets):
        arguments += ["--set", item]
    with open(warehouse.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"clickmill.jobs.{job}", *arguments],
            env=os.environ | QUICK_JVM | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Driver(process, mark)


def rows(warehouse: Path, job: str) -> Rows:
    """The rows of DAYS in each table that the job writes, in one order; None where there are none."""
    return {name: _rows(warehouse / name) for name in TABLES[job]}


def same(found: Rows, expected: Rows) -> bool:
    """Whether two sets of tables hold the same rows, in all columns but the run's id."""
    return all(
        mine is its if mine is None or its is None else mine.equals(its)
        for mine, its in ((found[name], expected[name]) for name in expected)
    )


def check_whole(left: Rows, states: tuple[Rows, Rows]) -> None:
    """Each table is as it was before the job or as it is after it, nothing between."""
    for name, table in left.items():
        assert any(same({name: table}, {name: state[name]}) for state in states), f"half a write of {name}"


def verdicts(warehouse: Path, job: str) -> dict[str, list[str]]:
    """Run ids of the job's runs of DAYS by what `runs` says of them: ["lost", "running"], …"""
    table = DeltaTable(warehouse / "runs").to_pyarrow_table(columns=["run_id", "job", "ds", "status"])
    said: dict[str, list[str]] = {}
    for row in table.to_pylist():
        if row["job"] == job and row["ds"] == DAYS[-1]:
            said.setdefault(row["run_id"], []).append(row["status"])
    return {run_id: sorted(statuses) for run_id, statuses in said.items()}


def rerun(job: str, warehouse: Path, *sets: str) -> None:
    code, verdict = run(job, str(warehouse), *sets, ds=DAYS[-1], days=len(DAYS))
    assert code == 0, verdict


@pytest.fixture(scope="module")
def finished(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with all days up to the sample. Tests copy it."""
    warehouse = tmp_path_factory.mktemp("jobs") / "ware house"
    for job in ("simulate", "ingest", "build_features", "downsample"):
        rerun(job, warehouse)
    return warehouse


def test_a_driver_killed_as_it_writes_leaves_nothing_that_a_rerun_does_not_mend(
    finished: Path, tmp_path: Path
) -> None:
    warehouse = _aged(shutil.copytree(finished, tmp_path / "killed"), "downsample")
    before, files = rows(warehouse, "downsample"), _files(warehouse / "sample")
    driver = start("downsample", warehouse)
    _until(lambda: _files(warehouse / "sample") > files, driver)
    assert driver.kill(everything=True)
    assert same(rows(warehouse, "downsample"), before), "killed as it wrote: the older rows must be there"
    rerun("downsample", warehouse)
    assert same(rows(warehouse, "downsample"), rows(finished, "downsample"))
    said = verdicts(warehouse, "downsample").values()
    assert sorted(said) == [["done", "running"], ["done", "running"], ["lost", "running"]]


@pytest.mark.slow
def test_a_driver_killed_after_its_commit_has_done_its_work_and_a_rerun_changes_nothing(
    finished: Path, tmp_path: Path
) -> None:
    warehouse = _aged(shutil.copytree(finished, tmp_path / "killed"), "downsample")
    version = DeltaTable(warehouse / "sample").version()
    driver = start("downsample", warehouse)
    _until(lambda: (warehouse / "sample" / "_delta_log" / f"{version + 1:020}.json").exists(), driver)
    assert driver.kill(everything=True)
    expected = rows(finished, "downsample")
    assert same(rows(warehouse, "downsample"), expected)
    assert sorted(verdicts(warehouse, "downsample").values()) == [["done", "running"], ["running"]]
    rerun("downsample", warehouse)
    assert same(rows(warehouse, "downsample"), expected)
    said = verdicts(warehouse, "downsample").values()
    assert sorted(said) == [["done", "running"], ["done", "running"], ["lost", "running"]]


@pytest.mark.slow
@pytest.mark.parametrize("job", TABLES)
def test_a_job_killed_at_ten_moments_and_run_again_gives_what_an_undisturbed_one_gives(
    finished: Path, tmp_path: Path, job: str
) -> None:
    sets = (_csv_source(finished, tmp_path),) if job == "ingest" else ()
    bare = _without(shutil.copytree(finished, tmp_path / "bare"), job)
    undisturbed = shutil.copytree(bare, tmp_path / "undisturbed")
    began = time.monotonic()
    assert start(job, undisturbed, *sets).process.wait() == 0, undisturbed.with_suffix(".log").read_text()
    seconds = time.monotonic() - began
    expected = rows(undisturbed, job)
    assert None not in expected.values()
    aged = _aged(shutil.copytree(undisturbed, tmp_path / "aged"), job)
    assert not same(rows(aged, job), expected)
    lost = 0
    for number, moment in enumerate(moments(seconds, seed=len(job))):
        # Some drivers die alone and their JVM by itself, some with all that is theirs; some find older rows.
        before = aged if number % 2 else bare
        warehouse = _killed(job, before, tmp_path / f"kill {number}", *sets, moment=moment, alone=number % 4 < 2)
        check_whole(rows(warehouse, job), (rows(before, job), expected))
        rerun(job, warehouse, *sets)
        assert same(rows(warehouse, job), expected), f"killed after {moment:.1f} of {seconds:.1f} s"
        said = list(verdicts(warehouse, job).values())
        assert all(one in (["lost", "running"], ["done", "running"]) for one in said), said
        lost += said.count(["lost", "running"])
        shutil.rmtree(warehouse)
    print(f"{job}: {seconds:.1f} s undisturbed; {lost} of the ten were killed between their rows of `runs`")
    assert lost >= 3


def moments(seconds: float, *, seed: int) -> list[float]:
    """Ten random moments of a run so long: three of its start, seven of its second half, where it writes."""
    rng = np.random.default_rng(seed)
    shares = np.concatenate([rng.uniform(0, 0.5, 3), rng.uniform(0.5, 1, 7)])
    return [float(share) * seconds for share in rng.permutation(shares)]


def _killed(job: str, before: Path, warehouse: Path, *sets: str, moment: float, alone: bool) -> Path:
    """The warehouse that a driver leaves which is killed then; earlier, where it had ended by then."""
    while True:
        shutil.copytree(before, warehouse)
        driver = start(job, warehouse, *sets)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.process.wait(timeout=moment)
        if driver.kill(everything=not alone):
            return warehouse
        shutil.rmtree(warehouse)
        moment *= 0.9


def _csv_source(finished: Path, folder: Path) -> str:
    """The finished raw log of DAYS as a CSV file with some broken lines, and the setting that names it."""
    table = DeltaTable(finished / "raw_log").to_pyarrow_table(filters=[("ds", "in", list(DAYS))]).drop(["ds"])
    times = pc.strftime(table["time"], format="%Y-%m-%dT%H:%M:%SZ")
    table = table.set_column(table.schema.get_field_index("time"), "time", times).sort_by("event_id")
    path = folder / "raw log.csv"
    pyarrow.csv.write_csv(table, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(BROKEN):
        lines.insert(500 * (place + 1), line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"dataset.source={{format: csv, path: '{path}', header: true, day_column: null}}"


def _without(warehouse: Path, job: str) -> Path:
    for name in TABLES[job]:
        shutil.rmtree(warehouse / name)
    return warehouse


def _aged(warehouse: Path, job: str) -> Path:
    """Takes rows away, so that the job has something to put right."""
    for name in TABLES[job]:
        DeltaTable(warehouse / name).delete("line > 1000" if name == "rejects" else "label = 1")
    return warehouse


def _rows(path: Path) -> pa.Table | None:
    try:
        table = DeltaTable(path).to_pyarrow_table(filters=[("ds", "in", list(DAYS))])
    except TableNotFoundError:
        return None
    names = sorted(name for name in table.column_names if name != "run_id")
    keys = ["source", "line"] if "line" in names else ["event_id"]
    ordered = table.select(names).sort_by([(key, "ascending") for key in keys]).combine_chunks()
    return ordered if len(ordered) else None


def _files(table: Path) -> set[Path]:
    return set(table.glob("ds=*/**/*.parquet"))


def _until(happened: Callable[[], bool], driver: Driver, *, patience: timedelta = timedelta(minutes=3)) -> None:
    end = time.monotonic() + patience.total_seconds()
    while not happened():
        assert driver.process.poll() is None, "the job ended before it was seen to write"
        if time.monotonic() > end:
            driver.kill(everything=True)
            pytest.fail("the job did not begin to write")
        time.sleep(0.01)


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
