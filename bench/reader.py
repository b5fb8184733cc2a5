"""Rows a second that reach a training: the loader against pyarrow's own read, and against torch's DataLoader.

Run: .venv/bin/python bench/reader.py [--rows 4000000] [--repeats 3] [--peer-rows 60000] [--json]

The table `features` of a simulated log, as Spark wrote it: 39 columns of hashes, 13 of numbers, label. In turn, in
one process:

- pyarrow: the same columns as record batches, nothing done with them: the limit; by one thread and by two.
- loader: `clickmill.loader` (windows of 131,072 rows shuffled, batches of 8,192 by rows); one thread, two.
- DataLoader (where torch is installed): the plain way, an iterable of rows of a pyarrow dataset, torch's own
  collate of rows, batches of 8,192, no worker processes; on fewer rows, since it takes long.

Wall is what a training would wait for; CPU is of all threads. The first run of each is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from deltalake import DeltaTable
from logreg import machine

from clickmill import reader
from clickmill.job import Arguments, execute
from clickmill.jobs import build_features, ingest, simulate
from clickmill.loader import Columns, Counted, Loader, counted
from clickmill.reader import Shard

BATCH = 8192
WHOLE = (*(f"s_C{n}" for n in range(1, 27)), *(f"s_I{n}" for n in range(1, 14)))
REAL = tuple(f"n_I{n}" for n in range(1, 14))
COLUMNS = Columns(WHOLE, REAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-rows", type=int, default=60_000)
    parser.add_argument("--json", action="store_true", help="print figures instead of a table")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clickmill-reader-") as folder:
        path, version = features(folder, asked.rows)
        pieces = counted(reader.plan(path, version=version, shards=1)[0].pieces)
        sides: dict[str, Callable[[], int]] = {}
        for threads in (1, 2):
            shards = reader.plan(path, version=version, shards=threads)
            sides[f"pyarrow, threads: {threads}"] = partial(read, shards)
            sides[f"loader, threads: {threads}"] = partial(loaded, pieces, threads)
        if has_torch():
            sides["DataLoader"] = lambda: by_rows(path, asked.peer_rows)
        told: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for turn in range(asked.repeats + 1):
            for name, side in sides.items():
                figures = timed(side)
                if turn:
                    told[name].append(figures)
    found = {
        name: {
            "rows_per_second": statistics.median(wall for wall, _ in runs),
            "rows_per_core_second": statistics.median(cpu for _, cpu in runs),
            "runs": [round(wall) for wall, _ in runs],
        }
        for name, runs in told.items()
    }
    if asked.json:
        print(json.dumps({"machine": machine(), "sides": found}))
        return
    print(json.dumps(machine()))
    print("| side | rows a second (runs) | rows a core-second |\n|-|-|-|")
    for name, one in found.items():
        runs = ", ".join(f"{run:,}" for run in one["runs"])
        print(f"| {name} | {one['rows_per_second']:,.0f} ({runs}) | {one['rows_per_core_second']:,.0f} |")
    if "DataLoader" not in found:
        print("torch is not installed: DataLoader was not run")


def features(folder: str, rows: int) -> tuple[str, int]:
    """The table `features` of a simulated log of four days, as build_features writes it, and its version."""
    sets = (f"warehouse={folder}", f"simulate.rows_per_day={rows // 4}")
    for job in (simulate, ingest, build_features):
        done = execute(job.JOB, Arguments(("datasets/simulated.yaml",), sets, date(2026, 1, 4), 4, ()))
        assert done == 0, "the log could not be made"
    path = str(Path(folder, "features"))
    return path, DeltaTable(path).version()


def read(shards: tuple[Shard, ...]) -> int:
    """A thread for each shard."""

    def rows(shard: Shard) -> int:
        return sum(batch.num_rows for batch in reader.read(shard, columns=COLUMNS.read))

    with ThreadPoolExecutor(len(shards)) as pool:
        return sum(pool.map(rows, shards))


def loaded(pieces: tuple[Counted, ...], threads: int) -> int:
    loader = Loader(pieces, COLUMNS, batch_rows=BATCH, seed=0, threads=threads)
    return sum(batch.rows for batch in loader.epoch(0))


def has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def by_rows(path: str, rows: int) -> int:
    """What a first version of a training reads by."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    table = ds.dataset(DeltaTable(path).file_uris())

    class Rows(IterableDataset):  # type: ignore[misc,type-arg]
        def __iter__(self) -> Iterator[tuple[Any, ...]]:
            given = 0
            for batch in table.to_batches(columns=list(COLUMNS.read), batch_size=BATCH, use_threads=False):
                whole, real, label = (
                    np.column_stack([batch[name].to_numpy(zero_copy_only=False) for name in names])
                    for names in (WHOLE, REAL, ("label",))
                )
                for row in zip(whole, real, label[:, 0], strict=True):
                    if given == rows:
                        return
                    given += 1
                    yield row

    torch.set_num_threads(1)
    return sum(len(batch[2]) for batch in DataLoader(Rows(), batch_size=BATCH))


def timed(side: Callable[[], int]) -> tuple[float, float]:
    """Rows a second of wall, and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    rows = side()
    return rows / (time.perf_counter() - wall), rows / (time.process_time() - cpu)


if __name__ == "__main__":
    main()
