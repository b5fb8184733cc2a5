"""Trains one logistic regression from `sample` and saves it. Spark only starts the ranks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from clickmill import __version__, reader
from clickmill.config import Config, digest
from clickmill.errors import UnsupportedTableError
from clickmill.models import artifact
from clickmill.models.card import Card
from clickmill.models.logreg import column_slots, feature_columns
from clickmill.reader import Shard
from clickmill.split import Stretch, Stretches
from clickmill.tables import Tables
from clickmill.train import driver, watch
from clickmill.train.logreg import worker
from clickmill.train.logreg.warm import start_of
from clickmill.train.logreg.worker import Fitted, Task
from clickmill.train.ring import Ring
from clickmill.train.watch import Address, Say

TRAINING = ("label", "weight", "keep_rate")
PART = "part"


@dataclass(frozen=True)
class Files:
    """A rank's rows straight from the tables' files."""

    shards: tuple[Shard, Shard]
    stretches: tuple[Stretch, Stretch]
    columns: tuple[str, ...]

    def training(self) -> Iterator[pa.RecordBatch]:
        return reader.read(self.shards[0], columns=[*self.columns, *TRAINING], stretch=self.stretches[0])

    def validation(self) -> Iterator[pa.RecordBatch]:
        return reader.read(self.shards[1], columns=[*self.columns, "label"], stretch=self.stretches[1])


class Handed:
    """A rank's rows as Spark handed them over: both stretches in one stream, told apart by `part`."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._parts: tuple[list[pa.RecordBatch], list[pa.RecordBatch]] = ([], [])
        for batch in batches:
            which = batch.column(PART).to_numpy(zero_copy_only=False)
            for part, kept in enumerate(self._parts):
                kept.append(batch.filter(pa.array(which == part)))

    def training(self) -> list[pa.RecordBatch]:
        return self._parts[0]

    def validation(self) -> list[pa.RecordBatch]:
        return self._parts[1]


def lacking(tables: Tables, train: Stretch) -> list[str]:
    """A warning where train time touches days that `sample` has not: shorter than asked for, it is trained on."""
    there = set(tables.days("sample"))
    absent = [day.isoformat() for day in train.days if day not in there]
    if not absent:
        return []
    return [f"warning: train time is {train}, and sample has no rows of {', '.join(absent)}"]


def train(
    tables: Tables,
    cfg: Config,
    *,
    name: str,
    ds: date,
    stretches: Stretches,
    dry_run: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Trains model `name` of the config and returns its row of `models`, its artifact saved.

    Reads the pinned versions of `sample` (train stretch) and `features` (validation stretch). Raises
    NoRowsError, KeepRateError, DegenerateLabelsError for data that cannot be trained on,
    MissingTableError, ConfigError for a warm start that cannot be made, NotEnoughSlotsError, RankError.
    `dry_run`: trains, saves nothing. `say` is told what a warm start begins with, and how far a long training is.
    """
    spec = cfg.models[name]
    start = time.perf_counter()
    columns = feature_columns(spec, cfg.dataset)
    begin = start_of(tables, spec, name=name, ds=ds, train=stretches.train)
    tell = None if say is None else partial(_say_of, say, name)
    if begin is not None and tell is not None:
        tell(begin.line)
    task = Task(spec, columns, column_slots(columns, cfg.dataset), begin.weights if begin else None)
    fitted = fit(tables, task, stretches=stretches, sample_id=cfg.sampling.sample_id, say=tell)
    if begin is not None:
        fitted.figures["warm_start"] = begin.figures
    card = _card(tables, cfg, name, ds, stretches, fitted)
    saved = (
        artifact.Saved("", "", 0)
        if dry_run
        else artifact.save(cfg.artifact_root, card, worker.arrays_of(fitted, spec))
    )
    return {
        "model_id": card.model_id,
        "name": name,
        "kind": card.kind,
        "spec": json.dumps(card.spec),
        "stretches": json.dumps(card.stretches),
        "keep_rate": card.keep_rate,
        "correction": card.correction,
        "versions": json.dumps(card.tables),
        "artifact": saved.path,
        "digest": saved.digest,
        "bytes": saved.bytes,
        "rows": fitted.figures["rows"],
        "clicks": fitted.figures["clicks"],
        "training": json.dumps(fitted.figures),
        "status": "trained" if fitted.figures["converged"] else "not converged",
        "seconds": time.perf_counter() - start,
        "run_id": tables.run_id,
        "ds": ds,
    }


def _say_of(say: Say, name: str, line: str) -> None:
    say(f"{name}: {line}")


def fit(tables: Tables, task: Task, *, stretches: Stretches, sample_id: str, say: Say | None = None) -> Fitted:
    """Runs the ranks on the rows of `sample` and `features`, through files, or through Spark where it must be."""
    spark = tables.spark
    ranks = driver.ranks_for(spark, task.spec.ranks)
    where = {"sample_id": sample_id}
    frame: DataFrame | None = None
    work: partial[Iterator[pa.RecordBatch]]
    try:
        work = partial(_work_on_files, sources=_files(tables, task, stretches, where, ranks), task=task)
    except UnsupportedTableError:
        frame = _frame(tables, task, stretches, where)
        work = partial(_work_on_frame, task=task)
    with watch.listening(driver.host_of(spark), say) as address:
        told = driver.run(spark, partial(work, address=address), ranks=ranks, frame=frame)
    return worker.fitted_from((row.kind, row.value, row.data) for row in told if row.rank == 0)


def _work_on_files(
    _: Iterator[pa.RecordBatch], ring: Ring, *, sources: tuple[Files, ...], task: Task, address: Address | None
) -> Iterator[pa.RecordBatch]:
    say = watch.teller(address, ring.rank)
    return worker.rows_of(worker.fit(sources[ring.rank], ring, task, say=say), ring.rank)


def _work_on_frame(
    batches: Iterator[pa.RecordBatch], ring: Ring, *, task: Task, address: Address | None
) -> Iterator[pa.RecordBatch]:
    say = watch.teller(address, ring.rank)
    return worker.rows_of(worker.fit(Handed(batches), ring, task, say=say), ring.rank)


def _files(
    tables: Tables, task: Task, stretches: Stretches, where: Mapping[str, str], ranks: int
) -> tuple[Files, ...]:
    times = (stretches.train, stretches.validation)
    training = tables.shards("sample", days=stretches.train.days, where=where, number=ranks)
    validation = tables.shards("features", days=stretches.validation.days, number=ranks)
    return tuple(Files(shards, times, task.columns) for shards in zip(training, validation, strict=True))


def _frame(tables: Tables, task: Task, stretches: Stretches, where: Mapping[str, str]) -> DataFrame:
    training = tables.read("sample", stretch=stretches.train, where=where)
    validation = tables.read("features", stretch=stretches.validation)
    one = F.lit(1.0)
    return training.select(*task.columns, *TRAINING, F.lit(0).alias(PART)).union(
        validation.select(*task.columns, "label", one, one, F.lit(1).alias(PART))
    )


def _card(tables: Tables, cfg: Config, name: str, ds: date, stretches: Stretches, fitted: Fitted) -> Card:
    spec = cfg.models[name].model_dump(mode="json")
    return Card(
        model_id=f"{name}-{ds}-{digest(spec)[:8]}",
        name=name,
        kind=cfg.models[name].kind,
        keep_rate=fitted.keep_rate,
        correction=cfg.models[name].correction,
        spec=spec,
        dataset=cfg.dataset.model_dump(mode="json"),
        edges=list(cfg.features.edges),
        number_edges={key: list(edges) for key, edges in cfg.features.number_edges.items()},
        seed=cfg.sampling.seed,
        stretches=stretches.to_dict(),
        tables={table: tables.version(table) for table in ("sample", "features")},
        training={key: value for key, value in fitted.figures.items() if key != "seconds"},  # the same on a rerun
        created_by=__version__,
    )
