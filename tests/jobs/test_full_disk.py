"""A disk that runs full: a named error that asks for no retry, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import stored
from pyspark.sql import SparkSession
from small import SETS, run

from clickmill.job import Arguments, called, execute

DS = date(2026, 1, 2)
MIB = 2**20
ROWS = "simulate.rows_per_day=20000"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["{}", "file://{}"], ids=["workers write", "spark writes"])
def test_a_disk_that_runs_full_is_named_and_the_tables_are_as_they_were(
    spark: SparkSession, small_disk: Path, tmp_path: Path, place: str
) -> None:
    warehouse = small_disk / "warehouse"
    for job in ("simulate", "ingest", "build_features"):
        assert run(job, str(warehouse), ROWS, ds=DS, days=1)[0] == 0
    before = stored.rows(warehouse, "features")
    version = stored.version(warehouse, "features")
    room = shutil.disk_usage(small_disk).free - MIB // 4
    with open(small_disk / "filler", "wb") as filler:
        filler.write(bytes(room))
    code, verdict = build_features(place.format(warehouse), tmp_path / "verdict.json")
    assert (code, verdict["error"]["name"]) == (2, "NoSpaceError"), verdict
    assert "make room" in verdict["error"]["message"]
    assert stored.version(warehouse, "features") == version
    assert stored.rows(warehouse, "features") == before
    os.unlink(small_disk / "filler")
    assert build_features(place.format(warehouse), tmp_path / "verdict.json")[0] == 0
    assert stored.rows(warehouse, "features") == before


def build_features(warehouse: str, result: Path) -> tuple[int, dict[str, Any]]:
    """The job's exit code and verdict, which goes to a disk that has room."""
    sets = (f"warehouse={warehouse}", *SETS, ROWS)
    arguments = Arguments(conf=("datasets/simulated.yaml",), set=sets, ds=DS, days=1, result_file=str(result))
    code = execute(called("build_features"), arguments)
    verdict: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return code, verdict
