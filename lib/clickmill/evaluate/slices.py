"""Groups of rows that are judged apart: every row lies in one group of each way of slicing. No Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import chain, count, pairwise
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
        edges = [_exact(edge) for edge in self.edges]
        inner = (f"{low}<={self.name}<{high}" for low, high in pairwise(edges))
        ends = f"{self.name}<{edges[0]}", f"{self.name}>={edges[-1]}"
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
        """Every group, `all` first, each by a name of its own; only days are called as days are.

        A log may hold the value `__other__`, and a column may be called hour, or be both a number and carried.
        """
        found: dict[str, None] = {}
        for way in self.ways:
            for plain in way.names:
                is_taken = plain in found or (plain.startswith(DAY_SLICE) and not isinstance(way, ByDay))
                name = f"{way.column}: {plain}" if is_taken else plain
                names = chain([name], (f"{name} ({number})" for number in count(2)))
                found[next(one for one in names if one not in found)] = None
        return tuple(found)

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


def _exact(edge: float) -> str:
    """The number in few digits, but as many as tell it from all others."""
    short = f"{edge:g}"
    return short if float(short) == edge else repr(edge).removesuffix(".0")


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
