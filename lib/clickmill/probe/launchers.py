"""Whether launchers work: each that is installed has two ranks train a network of a few weights."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from clickmill import reader, session
from clickmill.doctor import Check
from clickmill.errors import ClickmillError
from clickmill.loader import counted
from clickmill.nets.layout import Layout
from clickmill.specs import Embedding, Launcher, WideDeepSpec
from clickmill.train.wide_deep.launch import launch
from clickmill.train.wide_deep.task import Task

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS, RANKS = 64, 2
LAYOUT = Layout(
    slots=("s_ad",),
    dims=(2,),
    bits=(4,),
    groups=(0,),
    numbers=("n_price",),
    wide=("s_ad",),
    wide_bits=10,
    rows_per_value=1,
)


class Way(NamedTuple):
    """How the ranks of a network are started."""

    name: str
    launcher: Launcher
    hosts: str | None = None
    in_spark: bool = False


WAYS = (
    Way("local", "local"),
    Way("torchrun", "torchrun"),
    Way("horovod on hosts", "horovod", hosts=f"localhost:{RANKS}"),
    Way("horovod in Spark", "horovod", in_spark=True),
    Way("torch_distributor", "torch_distributor", in_spark=True),
)


def tried(spark: SparkSession, warehouse: str) -> list[Check]:
    """A check for each way. Ranks in Spark are started by this session's tasks.

    warehouse: where tasks on other machines find the rows, for which it must be a folder; nothing stays there.
    """
    near = session.is_local(spark)
    if not near and not Path(warehouse).is_dir():
        said = f"not tried: the warehouse {warehouse} is no folder, where ranks on other machines would find rows"
        return [Check("launchers tried", False, said, needed=False)]
    with tempfile.TemporaryDirectory(prefix=".clickmill-doctor-", dir=None if near else warehouse) as folder:
        task = _task(Path(folder))
        found = [_tried(way, task, spark if way.in_spark else None) for way in WAYS]
    if not any(one.ok for one in found):
        found.append(Check("launchers tried", False, "none works", "each line above says why; torch: make deep"))
    return found


def _tried(way: Way, task: Task, spark: SparkSession | None) -> Check:
    name, begun = f"launcher {way.name}", time.monotonic()
    ranks = 1 if way.launcher == "local" else RANKS
    spec = task.spec.model_copy(update={"launcher": way.launcher, "hosts": way.hosts, "ranks": ranks})
    folder = Path(task.folder).with_name(way.name.replace(" ", "-"))
    try:
        figures = launch(replace(task, spec=spec, folder=str(folder)), spark=spark)
    except ClickmillError as error:
        return Check(name, False, str(error), needed=False)
    trained = f"trained a network by {figures['ranks']} rank{'s' * (ranks > 1)}"
    return Check(name, True, f"{trained} in {time.monotonic() - begun:.0f} s", needed=False)


def _task(folder: Path) -> Task:
    """A few rows, each rank's in a file of its own."""
    numbers = np.arange(ROWS)
    table = pa.table(
        {
            "label": (numbers % 4 == 0).astype(np.int8),
            "weight": np.ones(ROWS),
            "keep_rate": np.ones(ROWS),
            "s_ad": (numbers % 5).astype(np.int32),
            "n_price": numbers.astype(np.float32),
        }
    )
    for part in range(RANKS):
        write_deltalake(folder / "sample", table.slice(part * ROWS // RANKS, ROWS // RANKS), mode="append")
    (shard,) = reader.plan(str(folder / "sample"), version=RANKS - 1, shards=1)
    spec = WideDeepSpec(
        embedding=Embedding(dim=2), wide_bits=10, hidden=(2,), batch_rows=16, epochs=1, patience=None
    )
    return Task(spec, LAYOUT, counted(shard.pieces), (), str(folder / "training"))
