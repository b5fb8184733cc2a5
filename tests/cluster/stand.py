"""A Spark cluster of its own for tests, jobs that are sent to it, and ways to kill parts of both."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.prefix)
QUICK = ("spark.databricks.delta.snapshotPartitions=2", "spark.sql.shuffle.partitions=2")
"""Settings for tables that are small."""


def free_ports() -> int:
    """A port that is free, as the next one is."""
    while True:
        with socket.socket() as one, socket.socket() as next_one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            next_one.bind(("127.0.0.1", port + 1))
            return port


class Cluster:
    """A master and two workers by cluster/up, in a folder and at a port of their own."""

    def __init__(self, home: Path, venv: Path = VENV) -> None:
        self.home, self.port = home, free_ports()
        self.environment = os.environ | {
            "CLICKMILL_CLUSTER": str(home),
            "CLICKMILL_CLUSTER_PORT": str(self.port),
            "CLICKMILL_VENV": str(venv),
        }
        self.environment.pop("SPARK_HOME", None)

    @property
    def master(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    def call(self, script: str) -> str:
        """What `cluster/up` or `cluster/down` says; it must succeed."""
        done = subprocess.run(
            [ROOT / "cluster" / script], env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def services(self) -> list[psutil.Process]:
        """Master and workers, by their pids, as far as they are alive."""
        pids = self.home / "pids"
        numbers = [int(pid) for pid in pids.read_text().split()] if pids.exists() else []
        return [psutil.Process(pid) for pid in numbers if psutil.pid_exists(pid)]

    def processes(self) -> list[psutil.Process]:
        """These, and all that works below them or, orphaned, in their folder."""
        marks = (str(self.home), f"--port {self.port}")
        return [one for one in psutil.process_iter() if any(mark in _told(one) for mark in marks)]

    def kill_a_worker(self) -> None:
        """Kills a worker that has an executor, that executor, and its Python: its machine goes dark."""
        worker = next(one for one in self.services()[1:] if one.children())
        for one in [worker, *worker.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def computes(self) -> bool:
        """Whether Python works for an executor of each worker."""
        workers = self.services()[1:]
        return len(workers) == 2 and all(_has_python(one) for one in workers)

    def submit(
        self,
        job: str,
        warehouse: Path,
        *arguments: str,
        cores: int = 2,
        options: tuple[str, ...] = (),
        python: Path = Path(sys.executable),
    ) -> subprocess.Popen[bytes]:
        """The job, by spark-submit of this environment; what it says goes beside the warehouse.

        options: further ones of spark-submit's. python: the executors'.
        """
        command = [str(VENV / "bin" / "spark-submit"), "--master", self.master, "--deploy-mode", "client"]
        command += ["--total-executor-cores", str(cores), "--driver-memory", "1g"]
        for setting in QUICK:
            command += ["--conf", setting]
        command += [*options, str(ROOT / "jobs" / f"{job}.py"), "--conf", "datasets/simulated.yaml"]
        command += ["--conf", "env/cluster.yaml", "--set", f"warehouse={warehouse}", *arguments]
        pythons = {"PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": sys.executable}
        with open(log_of(warehouse), "ab") as log:
            return subprocess.Popen(
                command,
                env=self.environment | pythons | {"SPARK_LOCAL_IP": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def log_of(warehouse: Path) -> Path:
    """What jobs on this warehouse, and Spark, have said."""
    return warehouse.with_suffix(".log")


def until(happened: Callable[[], bool], process: subprocess.Popen[bytes], *, patience: float = 240) -> None:
    """Waits for something that happens while the process runs."""
    end = time.monotonic() + patience
    while not happened():
        assert process.poll() is None, "the job ended before"
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> None:
    """A driver with its JVM, whichever began the other, while it is at work."""
    every = [one := psutil.Process(process.pid), *one.children(recursive=True)]
    for one in every:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    assert process.wait() == -signal.SIGKILL, "it had ended before"


def _has_python(worker: psutil.Process) -> bool:
    """A worker of pyspark's daemon, which waits for work itself."""
    with contextlib.suppress(psutil.Error):
        return any(one.name().startswith("python") and one.children() for one in worker.children(recursive=True))
    return False


def _told(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join([*process.cmdline(), process.cwd()])
    return ""
