"""The rows that are judged, and the passes of workers over them, on Spark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from clickmill.champion import needed_columns
from clickmill.config import Config
from clickmill.evaluate import worker
from clickmill.evaluate.worker import Plan
from clickmill.split import Stretch
from clickmill.tables import ByWorkers, Rows, Scan, Tables
from clickmill.writer import Make

RANGES = 64
"""Into so many ranges of keys, at most, finer cells are dealt: each partition sends a parcel to each range."""
FEW = 2**20
"""Rows × models that the driver holds, packed, to make the later passes itself: some 20 MB, 80 MB with predictions
that are to be stored. For so few a job of Spark's takes more than the pass."""


class Traffic(NamedTuple):
    """The rows that are judged."""

    name: str
    """Whether they are all (`full`) or a sample with weights (`weighted_sample`)."""
    columns: tuple[str, ...]
    frame: Callable[[], DataFrame]
    """For questions to Spark."""
    scan: Callable[[Sequence[str]], Scan]
    """Columns of them, for workers."""

    @classmethod
    def of(cls, name: str, rows: DataFrame) -> Traffic:
        """The rows of a frame of Spark's."""
        return cls(name, tuple(rows.columns), lambda: rows, lambda columns: Scan.of(rows.select(*columns)))


class Parcels(Protocol):
    """Rows of `worker.PARCELS`."""

    @property
    def places(self) -> int:
        """Into how many ranges of keys finer cells are best dealt."""

    def of_kind(self, *kinds: str) -> Parcels:
        """Those of some kinds."""

    def through(self, make: Make) -> Parcels:
        """What a worker's function makes of them."""

    def added(self, ranges: int | None = None) -> dict[tuple[str, str], Any]:
        """What sums add up to. ranges: the number of `place`s where they are ranges of keys."""

    def rows(self, make: Make, schema: pa.Schema) -> Rows | ByWorkers:
        """The rows that a worker's function makes of them, as `Tables.write` takes them."""


class OnSpark(NamedTuple):
    """Parcels of many rows: workers keep them on their disks and make all passes."""

    frame: DataFrame
    parts: int | None
    """Partitions; None: not known."""

    @property
    def places(self) -> int:
        return min(self.parts or RANGES, RANGES)

    def of_kind(self, *kinds: str) -> OnSpark:
        return self._replace(frame=self.frame.where(F.col("kind").isin(list(kinds))))

    def through(self, make: Make) -> OnSpark:
        return self._replace(frame=self.frame.mapInArrow(make, from_arrow_schema(worker.PARCELS)))

    def added(self, ranges: int | None = None) -> dict[tuple[str, str], Any]:
        """What sums add up to.

        Where partitions are many, PARTS workers add up first, and where there are ranges, which are large, as many
        workers as ranges: the driver's part does not grow with the number of partitions.
        """
        few = self.parts is not None and self.parts <= (1 if ranges else worker.PARTS)
        dealt = self._replace(frame=self.frame.repartition(ranges or worker.PARTS, "place"))
        sums = self if few else dealt.through(worker.add_up)
        return worker.added(sums.frame.toArrow().to_pylist())

    def rows(self, make: Make, schema: pa.Schema) -> ByWorkers:
        return ByWorkers(self.frame, make, schema)


class Held(NamedTuple):
    """Parcels of few rows, held by the driver."""

    parcels: tuple[pa.RecordBatch, ...]

    @property
    def places(self) -> int:
        return 1

    def of_kind(self, *kinds: str) -> Held:
        wanted = pa.array(kinds, pa.string())
        return Held(tuple(one.filter(pc.is_in(one.column("kind"), wanted)) for one in self.parcels))

    def through(self, make: Make) -> Held:
        return Held(tuple(make(iter(self.parcels))))

    def added(self, ranges: int | None = None) -> dict[tuple[str, str], Any]:  # noqa: ARG002  (as on Spark)
        return worker.added(row for one in self.parcels for row in one.to_pylist())

    def rows(self, make: Make, schema: pa.Schema) -> pa.Table:
        return pa.Table.from_batches(make(iter(self.parcels)), schema)


def traffic(tables: Tables, cfg: Config, stretch: Stretch) -> Traffic:
    """All rows of a stretch of time; where there are no `features`, those of the sample with their weights."""
    name, where = "features", None
    if not tables.exists(name):
        name, where = "sample", {"sample_id": cfg.sampling.sample_id}
    cut: dict[str, Any] = {"stretch": stretch, "where": where}
    return Traffic(
        "full" if where is None else "weighted_sample",
        tables.columns(name),
        partial(tables.read, name, **cut),
        partial(tables.scan, name, **cut),
    )


@contextmanager
def scored(judged: Traffic, plan: Plan) -> Iterator[Parcels]:
    """The one pass: parcels of scored rows and of what they add up to.

    They are computed once, and kept by the driver where they are FEW, else on the workers' disks while the `with`
    lasts.
    """
    needed = needed_columns(judged.columns, [entry.contender for entry in plan.entries])
    units = [plan.units.column] if plan.units.column else []
    wanted = ["event_id", "event_time", "label", *plan.slices.columns, *units, *needed]
    wanted += [name for name in ("c_p_true", "weight") if name in judged.columns]
    rows = judged.scan(tuple(dict.fromkeys(wanted)))
    found = rows.through(partial(worker.score, plan=plan), worker.PARCELS).rows()
    if rows.most is not None and rows.most * len(plan.entries) <= FEW:
        yield Held(tuple(found.toArrow().to_batches()))
        return
    frame = found.persist(StorageLevel.DISK_ONLY)
    try:
        yield OnSpark(frame, rows.parts)
    finally:
        frame.unpersist()
