"""A disk that runs full: a named error that asks for no retry, and nothing half-written."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import stored
from disks import MIB, fill, small_disk
from pyspark.sql import SparkSession
from small import SETS, run

from clickmill.job import Arguments, called, execute

DS = date(2026, 1, 2)
ROWS = "simulate.rows_per_day=20000"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["{}", "file://{}"], ids=["workers write", "spark writes"])
def test_a_disk_that_runs_full_is_named_and_the_tables_are_as_they_were(
    spark: SparkSession, tmp_path: Path, place: str
) -> None:
    with small_disk(tmp_path / "small-disk", 24) as disk:
        check(disk, tmp_path / "verdict.json", place)


def check(disk: Path, result: Path, place: str) -> None:
    warehouse = disk / "warehouse"
    for job in ("simulate", "ingest", "build_features"):
        assert run(job, str(warehouse), ROWS, ds=DS, days=1)[0] == 0
    before = stored.rows(warehouse, "features")
    version = stored.version(warehouse, "features")
    filler = fill(disk, but=MIB // 4)
    code, verdict = build_features(place.format(warehouse), result)
    assert (code, verdict["error"]["name"]) == (2, "NoSpaceError"), verdict
    assert "make room" in verdict["error"]["message"]
    assert stored.version(warehouse, "features") == version
    assert stored.rows(warehouse, "features") == before
    filler.unlink()
    assert build_features(place.format(warehouse), result)[0] == 0
    assert stored.rows(warehouse, "features") == before


def build_features(warehouse: str, result: Path) -> tuple[int, dict[str, Any]]:
    """The job's exit code and verdict, which goes to a disk that has room."""
    sets = (f"warehouse={warehouse}", *SETS, ROWS)
    arguments = Arguments(conf=("datasets/simulated.yaml",), set=sets, ds=DS, days=1, result_file=str(result))
    code = execute(called("build_features"), arguments)
    verdict: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return code, verdict
