"""Rows a second that networks score, on one core: 26 slots and 13 numbers, to margins.

Run: .venv/bin/python bench/score_wide_deep.py [--rows 400000] [--hidden 256,128] [--dim 16] [--repeats 5]

The process, all its threads, is pinned to one core. Timed is `margins` of the loaded artifact over batches of
65,536 rows of `features`, after one batch that warms up: wide & deep, 39 columns and 8 crosses in its wide part,
DCN-V2 with three cross layers, full and of rank 64, and hidden layers alone. Tables have 2^16 rows a slot.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from logreg import machine

from clickmill.dataset import Dataset
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.models.card import Card
from clickmill.models.wide_deep import parts_in
from clickmill.nets.layout import layout_of
from clickmill.specs import WideDeepSpec

BATCH, VALUES = 65_536, 20_000
SLOTS = tuple(f"C{place}" for place in range(26))
NUMBERS = tuple(f"I{place}" for place in range(13))
CROSSES = tuple((SLOTS[place], SLOTS[place + 8]) for place in range(8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--hidden", default="256,128")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {0})
    print(json.dumps(machine()))
    rows = log(asked.rows)
    hidden = tuple(int(width) for width in asked.hidden.split(","))
    for arch, rank in (("wide_deep", None), ("dcn_v2", None), ("dcn_v2", 64), ("deep", None)):
        own = {"arch": arch, "cross_rank": rank, "hidden": hidden, "embedding": {"dim": asked.dim}}
        spec = WideDeepSpec.model_validate(own)
        with tempfile.TemporaryDirectory() as folder:
            model = saved(folder, spec)
            rates = sorted(timed(model, rows) for _ in range(asked.repeats))
        told = {"arch": arch, "cross_rank": rank, "hidden": hidden}
        print(json.dumps({**told, "rows_per_second": [round(rate) for rate in rates]}))


def saved(folder: str, spec: WideDeepSpec) -> Model:
    """A network with weights as they are at first, the wide part's drawn, as an artifact saved and loaded."""
    import torch
    from safetensors.torch import save_file

    from clickmill.nets.net import net_of
    from clickmill.nets.standard import standard_of

    dataset = {
        "name": "bench",
        "source": {"path": "x", "format": "parquet"},
        "label": "click",
        "event_time": {"kind": "column", "column": "time"},
        "slots": SLOTS,
        "numbers": NUMBERS,
        "crosses": CROSSES,
    }
    layout = layout_of(spec, Dataset.model_validate(dataset), dict.fromkeys(SLOTS, 16))
    net = net_of(spec, layout, standard_of([[1, 0, 1]] * len(NUMBERS)), -3.0)
    tensors = net.tensors()
    if layout.wide:
        tensors["wide.weight"].normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    file = Path(folder, "network.safetensors")
    save_file(tensors, file)
    arrays, network = parts_in(file)
    card = Card(
        model_id="deep-2026-01-10-00000000",
        name="deep",
        kind="wide_deep",
        keep_rate=0.05,
        correction="prior",
        spec=spec.model_dump(mode="json"),
        dataset=dataset,
        edges=[],
        seed=42,
        stretches={},
        tables={},
        training={},
        layout=asdict(layout),
        created_by="bench",
    )
    return artifact.load(artifact.save(folder, card, arrays, further=network).path)


def timed(model: Model, rows: pa.RecordBatch) -> float:
    """Rows a second."""
    model.margins(rows.slice(0, BATCH))
    start = time.perf_counter()
    for at in range(0, rows.num_rows, BATCH):
        model.margins(rows.slice(at, BATCH))
    return rows.num_rows / (time.perf_counter() - start)


def log(count: int) -> pa.RecordBatch:
    """Rows whose values are as often as 1 / their rank."""
    rng = np.random.default_rng(1)
    names = [*(f"s_{name}" for name in (*SLOTS, *NUMBERS)), *("x_" + "_".join(cross) for cross in CROSSES)]
    columns = {name: (VALUES ** rng.random(count)).astype(np.int64) * 2_654_435_761 for name in names}
    hashed = {name: (values % 2**32).astype(np.uint32).view(np.int32) for name, values in columns.items()}
    real = {f"n_{name}": rng.lognormal(size=count).astype(np.float32) for name in NUMBERS}
    return pa.RecordBatch.from_pydict({**hashed, **real})


if __name__ == "__main__":
    main()
