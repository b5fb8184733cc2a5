"""The README's commands for a cluster, as they stand there, in a shell that has pip's pyspark and nothing else:
the same tables.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import stored
from small import SETS
from stand import QUICK, ROOT, VENV, Cluster

pytestmark = pytest.mark.slow
_TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
README = re.findall(
    r"^```sh\n(.*?)^```$", _TEXT[_TEXT.index("\n### A Spark cluster\n") :], re.MULTILINE | re.DOTALL
)[0]
OWN = ("run_id",)
TREES = ("models.trees.history=1d", "models.trees.rounds=30")
SAME_P = 1e-4
"""Between models of one sample, whoever summed its ranks."""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An environment with pyspark and py4j, as pip puts them there."""
    folder = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pins = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    wanted = re.findall(r"^(?:pyspark|py4j)==.*$", pins, re.MULTILINE)
    uv = VENV / "bin" / "uv"
    if uv.exists():
        install = [str(uv), "pip", "install", "-q", "--no-deps", "--python", str(folder / "bin" / "python")]
        offline = subprocess.run([*install, "--offline", *wanted], capture_output=True)
        if offline.returncode != 0:
            subprocess.run([*install, *wanted], check=True)
    else:
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
        subprocess.run([*pip, "--no-deps", *wanted], check=True)
    return folder


@pytest.fixture
def unpacked() -> Iterator[Path]:
    """The README's folder `environment`, which is not left behind."""
    folder = ROOT / "environment"
    if folder.exists():
        pytest.skip(f"{folder} is somebody's")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_whole_pipeline_on_a_cluster_makes_the_tables_that_one_machine_makes(
    tmp_path: Path, bare: Path, unpacked: Path
) -> None:
    sets = [item for one in (*SETS, *TREES) for item in ("--set", one)]
    alone, there = tmp_path / "alone", tmp_path / "there"
    command = [str(VENV / "bin" / "clickmill"), "run", "pipeline", "--conf", "datasets/simulated.yaml"]
    command += ["--ds", "2026-01-14", "--models", "lr,trees", "--set", "spark.master=local[2]"]
    subprocess.run([*command, "--set", f"warehouse={alone}", *sets], check=True, capture_output=True, timeout=580)

    cluster = Cluster(tmp_path / "cluster", venv=bare)
    cluster.port = 17077  # (the README's)
    _shim(tmp_path / "bin" / "spark-submit", bare, ["--set", f"warehouse={there}", *sets])
    environment = cluster.environment | {
        "CLICKMILL_CLUSTER_PORT": str(cluster.port),
        "PATH": os.pathsep.join([str(tmp_path / "bin"), str(bare / "bin"), os.environ["PATH"]]),
    }
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        environment.pop(name, None)
    done = subprocess.run(
        ["sh", "-euc", README], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800
    )
    cluster.call("down")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert cluster.processes() == []
    assert "slots for training" in done.stdout, "the doctor asked the executors"
    for name in ("click_log", "features", "encodings", "sample"):
        assert stored.rows(there, name, without=OWN) == stored.rows(alone, name, without=OWN), name
    ours, theirs = _p(alone), _p(there)
    assert ours.keys() == theirs.keys()
    assert {model for model, _ in ours} == {"lr", "trees"}
    apart = max(abs(ours[key] - theirs[key]) for key in ours)
    print(f"max |Δp| {apart:.1e} on {len(ours)} predictions")
    assert apart <= SAME_P


def _shim(place: Path, bare: Path, further: list[str]) -> None:
    """The bare environment's spark-submit, found as a shell finds it, with a small log and small tables."""
    place.parent.mkdir()
    settings = " ".join(f"--conf {one}" for one in QUICK)
    words = " ".join(f"'{word}'" for word in further)
    script = f'#!/bin/sh\nexec "{bare}/bin/spark-submit" {settings} "$@" {words}\n'
    place.write_text(script, encoding="utf-8")
    place.chmod(0o755)


def _p(warehouse: Path) -> dict[tuple[str, str], float]:
    """p_sampled of test time, by the model's name and event."""
    names = {row["model_id"]: row["name"] for row in stored.rows(warehouse, "models")}
    found = stored.table(warehouse, "predictions")
    p = np.asarray(found["p_sampled"].to_numpy(), np.float64)
    keys = zip(found["model_id"].to_pylist(), found["event_id"].to_pylist(), strict=True)
    return {(names[model], event): value for (model, event), value in zip(keys, p.tolist(), strict=True)}
