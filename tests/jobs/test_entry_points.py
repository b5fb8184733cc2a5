"""The same job by `clickmill run`, `python -m` and `spark-submit`; standard output of --json; silence."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pyspark
import pytest
from running import QUICK_JVM
from score_models import lines, save_model

from clickmill.jars import SHA256
from clickmill.score import local

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
WAYS = {
    "clickmill run": [str(BIN / "clickmill"), "run", "score"],
    "python -m": [sys.executable, "-m", "clickmill.jobs.score"],
    "spark-submit": [str(BIN / "spark-submit"), "jobs/score.py"],
}
ENVIRONMENT = {
    "PYSPARK_PYTHON": "python3",  # that of BIN: Spark's own script breaks at a space in its path
    "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
    "HOME": str(Path.home()),
    **QUICK_JVM,
}
REFUSED = "too\tfew\n-\ts1\ta1\tcheap\tx\n"


@pytest.mark.parametrize("way", WAYS)
def test_every_way_scores_the_same_rows_and_says_so(tmp_path: Path, way: str) -> None:
    model = save_model(tmp_path / "models")
    log = tmp_path / "a log.tsv"
    log.write_text(lines(30) + REFUSED, encoding="utf-8")
    arguments = ["--conf", "datasets/simulated.yaml", "--ds", "2026-01-10", "--json"]
    settings = {"warehouse": tmp_path / "ware house", "score.model": model, "score.input": log}
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    done = subprocess.run(
        [*WAYS[way], *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["exit_code"], verdict["job"]) == (0, "score")
    assert verdict["counts"] == {"rows_in": 32, "rows_out": 30, "rejected": 2}
    if way != "spark-submit":
        assert done.stderr == "", "a clean run says nothing that looks like an error"
    found = pq.read_table(verdict["scores"], columns=["p"])["p"].drop_null().to_numpy()
    without_spark = io.BytesIO()
    local.run(model, io.BytesIO(lines(30).encode()), without_spark, io.StringIO())
    expected = np.array(without_spark.getvalue().split()[1:], np.float64)
    np.testing.assert_allclose(np.sort(found), np.sort(expected), rtol=0, atol=1e-12)


def test_a_spark_without_delta_is_told_which_jars_to_take(tmp_path: Path) -> None:
    own, home = Path(pyspark.__path__[0]), tmp_path / "spark"
    (home / "jars").mkdir(parents=True)
    (home / "bin").symlink_to(own / "bin")
    for jar in (own / "jars").iterdir():
        if jar.name not in SHA256:
            (home / "jars" / jar.name).symlink_to(jar)
    arguments = ["jobs/ingest.py", "--conf", "datasets/simulated.yaml", "--ds", "2026-01-10", "--json"]
    done = subprocess.run(
        [str(home / "bin" / "spark-submit"), *arguments, "--set", f"warehouse={tmp_path / 'warehouse'}"],
        cwd=ROOT,
        env=ENVIRONMENT | {"SPARK_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["name"] == "PlatformError"
    assert all(name in error["message"] for name in ("spark-submit --jars", *SHA256))
