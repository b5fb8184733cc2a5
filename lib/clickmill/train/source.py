"""Where the ranks of a training get their rows: files of pinned tables, or Spark where these cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from clickmill import reader
from clickmill.errors import UnsupportedTableError
from clickmill.reader import Shard
from clickmill.split import Stretch, Stretches
from clickmill.tables import Tables
from clickmill.train import driver, watch
from clickmill.train.report import Row
from clickmill.train.ring import Ring
from clickmill.train.sampled import Source
from clickmill.train.watch import Address, Say

TRAINING = ("label", "weight", "keep_rate")
PART = "part"

Fit = Callable[[Source, Ring, Say | None], Iterator[pa.RecordBatch]]
"""What a rank does with its rows, its end of the ring, and somebody to tell → its report."""


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


def on_ranks(
    tables: Tables,
    fit: Fit,
    *,
    columns: Sequence[str],
    stretches: Stretches,
    sample_id: str,
    ranks: int | None,
    say: Say | None = None,
) -> list[Row]:
    """Runs `fit`, a top-level function, on every rank, and returns what the first one reports.

    It reads `columns` of the pinned versions of `sample` (train stretch) and `features` (validation stretch),
    through files, or through Spark where it must be. `say` is told what the first rank says.
    """
    number = driver.ranks_for(tables.spark, ranks)
    where = {"sample_id": sample_id}
    frame: DataFrame | None = None
    work: partial[Iterator[pa.RecordBatch]]
    try:
        sources = _files(tables, columns, stretches, where, number)
        work = partial(_work_on_files, sources=sources, fit=fit)
    except UnsupportedTableError:
        frame = _frame(tables, columns, stretches, where)
        work = partial(_work_on_frame, fit=fit)
    with watch.listening(driver.host_of(tables.spark), say) as address:
        told = driver.run(tables.spark, partial(work, address=address), ranks=number, frame=frame)
    return [row for row in told if row.rank == 0]


def _work_on_files(
    _: Iterator[pa.RecordBatch], ring: Ring, *, sources: tuple[Files, ...], fit: Fit, address: Address | None
) -> Iterator[pa.RecordBatch]:
    return fit(sources[ring.rank], ring, watch.teller(address, ring.rank))


def _work_on_frame(
    batches: Iterator[pa.RecordBatch], ring: Ring, *, fit: Fit, address: Address | None
) -> Iterator[pa.RecordBatch]:
    return fit(Handed(batches), ring, watch.teller(address, ring.rank))


def _files(
    tables: Tables, columns: Sequence[str], stretches: Stretches, where: Mapping[str, str], ranks: int
) -> tuple[Files, ...]:
    times = (stretches.train, stretches.validation)
    training = tables.shards("sample", days=stretches.train.days, where=where, number=ranks)
    validation = tables.shards("features", days=stretches.validation.days, number=ranks)
    return tuple(Files(shards, times, tuple(columns)) for shards in zip(training, validation, strict=True))


def _frame(tables: Tables, columns: Sequence[str], stretches: Stretches, where: Mapping[str, str]) -> DataFrame:
    training = tables.read("sample", stretch=stretches.train, where=where)
    validation = tables.read("features", stretch=stretches.validation)
    one = F.lit(1.0)
    return training.select(*columns, *TRAINING, F.lit(0).alias(PART)).union(
        validation.select(*columns, "label", one, one, F.lit(1).alias(PART))
    )
