"""Rows a second of Spark-free scoring, on one core: TSV of 13 numbers and 26 categories, 20 crosses, to p.

Run: .venv/bin/python bench/score.py [--rows 300000]. The process, all its threads, is pinned to
one core. Timed is the whole of `clickmill.score.local.run` (reading, parsing, hashing,
scoring, calibration, writing) after a warm-up that loads the compiled kernels; loading the model is
in it. The model has a weight for every value that occurs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from clickmill.calibration import Calibrator
from clickmill.dataset import Dataset
from clickmill.features.worker import FeatureSpec, hash_columns
from clickmill.hashing import to_index
from clickmill.ingest import values
from clickmill.models import artifact
from clickmill.models.card import Card
from clickmill.score import local

NUMBERS = tuple(f"I{n}" for n in range(1, 14))
SLOTS = tuple(f"C{n}" for n in range(1, 27))
CROSSES = tuple((SLOTS[n], SLOTS[n + 5]) for n in range(20))
EDGES = (-1e6, -1e3, -10, -1, 0, 1, 2, 3, 5, 8, 12, 20, 40, 80, 160, 320, 640, 1e3, 1e4, 1e5, 1e6)
BITS = 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    core = pin()
    columns = log(arguments.rows)
    text = written(columns)
    with tempfile.TemporaryDirectory() as folder:
        model, active = save_model(Path(folder), columns)
        local.run(model, io.BytesIO(text[: text.index(b"\n", 2**20) + 1]), io.BytesIO(), sys.stderr)
        rates = [timed(model, text, arguments.rows) for _ in range(arguments.repeats)]
    peak = psutil.Process().memory_info().rss / 2**20
    print(
        json.dumps(
            {
                "rows": arguments.rows,
                "bytes_a_row": round(len(text) / arguments.rows),
                "columns": len(NUMBERS) + len(SLOTS),
                "crosses": len(CROSSES),
                "active_weights": active,
                "core": core,
                "rows_per_second": [round(rate) for rate in rates],
                "memory_mb_with_the_log": round(peak),
            }
        )
    )


def pin() -> int | None:
    """Keeps this process on one core, where the system can."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def log(rows: int) -> dict[str, pa.Array]:
    """Columns of text, heavy-tailed: counts with missing values, categories of 3 to 1e6 values as 8 hex digits."""
    random = np.random.default_rng(3)
    columns: dict[str, pa.Array] = {}
    for name in NUMBERS:
        count = np.floor(random.pareto(0.9, rows)).clip(0, 1e6).astype(np.int64)
        columns[name] = pa.array(count, mask=random.random(rows) < 0.1).cast(pa.string())
    for place, name in enumerate(SLOTS):
        distinct = int(3 * (1e6 / 3) ** (place / (len(SLOTS) - 1)))
        value = np.minimum(random.zipf(1.2, rows), distinct) * 2_654_435_761 % 2**32
        columns[name] = pa.array([f"{one:08x}" for one in value.tolist()])
    return columns


def written(columns: dict[str, pa.Array]) -> bytes:
    """The log as TSV with a header."""
    texts = [column.fill_null("").to_pylist() for column in columns.values()]
    lines = "\n".join(map("\t".join, zip(*texts, strict=True)))
    return ("\t".join(columns) + "\n" + lines + "\n").encode()


def save_model(root: Path, columns: dict[str, pa.Array]) -> tuple[Path, int]:
    """A logreg with a weight for every index that occurs; (folder, number of weights)."""
    typed = {name: columns[name] for name in SLOTS}
    typed |= {name: pa.array(values.numbers(columns[name])[0], from_pandas=True) for name in NUMBERS}
    hashed = hash_columns(typed, FeatureSpec(SLOTS, NUMBERS, CROSSES, (EDGES,) * len(NUMBERS)))
    found = [np.unique(to_index(hashed[name].to_numpy(), BITS)) for name in hashed if not name.startswith("n_")]
    index = np.unique(np.concatenate(found)).astype(np.uint32)
    data = {
        "name": "bench",
        "source": {"path": "x", "format": "tsv", "header": True},
        "label": "label",
        "event_time": {"kind": "row_order", "rows_per_day": 1000, "first_day": "2026-01-01"},
        "slots": SLOTS,
        "numbers": NUMBERS,
        "crosses": CROSSES,
    }
    card = Card(
        model_id="bench",
        name="bench",
        kind="logreg",
        keep_rate=0.05,
        correction="prior",
        spec={"kind": "logreg", "bits": BITS},
        dataset=Dataset.model_validate(data).model_dump(mode="json"),
        edges=list(EDGES),
        seed=42,
        stretches={},
        tables={},
        training={},
        created_by="bench",
    )
    arrays = {
        "index": index,
        "weight": np.random.default_rng(4).normal(0, 0.1, len(index)),
        "unseen": np.zeros(len(NUMBERS) + len(SLOTS) + len(CROSSES)),
        "intercept": np.array([-3.0]),
    }
    saved = artifact.save(str(root), card, arrays)
    calibration = {"calibrator": Calibrator("platt", slope=0.97, shift=0.01).to_dict(), "artifact": saved.digest}
    (root / "bench" / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    return root / "bench", len(index)


def timed(model: Path, text: bytes, rows: int) -> float:
    """Rows a second of one run over the whole log."""
    sink = io.BytesIO()
    started = time.process_time()
    counts = local.run(model, io.BytesIO(text), sink, sys.stderr)
    seconds = time.process_time() - started
    assert counts == (rows, 0)
    assert sink.getvalue().count(b"\n") == rows + 1
    return rows / seconds


if __name__ == "__main__":
    main()
