"""A rank's rows in memory, and the features that are active over all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.hashing import to_index
from clickmill.lookup import Lookup
from clickmill.models.logreg import hashes, rare_index
from clickmill.train.logreg import kernels
from clickmill.train.ring import Ring, gather_uneven
from clickmill.train.sampled import numbers

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
    lookup: of k keys (see `models.logreg`): the indices themselves, or the whole hashes of the kept values, of
    which some may share an index. place: (k,) where each key stands in θ.
    fold: (m,) the position of each column's rare value; d + 1, a place that is always 0, where nothing folds.
    """

    index: UInt32
    position: NDArray[np.int32]
    lookup: Lookup
    place: NDArray[np.int32]
    fold: NDArray[np.int32]

    @property
    def keys(self) -> UInt32:
        return self.lookup.index

    def __len__(self) -> int:
        return len(self.position)

    def relabel(self, cells: NDArray[np.int32]) -> NDArray[np.int32]:
        """Positions of (n, m) keys, in their own memory."""
        lookup = self.lookup
        raw = cells.view(np.uint32)
        kernels.relabel(raw, lookup.directory, lookup.index, lookup.shift, self.place, self.fold, cells)
        return cells


def cells(batch: pa.RecordBatch, columns: Sequence[str], bits: int) -> NDArray[np.int32]:
    """(n, m) keys of `bits` bits of a batch's hash columns."""
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


def find_active(rows: Rows, ring: Ring, *, slots: Sequence[str], bits: int, min_count: int) -> Active:
    """The features of all ranks' rows, as indices of `bits` bits, and what each column's rare values become.

    The cells hold indices of `bits` bits where `min_count` is 1, else whole hashes: a value is kept if its own
    hash occurs at least `min_count` times, whoever shares its index. Equal on every rank. A rank holds at most
    the list of features (of values, where they are counted) there are, never another's rows.
    """
    if min_count > 1:
        return _folding(*_sparse(rows, ring), slots=tuple(slots), bits=bits, min_count=min_count)
    index, counts = _dense(rows, ring, bits) if bits <= DENSE_BITS else _sparse(rows, ring)
    position = _ranked(counts)
    return Active(index, position, Lookup(index, bits), position, np.full(len(slots), len(index) + 1, np.int32))


def _folding(
    values: UInt32, counts: NDArray[np.int64], *, slots: tuple[str, ...], bits: int, min_count: int
) -> Active:
    """Features of the values (whole hashes) that occur often enough, and of what the others fold into."""
    often = counts >= min_count
    kept, folded = values[often], float(counts[~often].sum())
    rare = rare_index(slots, bits)
    reduced = to_index(kept.view(np.int32), bits).view(np.uint32)
    index, which = np.unique(np.concatenate((reduced, rare)), return_inverse=True)
    # How much folds into each slot's rare value is not known: all of it is no less, and brings them to the front.
    times = np.bincount(which, np.concatenate((counts[often], np.full(len(rare), folded))))
    position = _ranked(times)
    places = position[which]
    return Active(index, position, Lookup(kept, 32), places[: len(kept)], places[len(kept) :])


def _ranked(counts: NDArray[Any]) -> NDArray[np.int32]:
    """1 … d by falling counts, (d,)."""
    position = np.empty(len(counts), np.int32)
    position[np.argsort(-counts, kind="stable")] = np.arange(1, len(counts) + 1, dtype=np.int32)
    return position


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
