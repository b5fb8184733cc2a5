"""The ledger of job runs: one row when a run starts, one when it ends; the later counts."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psutil

import clickmill
from clickmill.config import Config
from clickmill.errors import ClickmillError
from clickmill.schema import TABLES
from clickmill.tables import Tables

ELSEWHERE_LOST_AFTER = timedelta(days=2)
"""A run of another machine that has not ended by then is taken for dead."""


class Ledger:
    """Writes one run's rows into `runs`, and closes the runs of dead processes as `lost`.

    `parts` are the parts of the config that the job's result hangs on: the digest stored is theirs.
    """

    def __init__(
        self,
        tables: Tables,
        job: str,
        cfg: Config,
        ds: date,
        days: Sequence[date],
        *,
        models: Sequence[str],
        parts: Sequence[str],
    ) -> None:
        self._tables = tables
        self._memory = PeakMemory()
        self._began = time.monotonic()
        stored = cfg.model_dump(mode="json") | {
            "spark": {"master": cfg.spark.master, "settings": cfg.spark.redacted()}
        }
        self._row: dict[str, Any] = {
            "run_id": tables.run_id,
            "job": job,
            "ds": ds,
            "days": json.dumps([day.isoformat() for day in days]),
            "models": json.dumps(list(models)),
            "host": platform.node(),
            "process": _process(os.getpid()),
            "config": json.dumps(stored),
            "config_digest": cfg.digest(*parts),
            "code_version": clickmill.__version__,
        }

    def start(self) -> None:
        """The row that says the run is under way; with it the `lost` rows of runs that died."""
        now = datetime.now(UTC)
        rows = [lost | {"status": "lost", "at": now} for lost in self._dead(now)]
        self._tables.append("runs", [*rows, self._row | {"status": "running", "at": now}])
        self._memory.start()

    def end(self, status: str, counts: Mapping[str, int], error: ClickmillError | None = None) -> None:
        """The row that says how the run ended."""
        driver, workers = self._memory.stop()
        row = self._row | {
            "status": status,
            "at": datetime.now(UTC),
            "exit_code": error.exit_code if error else 0,
            "error": f"{type(error).__name__}: {error}"[:4000] if error else None,
            "versions_in": json.dumps(self._tables.versions_in),
            "versions_out": json.dumps(self._tables.versions_out),
            "seconds": time.monotonic() - self._began,
            "driver_peak_mb": driver / 2**20,
            "workers_peak_mb": workers / 2**20,
            **counts,
        }
        self._tables.append("runs", [row])

    def _dead(self, now: datetime) -> list[dict[str, Any]]:
        return [
            {key: row[key] for key in ("run_id", "job", "ds", "days", "host", "process")}
            for row in latest(self._tables)
            if row["status"] == "running" and not _alive(row, now)
        ]


def latest(tables: Tables) -> list[dict[str, Any]]:
    """The newest row of each run, newest first; [] where there is no `runs` yet. One row a run, without config."""
    if not tables.exists("runs"):
        return []
    columns = [column for column in TABLES["runs"].columns if column != "config"]
    rows: dict[str, dict[str, Any]] = {}
    for values in tables.rows("runs", version=tables.newest("runs"), columns=columns):
        kept = rows.get(values["run_id"])
        if kept is None or (kept["status"] == "running"):
            rows[values["run_id"]] = values
    return sorted(rows.values(), key=lambda row: str(row["run_id"]), reverse=True)


class PeakMemory:
    """Peak resident memory, in bytes, of this process and its JVM, and of the Python workers below them."""

    def __init__(self, every: float = 0.25) -> None:
        self._every = every
        self._peak = [0, 0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> tuple[int, int]:
        """Driver's and workers' peak."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        return self._peak[0], self._peak[1]

    def _watch(self) -> None:
        while True:
            for place, size in enumerate(_resident()):
                self._peak[place] = max(self._peak[place], size)
            if self._stop.wait(self._every):
                return


def _resident() -> tuple[int, int]:
    """Under spark-submit the JVM is above this process, and the workers are beside it."""
    me = psutil.Process()
    driver, workers = me.memory_info().rss, 0
    above = me.parent()
    root = above if above is not None and above.name() == "java" else me
    for process in [root, *root.children(recursive=True)]:
        try:
            size = 0 if process.pid == me.pid else process.memory_info().rss
            if process.name() == "java":
                driver += size
            else:
                workers += size
        except psutil.Error:
            continue
    return driver, workers


def _process(pid: int) -> str:
    """Names a process for good: ids come round again, start times do not. Containers may share a host's name."""
    return f"{pid}@{psutil.Process(pid).create_time():.2f}{_container()}"


def _container() -> str:
    try:
        return "@" + os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def _alive(row: Mapping[str, Any], now: datetime) -> bool:
    pid, _, rest = str(row["process"]).partition("@")
    if row["host"] != platform.node() or not rest.endswith(_container()):
        began: datetime = row["at"]
        return now - began.astimezone(UTC) < ELSEWHERE_LOST_AFTER
    try:
        return _process(int(pid)) == str(row["process"])
    except psutil.NoSuchProcess:
        return False
