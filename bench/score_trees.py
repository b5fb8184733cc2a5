"""Rows a second that trees score, on one core: 39 numbers, or 13 numbers and 26 slots' encodings, to margins.

Run: .venv/bin/python bench/score_trees.py [--rows 400000] [--trees 100] [--depth 6] [--repeats 5]

The process, all its threads, is pinned to one core. Timed is `margins` of the loaded artifact over batches of
65,536 rows of `features`, after one batch that warms up: with 39 numbers, and with 13 numbers and 26 slots of
20,000 values each, looked up in the counts that the artifact brings along (91 columns).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

import numpy as np
import pyarrow as pa
from logreg import machine

from clickmill.encoding import Counts, History, Snapshot
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.models.card import Card
from clickmill.models.encoded import Encoder
from clickmill.models.xgboost import Inputs
from clickmill.specs import XgboostSpec
from clickmill.train.ring import SoloRing
from clickmill.train.xgboost.worker import Task, fit

BATCH, VALUES = 65_536, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {0})
    print(json.dumps(machine()))
    for numbers, slots in ((39, 0), (13, 26)):
        with tempfile.TemporaryDirectory() as folder:
            model = saved(folder, asked, numbers, slots)
            rows = log(asked.rows, numbers, slots, seed=1)
            rates = sorted(timed(model, rows) for _ in range(asked.repeats))
        told = {"numbers": numbers, "slots": slots, "trees": asked.trees, "depth": asked.depth}
        print(json.dumps({**told, "rows_per_second": [round(rate) for rate in rates]}))


class Held:
    """One batch as a rank's source."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.rows = rows

    def training(self) -> list[pa.RecordBatch]:
        return [self.rows]

    def validation(self) -> list[pa.RecordBatch]:
        return []


def saved(folder: str, asked: argparse.Namespace, numbers: int, slots: int) -> Model:
    """Full trees, grown on 100,000 rows, as an artifact that has been saved and loaded."""
    spec = XgboostSpec(rounds=asked.trees, max_depth=asked.depth, min_child_weight=0, early_stopping_rounds=None)
    names = tuple(f"s_C{slot}" for slot in range(slots))
    rows = log(100_000, numbers, slots, seed=0)
    label = rows["label"].to_numpy()
    snapshots = {}
    for name in names:
        hashes = rows[name].to_numpy()
        history = History.of(Counts.of(hashes, np.zeros(len(hashes), np.int32), label))
        snapshots[name] = Snapshot.of(history, 1, 1)
    known = {"period": "day", "window": 1, "strength": 20.0}
    encoder = Encoder(names, **known, snapshots=snapshots) if slots else None  # type: ignore[arg-type]
    inputs = Inputs(tuple(f"n_I{number}" for number in range(numbers)), encoder=encoder)
    fitted = fit(Held(rows), SoloRing(), Task(spec, inputs))
    dataset = {
        "name": "bench",
        "source": {"path": "x", "format": "parquet"},
        "label": "click",
        "event_time": {"kind": "column", "column": "time"},
        "slots": [name.removeprefix("s_") for name in names],
        "numbers": [f"I{number}" for number in range(numbers)],
    }
    card = Card(
        model_id="trees-2026-01-10-00000000",
        name="trees",
        kind="xgboost",
        keep_rate=1.0,
        correction="prior",
        spec=spec.model_dump(mode="json"),
        dataset=dataset,
        edges=[],
        seed=42,
        stretches={},
        tables={},
        training={},
        encodings={"columns": list(names), **known, "lag": 0} if slots else None,
        created_by="bench",
    )
    arrays = {
        f"{column}.{name}": array for column, one in snapshots.items() for name, array in one._asdict().items()
    }
    return artifact.load(artifact.save(folder, card, arrays, further=fitted.booster).path)


def timed(model: Model, rows: pa.RecordBatch) -> float:
    """Rows a second."""
    model.margins(rows.slice(0, BATCH))
    start = time.perf_counter()
    for at in range(0, rows.num_rows, BATCH):
        model.margins(rows.slice(at, BATCH))
    return rows.num_rows / (time.perf_counter() - start)


def log(count: int, numbers: int, slots: int, *, seed: int) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    columns = {f"n_I{n}": rng.normal(size=count).astype(np.float32) for n in range(numbers)}
    columns |= {f"s_C{n}": (VALUES ** rng.random(count)).astype(np.int32) * 2_654_435 for n in range(slots)}
    label = (rng.random(count) < 1 / (1 + np.exp(2 - columns["n_I0"] * columns["n_I1"]))).astype(np.int8)
    return pa.RecordBatch.from_pydict(
        {**columns, "label": label, "weight": np.ones(count), "keep_rate": np.ones(count)}
    )


if __name__ == "__main__":
    main()
