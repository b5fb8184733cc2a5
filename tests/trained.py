"""A table of samples and one of full traffic, and tasks that train on them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from clickmill import reader
from clickmill.loader import Counted, counted
from clickmill.nets.layout import Layout
from clickmill.specs import Embedding, WideDeepSpec
from clickmill.train.wide_deep.task import Task

START = datetime(2026, 1, 1)
KEEP = 0.5
GROUP = 1000
LAYOUT = Layout(
    slots=("s_ad", "s_site"),
    dims=(8, 8),
    bits=(10, 10),
    groups=(0, 1),
    numbers=("n_price",),
    wide=("s_ad", "s_site", "s_price"),
    wide_bits=12,
    rows_per_value=1,
)
SPEC = WideDeepSpec(
    arch="wide_deep",
    embedding=Embedding(dim=8, max_bits=10),
    wide_bits=12,
    hidden=(16,),
    batch_rows=256,
    epochs=2,
    validate_steps=None,
    patience=None,
    checkpoint_steps=4,
    threads=1,
)


def rows(number: int, *, seed: int, sampled: bool) -> pa.Table:
    """Rows whose click rate hangs on the ad; a tenth of the prices is missing."""
    rng = np.random.default_rng(seed)
    ads = rng.integers(0, 200, number)
    rate = 0.05 + 0.5 * (ads % 7 == 0)
    kept = rate / (rate + KEEP * (1 - rate)) if sampled else rate
    label = (rng.random(number) < kept).astype(np.int8)
    times = np.datetime64(START, "us") + np.arange(number).astype("timedelta64[ms]")
    columns: dict[str, Any] = {
        "event_id": [f"e{i}" for i in range(number)],
        "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "label": label,
        "s_ad": (ads * 2_654_435_761 % 2**32).astype(np.uint32).view(np.int32),
        "s_site": rng.integers(-(2**31), 2**31, number).astype(np.int32) // 2**20,
        "s_price": rng.integers(0, 5, number).astype(np.int32),
        "n_price": pa.array(rng.lognormal(size=number).astype(np.float32), mask=rng.random(number) < 0.1),
        "ds": [date(2026, 1, 1)] * number,
    }
    if sampled:
        columns["weight"] = np.where(label == 1, 1.0, 1 / KEEP)
        columns["keep_rate"] = np.full(number, KEEP)
    return pa.table(columns)


def pieces(folder: Path, table: pa.Table) -> tuple[Counted, ...]:
    write_deltalake(str(folder), table, writer_properties=WriterProperties(max_row_group_size=GROUP))
    (shard,) = reader.plan(str(folder), version=0, shards=1)
    return counted(shard.pieces)


def task(folder: Path, *, number: int = 6000, **spec: Any) -> Task:
    """A training of a few steps in a folder of its own, and its tables beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    training = pieces(folder / "sample", rows(number, seed=1, sampled=True))
    validation = pieces(folder / "features", rows(3000, seed=2, sampled=False))
    return Task(SPEC.model_copy(update=spec), LAYOUT, training, validation, str(folder / "training"))


def again(one: Task, name: str, **spec: Any) -> Task:
    """The same rows, in another folder."""
    place = Path(one.folder).with_name(name)
    return replace(one, folder=str(place), spec=one.spec.model_copy(update=spec))
