"""Groups of rows that are judged apart: every row lies in one group of each way of slicing. No Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clickmill.config import Slice
from clickmill.schema import DAY_SLICE, EVERYTHING
from clickmill.units import micros

Int32 = NDArray[np.int32]
OTHER, MISSING, SEEN, UNSEEN = "__other__", "__missing__", "__seen__", "__unseen__"
HOUR_US = 3_600_000_000


class Way(Protocol):
    """One way of slicing."""

    @property
    def column(self) -> str:
        """The column of `features` that it looks at; empty: none."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its groups."""

    def groups(self, batch: pa.RecordBatch) -> Int32:
        """The place in `names` of each of n rows, (n,)."""


@dataclass(frozen=True)
class Everything:
    """All rows as one group."""

    column: str = ""
    names: tuple[str, ...] = (EVERYTHING,)

    def groups(self, batch: pa.RecordBatch) -> Int32:
        return np.zeros(batch.num_rows, np.int32)


@dataclass(frozen=True)
class ByDay:
    """Days that follow each other."""

    days: tuple[date, ...]
    column: str = "event_time"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{DAY_SLICE}{day}" for day in self.days)

    def groups(self, batch: pa.RecordBatch) -> Int32:
        days = micros(batch.column(self.column)).astype("datetime64[us]").astype("datetime64[D]")
        return (days - np.datetime64(self.days[0])).astype(np.int32)


@dataclass(frozen=True)
class ByHour:
    """The hour of day, UTC."""

    column: str = "event_time"
    names: tuple[str, ...] = tuple(f"hour={hour:02d}" for hour in range(24))

    def groups(self, batch: pa.RecordBatch) -> Int32:
        return (micros(batch.column(self.column)) // HOUR_US % 24).astype(np.int32)


@dataclass(frozen=True)
class ByValue:
    """A carried column's commonest values; the rest, and rows without a value, are two groups more."""

    name: str
    column: str
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={value}" for value in (*self.values, OTHER, MISSING))

    def groups(self, batch: pa.RecordBatch) -> Int32:
        texts = batch.column(self.column).cast(pa.string())
        place = pc.fill_null(pc.index_in(texts, value_set=pa.array(self.values, pa.string())), len(self.values))
        return np.where(pc.is_null(texts), len(self.values) + 1, place).astype(np.int32)


@dataclass(frozen=True)
class ByBucket:
    """A number's buckets, and rows without one."""

    name: str
    column: str
    edges: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        inner = (f"{low:g}<={self.name}<{high:g}" for low, high in pairwise(self.edges))
        ends = f"{self.name}<{self.edges[0]:g}", f"{self.name}>={self.edges[-1]:g}"
        return (ends[0], *inner, ends[1], f"{self.name}={MISSING}")

    def groups(self, batch: pa.RecordBatch) -> Int32:
        values = pc.fill_null(batch.column(self.column).cast(pa.float64()), np.nan)
        number = values.to_numpy(zero_copy_only=False)
        bucket = np.searchsorted(np.array(self.edges), number, side="right")
        return np.where(np.isnan(number), len(self.edges) + 1, bucket).astype(np.int32)


@dataclass(frozen=True)
class BySeen:
    """Whether a slot's value stood in training time."""

    name: str
    column: str
    hashes: Int32
    """Those that did, rising."""

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.name}={SEEN}", f"{self.name}={UNSEEN}")

    def groups(self, batch: pa.RecordBatch) -> Int32:
        own = batch.column(self.column).to_numpy(zero_copy_only=False)
        at = np.minimum(np.searchsorted(self.hashes, own), max(len(self.hashes) - 1, 0))
        seen = self.hashes[at] == own if len(self.hashes) else np.zeros(len(own), bool)
        return (~seen).astype(np.int32)


@dataclass(frozen=True)
class Slices:
    """All ways of slicing; the first holds every row."""

    ways: tuple[Way, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every group, `all` first."""
        return tuple(name for way in self.ways for name in way.names)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `features` that `groups` looks at, each once."""
        return tuple(dict.fromkeys(way.column for way in self.ways if way.column))

    def places(self, way: int) -> range:
        """Where in `names` the groups of one way are."""
        start = sum(len(one.names) for one in self.ways[:way])
        return range(start, start + len(self.ways[way].names))

    def groups(self, batch: pa.RecordBatch) -> Int32:
        """The places in `names` of each of n rows, one for each way of slicing, (n, ways)."""
        own = [self.places(number).start + way.groups(batch) for number, way in enumerate(self.ways)]
        return np.column_stack(own).astype(np.int32)


def slice_column(one: Slice) -> str:
    """The column of `features` that a way of slicing looks at."""
    prefix = {"values": "c_", "buckets": "n_", "seen": "s_"}.get(one.kind)
    return "event_time" if prefix is None else f"{prefix}{one.column}"


def way_of(one: Slice, *, common: Mapping[str, tuple[str, ...]], seen: Mapping[str, Int32]) -> Way:
    """A way of slicing as workers need it (days apart, which are always judged apart).

    common: the commonest values of each carried column, commonest first; seen: the hashes of each slot that
    stand in training time, rising.
    """
    name, column = one.column or "", slice_column(one)
    if one.kind == "values":
        return ByValue(name, column, common[column])
    if one.kind == "buckets":
        return ByBucket(name, column, one.edges)
    return BySeen(name, column, seen[column]) if one.kind == "seen" else ByHour()
