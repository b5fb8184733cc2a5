"""The same job by `clickmill run`, `python -m` and `spark-submit`; standard output of --json; silence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small import SETS

from clickmill.jars import jar_paths

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
WAYS = {
    "clickmill run": [str(BIN / "clickmill"), "run", "downsample"],
    "python -m": [sys.executable, "-m", "clickmill.jobs.downsample"],
    "spark-submit": [str(BIN / "spark-submit"), "--jars", ",".join(map(str, jar_paths())), "jobs/downsample.py"],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_verdict(finished: tuple[str, dict[str, Any]], tmp_path: Path, way: str) -> None:
    warehouse = shutil.copytree(finished[0], tmp_path / "way")
    arguments = [
        "--conf",
        "datasets/simulated.yaml",
        "--ds",
        "2026-01-02",
        "--json",
        "--dry-run",  # all but the write, which is the same code each way
        "--set",
        f"warehouse={warehouse}",
    ]
    for item in SETS:
        arguments += ["--set", item]
    environment = {
        "PYSPARK_PYTHON": "python3",  # that of BIN: Spark's own script breaks at a space in its path
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(Path.home()),
    }
    done = subprocess.run(
        [*WAYS[way], *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    verdict = json.loads(done.stdout)
    assert done.returncode == verdict["exit_code"] == 0, done.stderr
    assert verdict["counts"]["rows_in"] == 3000
    assert 900 < verdict["counts"]["rows_out"] < 1400
    if way != "spark-submit":
        assert done.stderr == "", "a clean run says nothing that looks like an error"
