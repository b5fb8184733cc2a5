"""Rows a second of `simulate` into Delta, and the peak memory of all its processes, by size.

Run: .venv/bin/python bench/simulate.py [--rows 1000000] [--rows 4000000 …] [--days 10] [--master local[2]]

Each size is one run of the command in a process of its own and a fresh warehouse. `seconds` are the
run's own (from its start in `runs` to the end: simulation, write, commit), `command_seconds` the
whole command's, Spark's start in it, and `cpu_seconds` user and system time of all its processes, which
other work on the machine disturbs less. Peak memory is the sum over the command and all its children
(JVM, Python workers), every 0.2 s; shared pages count once (PSS) where the system tells.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from deltalake import DeltaTable

LAST = "2026-01-31"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help="rows of a run; may be given more than once")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--master", default="local[2]")
    arguments = parser.parse_args()
    for rows in arguments.rows or [1_000_000]:
        print(json.dumps(measured(rows, arguments.days, arguments.master)), flush=True)


def measured(rows: int, days: int, master: str) -> dict[str, Any]:
    """One run of the job over `days` days of `rows / days` rows each."""
    with tempfile.TemporaryDirectory() as folder:
        sets = (f"warehouse={folder}", f"spark.master={master}", f"simulate.rows_per_day={rows // days}")
        command = [sys.executable, "-m", "clickmill.jobs.simulate", "--conf", "datasets/simulated.yaml"]
        command += ["--ds", LAST, "--days", str(days), *(word for text in sets for word in ("--set", text))]
        began = time.monotonic()
        process = subprocess.Popen(command)
        peak, cpu = watched(process)
        took = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
        run = ended(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder, "raw_log").rglob("*.parquet"))
    return {
        "rows": run["rows_out"],
        "rows_per_second": round(run["rows_out"] / run["seconds"]),
        "seconds": round(run["seconds"], 1),
        "command_seconds": round(took, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mb": round(peak / 2**20),
        "bytes_a_row": round(size / run["rows_out"]),
        "load_average": round(os.getloadavg()[0], 1),
    }


def watched(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Peak memory, in bytes, and CPU seconds of a process and its children until it ends."""
    peak, root, cpu = 0, psutil.Process(process.pid), dict[tuple[int, float], float]()
    while process.poll() is None:
        peak = max(peak, held(root, cpu))
        time.sleep(0.2)
    return peak, sum(cpu.values())


def held(root: psutil.Process, cpu: dict[tuple[int, float], float]) -> int:
    """Memory, in bytes, that a process and all below it hold now; notes the CPU seconds of each in `cpu`."""
    total = 0
    try:
        family = (root, *root.children(recursive=True))
    except psutil.Error:
        return 0
    for process in family:
        try:
            memory, times = process.memory_full_info(), process.cpu_times()
        except psutil.Error:
            continue
        total += getattr(memory, "pss", memory.rss)
        cpu[process.pid, process.create_time()] = times.user + times.system
    return total


def ended(warehouse: Path) -> dict[str, Any]:
    """The row of `runs` that says how the only run ended."""
    rows = DeltaTable(str(warehouse / "runs")).to_pyarrow_table().to_pylist()
    row: dict[str, Any]
    (row,) = [row for row in rows if row["status"] == "done"]
    return row


if __name__ == "__main__":
    main()
