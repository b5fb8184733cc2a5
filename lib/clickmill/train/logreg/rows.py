"""A rank's rows in memory, and the features that are active over all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.errors import MissingColumnsError
from clickmill.hashing import rare_hash, to_index
from clickmill.models.logreg import hashes
from clickmill.models.lookup import Lookup
from clickmill.train.logreg import kernels
from clickmill.train.ring import Ring, gather_uneven

DENSE_BITS = 22
"""Up to here occurrences are counted in a table of 2^bits; above, as sorted lists of what is there."""

Doubles = NDArray[np.float64]
UInt32 = NDArray[np.uint32]


@dataclass(frozen=True)
class Rows:
    """n rows: blocks of (rows, m) cells, and label, weight, keep rate as (n,)."""

    cells: list[NDArray[np.int32]]
    label: Doubles
    weight: Doubles
    keep_rates: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Active:
    """The features a model has, over all ranks.

    index: (d,) uint32, rising. position: (d,) where each stands in θ, 1 … d, the most frequent first.
    fold: (m,) the position of each column's rare value; d + 1, a place that is always 0, where nothing folds.
    """

    lookup: Lookup
    position: NDArray[np.int32]
    fold: NDArray[np.int32]

    @property
    def index(self) -> UInt32:
        return self.lookup.index

    def __len__(self) -> int:
        return len(self.position)

    def relabel(self, cells: NDArray[np.int32]) -> NDArray[np.int32]:
        """Positions of (n, m) indices, in their own memory."""
        lookup = self.lookup
        raw = cells.view(np.uint32)
        kernels.relabel(raw, lookup.directory, lookup.index, lookup.shift, self.position, self.fold, cells)
        return cells


def cells(batch: pa.RecordBatch, columns: Sequence[str], bits: int) -> NDArray[np.int32]:
    """(n, m) indices of a batch's hash columns."""
    out = np.empty((batch.num_rows, len(columns)), np.int32)
    for j, column in enumerate(columns):
        out[:, j] = to_index(hashes(batch, column), bits)
    return out


def load(batches: Iterable[pa.RecordBatch], columns: Sequence[str], bits: int) -> Rows:
    """The batches (hash columns, `label`, `weight`, `keep_rate`) as rows; none is fine."""
    blocks, labels, weights = [], [], []
    rates: set[float] = set()
    for batch in batches:
        blocks.append(cells(batch, columns, bits))
        labels.append(numbers(batch, "label"))
        weights.append(numbers(batch, "weight"))
        rates.update(np.unique(numbers(batch, "keep_rate")).tolist())
    empty = [np.empty(0)]
    return Rows(blocks, np.concatenate(labels or empty), np.concatenate(weights or empty), tuple(sorted(rates)))


def numbers(batch: pa.RecordBatch, column: str) -> Doubles:
    """A column as (n,) float64. Raises MissingColumnsError where it has nulls."""
    values = batch.column(column)
    if values.null_count:
        raise MissingColumnsError(f"sample: column {column} is null in {values.null_count} rows")
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)


def find_active(rows: Rows, ring: Ring, *, slots: Sequence[str], bits: int, min_count: int) -> Active:
    """The features of all ranks' rows that occur at least `min_count` times, and each column's rare value.

    Equal on every rank. A rank holds at most the list of features there are, never another's rows.
    """
    index, counts = _dense(rows, ring, bits) if bits <= DENSE_BITS else _sparse(rows, ring)
    often = counts >= min_count
    index, counts = index[often], counts[often]
    rare = np.empty(0, np.uint32)
    if min_count > 1:
        rare = to_index(np.array([rare_hash(slot) for slot in slots], np.int32), bits).view(np.uint32)
        lacking = np.setdiff1d(rare, index)
        order = np.argsort(np.concatenate((index, lacking)), kind="stable")
        index = np.concatenate((index, lacking))[order]
        counts = np.concatenate((counts, np.zeros(len(lacking), np.int64)))[order]
    position = np.empty(len(index), np.int32)
    position[np.argsort(-counts, kind="stable")] = np.arange(1, len(index) + 1, dtype=np.int32)
    if min_count > 1:
        fold = position[np.searchsorted(index, rare)]
    else:
        fold = np.full(len(slots), len(index) + 1, np.int32)
    return Active(Lookup(index, bits), position, fold)


def _dense(rows: Rows, ring: Ring, bits: int) -> tuple[UInt32, NDArray[np.int64]]:
    counts = np.zeros(2**bits, np.int64)
    for block in rows.cells:
        kernels.count(block, counts)
    counts = ring.sum(counts)
    index = np.flatnonzero(counts)
    return index.astype(np.uint32), counts[index]


def _sparse(rows: Rows, ring: Ring) -> tuple[UInt32, NDArray[np.int64]]:
    index, counts = np.empty(0, np.uint32), np.empty(0, np.int64)
    for block in rows.cells:
        found, times = np.unique(block.view(np.uint32), return_counts=True)
        index, counts = _merged(np.concatenate((index, found)), np.concatenate((counts, times.astype(np.int64))))
    return _merged(gather_uneven(ring, index), gather_uneven(ring, counts))


def _merged(index: UInt32, counts: NDArray[np.int64]) -> tuple[UInt32, NDArray[np.int64]]:
    order = np.argsort(index, kind="stable")
    index, counts = index[order], counts[order]
    first = np.flatnonzero(np.concatenate((np.ones(min(len(index), 1), bool), index[1:] != index[:-1])))
    return index[first], np.add.reduceat(counts, first) if len(first) else counts
