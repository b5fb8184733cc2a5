"""docs/clusters.md's wheel alone, by --py-files, for executors that have the packages and lack clickmill."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import stored
from small import SETS
from stand import ROOT, VENV, Cluster, log_of

pytestmark = pytest.mark.slow
GUIDE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
DAY = ("--ds", "2026-01-04", "--models", "lr", *(word for one in SETS for word in ("--set", one)))


@pytest.fixture
def without_clickmill(tmp_path: Path) -> Path:
    """A Python that finds this environment's packages, but not the checkout that a file among them names."""
    folder = tmp_path / "packages"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (own,) = folder.glob("lib/python3*/site-packages")
    (own / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = folder / "bin" / "python"
    assert subprocess.run([python, "-c", "import pyspark, numba"], check=False).returncode == 0
    assert subprocess.run([python, "-c", "import clickmill"], capture_output=True, check=False).returncode == 1
    return python


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The wheel as `make pack` builds it, under the name that the guide gives it, by the guide's command."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=300)
    (command,) = re.findall(r"`(cp clickmill-[^`]*)`", GUIDE)
    (name,) = re.findall(r"`--py-files\s(\S+)`", GUIDE)
    subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True)
    return tmp_path / name


def test_the_wheel_alone_serves_executors_that_have_the_packages(
    tmp_path: Path, without_clickmill: Path, archive: Path
) -> None:
    alone, there = tmp_path / "alone", tmp_path / "there"
    command = [str(VENV / "bin" / "clickmill"), "run", "pipeline", "--conf", "datasets/simulated.yaml", *DAY]
    command += ["--set", "spark.master=local[2]", "--set", f"warehouse={alone}"]
    subprocess.run(command, check=True, capture_output=True, timeout=580)
    cluster = Cluster(tmp_path / "cluster")
    cluster.call("up")
    try:
        sent = ("--py-files", str(archive))
        job = cluster.submit("pipeline", there, *DAY, options=sent, python=without_clickmill)
        assert job.wait(timeout=580) == 0, log_of(there).read_text()[-4000:]
    finally:
        cluster.call("down")
    for name in ("click_log", "features", "sample"):
        assert stored.rows(there, name, without=("run_id",)) == stored.rows(alone, name, without=("run_id",)), name
    (model,) = stored.rows(there, "models")
    assert model["name"] == "lr"
