"""Hashing through Spark's Arrow path against Spark ML's FeatureHasher: Parquet in, Parquet out, CPU counted.

Run: .venv/bin/python bench/hashing.py [--rows 250000] [--warm-up 4] [--repeats 3] [--floats] [--json]

13 heavy-tailed numbers, 26 strings of 3 to 1e6 values, 20 crosses of two strings. Each side has a session of
its own on two slots (clickmill's own settings on all of them, 2 GB heap). They take turns, run by run; while
one runs the others wait, and their CPU is not counted. The first run of each (compiling in the JVM, starting
workers, loading numba's cached kernels; not starting the session) is told as `cold`; the JVM needs a few more
until it has compiled all it wants to: the first `--warm-up` runs, the cold one among them, are in no median.

- FeatureHasher: 13 numbers as they are, 26 strings, 20 crosses concatenated in SQL; one sparse vector of 2^22.
- ours: `clickmill.features.worker.hash_columns` in mapInArrow, the kernel that build_features runs; 59 columns
  of whole 32-bit hashes. `ours + floats` (with --floats) writes the 13 raw numbers too, as table `features` has
  them.
- cpu: user and system seconds of the JVM and the Python workers. Memory: the greatest sum of their proportional
  set sizes, sampled every 0.2 s, the session and its idle JVM in it.
- kernel: hash_columns alone on the same columns in memory, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from clickmill.features.worker import FeatureSpec, cross_column, hash_columns, slot_column
from clickmill.hashing import to_index

NUMBERS = tuple(f"I{n}" for n in range(1, 14))
SLOTS = tuple(f"C{n}" for n in range(1, 27))
CROSSES = tuple((SLOTS[n], SLOTS[n + 6]) for n in range(20))
BITS = 22
FILES = 4
PEER, OURS, FLOATS = "FeatureHasher", "ours", "ours + floats"
BASE = Path(__file__).resolve().parents[1] / "conf" / "base.yaml"
EDGES = tuple(yaml.safe_load(BASE.read_text(encoding="utf-8"))["features"]["edges"])
SPEC = FeatureSpec(SLOTS, NUMBERS, CROSSES, (EDGES,) * len(NUMBERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--warm-up", type=int, default=4, help="runs of each side before those that count")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--floats", action="store_true", help="a third side: ours with the raw numbers")
    parser.add_argument("--json", action="store_true", help="print figures instead of a table")
    parser.add_argument("--side", choices=[PEER, OURS, FLOATS], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        serve(arguments.side, arguments.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        names = (PEER, OURS, FLOATS) if arguments.floats else (PEER, OURS)
        found = compare(Path(folder), names, arguments)
    print(json.dumps(found) if arguments.json else markdown(found))


def compare(work: Path, names: tuple[str, ...], arguments: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn; figures of each and how many times less CPU than the peer they take."""
    rows, warm_up = arguments.rows, arguments.warm_up
    write_log(work, rows)
    sides = {name: Side(name, work) for name in names}
    every: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        for _ in range(warm_up + arguments.repeats):
            for name, side in sides.items():
                every[name].append(side.run())
    finally:
        for side in sides.values():
            side.close()
    runs = {name: some[warm_up:] for name, some in every.items()}
    figures = {name: summary(some, rows) | {"cold_cpu_s": every[name][0]["cpu_s"]} for name, some in runs.items()}
    less = {name: [a["cpu_s"] / b["cpu_s"] for a, b in zip(runs[PEER], runs[name], strict=True)] for name in runs}
    return {
        "rows": rows,
        "uncounted_runs": warm_up,
        "machine": machine(),
        "load_average": os.getloadavg(),
        "same_hashes": same_hashes(work),
        "sides": figures,
        "times_less_cpu": {name: {"median": statistics.median(some), "runs": some} for name, some in less.items()},
        "kernel_rows_per_core_second": kernel(work),
    }


def summary(runs: list[dict[str, float]], rows: int) -> dict[str, Any]:
    """Medians of a side's runs, and its CPU seconds one by one."""
    middle = {name: statistics.median(run[name] for run in runs) for name in ("cpu_s", "wall_s")}
    return {
        **middle,
        "cpu_runs": [run["cpu_s"] for run in runs],
        "rows_per_core_second": rows / middle["cpu_s"],
        "peak_mb": max(run["peak_mb"] for run in runs),
        "written_mb": runs[-1]["written_mb"],
    }


# --- the sides --------------------------------------------------------------------------------


class Side:
    """A process with a Spark session that does one run for each line it is sent."""

    def __init__(self, name: str, work: Path) -> None:
        command = [sys.executable, __file__, "--side", name, "--work", str(work)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a side ended with {self.process.wait()}: see its error above")
        figures: dict[str, float] = json.loads(answer)
        return figures

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def serve(name: str, work: Path) -> None:
    """The side's own process: a run and its figures for each line of standard input."""
    from clickmill.config import SparkConf
    from clickmill.session import get_spark

    settings: dict[str, str | None] = {"spark.driver.memory": "2g", "spark.ui.enabled": "false"}
    spark = get_spark(SparkConf(master="local[2]", settings=settings), app="bench")
    log = spark.read.parquet(str(work / "log"))
    out = work / name.replace(" ", "_")
    for _ in sys.stdin:
        with Meter() as meter:
            features = by_feature_hasher(log) if name == PEER else by_clickmill(log, floats=name == FLOATS)
            features.write.mode("overwrite").parquet(str(out))
        written = sum(file.stat().st_size for file in out.glob("*.parquet")) / 2**20
        print(json.dumps({**meter.figures, "written_mb": written}), flush=True)
    spark.stop()


def by_feature_hasher(log: Any) -> Any:
    from pyspark.ml.feature import FeatureHasher
    from pyspark.sql import functions as F

    crosses = {cross_column(parts): F.concat_ws("\x1f", *parts) for parts in CROSSES}
    inputs = [*NUMBERS, *SLOTS, *crosses]
    hasher = FeatureHasher(inputCols=inputs, outputCol="features", numFeatures=2**BITS)
    return hasher.transform(log.withColumns(crosses)).select("features")


def by_clickmill(log: Any, *, floats: bool) -> Any:
    columns = ", ".join(
        [f"{name} int" for name in SPEC.hashed] + [f"n_{name} float" for name in NUMBERS if floats]
    )
    return log.mapInArrow(partial(hash_batches, floats=floats), columns)


def hash_batches(batches: Iterator[pa.RecordBatch], *, floats: bool) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        hashed = hash_columns(dict(zip(batch.schema.names, batch.columns, strict=True)), SPEC)
        yield pa.RecordBatch.from_pydict(
            {name: column for name, column in hashed.items() if floats or not name.startswith("n_")}
        )


class Meter:
    """CPU, wall and greatest memory of this process's children while it is open."""

    def __enter__(self) -> Meter:
        self._stop, self._peak = threading.Event(), 0.0
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._started, self._cpu = time.perf_counter(), cpu_of_children()
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self._started, cpu_of_children() - self._cpu
        self._stop.set()
        self._watch.join()
        self.figures = {"cpu_s": cpu, "wall_s": wall, "peak_mb": self._peak}

    def _sample(self) -> None:
        while not self._stop.wait(0.2):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_full_info().pss
                except psutil.Error:  # it has just ended
                    continue
            self._peak = max(self._peak, total / 2**20)


def cpu_of_children() -> float:
    """User and system seconds of the JVM and the Python workers, those that have ended included."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


# --- the log, and what is checked -------------------------------------------------------------


def write_log(work: Path, rows: int) -> None:
    """The columns as Parquet, in FILES files."""
    random = np.random.default_rng(3)
    columns: dict[str, pa.Array] = {}
    for name in NUMBERS:
        count = np.floor(random.pareto(0.9, rows)).clip(0, 1e6)
        columns[name] = pa.array(count, mask=random.random(rows) < 0.1)
    for place, name in enumerate(SLOTS):
        distinct = int(3 * (1e6 / 3) ** (place / (len(SLOTS) - 1)))
        value = np.minimum(random.zipf(1.2, rows), distinct) * 2_654_435_761 % 2**32
        columns[name] = pa.array([f"{one:08x}" for one in value.tolist()], mask=random.random(rows) < 0.02)
    table = pa.table(columns)
    (work / "log").mkdir()
    for n in range(FILES):
        part = table.slice(n * rows // FILES, (n + 1) * rows // FILES - n * rows // FILES)
        pq.write_table(part, work / "log" / f"part-{n}.parquet", compression="snappy")


def same_hashes(work: Path) -> bool:
    """Whether the first rows of both sides hold the same index for every slot that is not missing."""
    ours = pq.read_table(min((work / OURS).glob("part-*"))).slice(0, 500)
    peer = pq.read_table(min((work / PEER).glob("part-*"))).slice(0, 500)
    theirs = [set(vector["indices"]) for vector in peer["features"].to_pylist()]
    missing = hash_columns(
        {name: pa.nulls(1, pa.string()) for name in SLOTS} | {name: pa.nulls(1, pa.float64()) for name in NUMBERS},
        SPEC,
    )
    good = True
    for name in map(slot_column, SLOTS):
        hashes = ours[name].to_numpy()
        present = hashes != missing[name][0].as_py()
        index = to_index(hashes, BITS)
        good &= all(index[row] in theirs[row] for row in np.flatnonzero(present))
    return bool(good)


def kernel(work: Path) -> float:
    """Rows a second of CPU of hash_columns alone."""
    table = pq.read_table(work / "log").combine_chunks()
    columns = {name: table[name].chunk(0) for name in table.column_names}
    hash_columns(columns, SPEC)
    started = time.process_time()
    hash_columns(columns, SPEC)
    return table.num_rows / (time.process_time() - started)


def machine() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    names = (
        [line for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    )
    packages = ("pyspark", "pyarrow", "numba", "numpy")
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def markdown(found: dict[str, Any]) -> str:
    lines = [
        f"Hashing, {found['rows']:,} rows × (13 numbers + 26 strings + 20 crosses), Parquet to Parquet.",
        ", ".join(f"{name} {value}" for name, value in found["machine"].items()),
        f"Load average at the end {found['load_average'][0]:.1f}. Equal indices: {found['same_hashes']}",
        "",
        "| side | cold cpu-s | cpu-s (median) | runs | wall s | rows/core-s | times less | peak MB | written MB |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    for name, side in found["sides"].items():
        cells = (
            name,
            f"{side['cold_cpu_s']:.2f}",
            f"{side['cpu_s']:.2f}",
            " ".join(f"{cpu:.2f}" for cpu in side["cpu_runs"]),
            f"{side['wall_s']:.2f}",
            f"{side['rows_per_core_second']:,.0f}",
            f"{found['times_less_cpu'][name]['median']:.2f}",
            f"{side['peak_mb']:,.0f}",
            f"{side['written_mb']:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| kernel alone | | | | | {found['kernel_rows_per_core_second']:,.0f} | | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
