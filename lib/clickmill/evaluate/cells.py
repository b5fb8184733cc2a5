"""Rows counted in cells by p, fine enough for ranking figures: AUC to 1e-6, whatever the scores look like.

The first grid has 128 cells an octave of p (from 2^−40 to 1, by the leading bits of the float, so that
it is strictly rising). Within a cell it is not known which row is above which: counting those pairs
half errs by at most half their share of all pairs. `refinement` says which cells to cut again, and into
how many parts, until that share is below PAIRS; a cell whose rows all have the same p is exact.

All steps from p_sampled to p rise, so that the stages share their ranking and their equal-mass bins:
cells are by p_sampled, with the sum of each stage's p.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from clickmill.metrics import CLIP, ECE_BINS, Array, Groups, losses
from clickmill.schema import STAGES

Index = npt.NDArray[np.int64]


class Goal(NamedTuple):
    """How large a share of what is uncertain may be, and how many times finer cuts aim, so that once is enough."""

    share: float
    finer: float


PAIRS = Goal(2e-6, 1.25)
"""Of all pairs of a click and a non-click, those in cells not known to be ties; AUC errs by at most half of it."""
PRECISION = Goal(2e-5, 3.0)
"""How far average precision hangs on the order of rows within cells, at the very worst."""
MASS = Goal(1e-5, 5.0)
"""Of the mass, a cell across the edge of an equal-mass bin."""

_MANTISSA_BITS = 52
_LEADING = 7
_OCTAVES = 40
_LOWEST = (1023 - _OCTAVES) << _LEADING
GRID = (_OCTAVES << _LEADING) + 1
"""Number of cells of the first grid."""
_UNIT = 2.0**-36
"""Sums of p are of multiples of this: they come out the same in any order while they are below 131,072."""


class Cells(NamedTuple):
    """Cells that have rows, by rising key: (c,) each, `sums` (c, 3) with a column a stage."""

    key: Index
    low: Array
    """Least p_sampled of the cell's rows."""
    high: Array
    clicks: Array
    """Σ weight of clicks."""
    others: Array
    sums: Array

    def groups(self, stage: int) -> Groups:
        """What the functions of `clickmill.metrics` take, at one stage."""
        return Groups(self.sums[:, stage], self.clicks, self.others)

    def take(self, chosen: npt.NDArray[np.bool_] | Index) -> Cells:
        """Some of the cells."""
        columns: dict[str, Any] = {name: part[chosen] for name, part in self._asdict().items()}
        return Cells(**columns)

    def packed(self) -> dict[str, Any]:
        """The arrays for an `.npz`, smaller: most cells have few rows, and stages often agree."""
        same = bool((self.sums == self.sums[:, :1]).all())
        counts = {"key": _least(self.key), "clicks": _least(self.clicks), "others": _least(self.others)}
        return {**self._asdict(), **counts, "sums": self.sums[:, :1] if same else self.sums}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Cells:
        """What `packed` made."""
        key, low, high, clicks, others, sums = (arrays[name] for name in cls._fields)
        every = np.broadcast_to(sums, (len(key), len(STAGES)))
        return cls(key.astype(np.int64), low, high, clicks.astype(np.float64), others.astype(np.float64), every)

    def to_bytes(self) -> bytes:
        """An `.npz` of plain arrays."""
        out = io.BytesIO()
        np.savez(out, **self.packed())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Cells:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls.unpacked(arrays)

    @classmethod
    def merge(cls, parts: Sequence[Cells]) -> Cells:
        """Cells of the same key put together; at least one part."""
        if len(parts) == 1:
            return parts[0]
        key, low, high, clicks, others, sums = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if not len(key):
            return parts[0]
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
        return cls(
            key[starts],
            np.minimum.reduceat(low[order], starts),
            np.maximum.reduceat(high[order], starts),
            np.add.reduceat(clicks[order], starts),
            np.add.reduceat(others[order], starts),
            np.add.reduceat(sums[order], starts, axis=0),
        )


class Refinement(NamedTuple):
    """Cells to be cut: the range of p_sampled of each, into how many parts, and the key of the first part."""

    low: Array
    high: Array
    parts: Array
    first: Index
    start: Index
    """How many of them lie in lower cells of the first grid, for each of its cells and their end, (GRID + 1,)."""

    @property
    def keys(self) -> int:
        """How many parts there are in all."""
        return int(self.first[-1] + self.parts[-1])


@dataclass(frozen=True)
class Judged:
    """Rows of one model with their p at all stages, ready to be counted; a step that changes nothing hands its
    array on, and nothing is worked out twice for one array.
    """

    label: npt.NDArray[np.int8]
    weight: Array
    stages: tuple[Array, Array, Array]

    @cached_property
    def distinct(self) -> tuple[Array, ...]:
        """The arrays of the stages, each once."""
        return tuple({id(p): p for p in self.stages}.values())

    @cached_property
    def place(self) -> Index:
        """Which of `distinct` each stage has, (3,)."""
        places = {id(p): number for number, p in enumerate(self.distinct)}
        return np.array([places[id(p)] for p in self.stages])

    @cached_property
    def terms(self) -> list[list[Array]]:
        """Of each of `distinct` v·p, v·log-loss, v·(p − y)², and whether p was clipped, (n,) each."""
        y, v = self.label.astype(np.float64), self.weight
        return [
            [v * p, v * losses(y, p), v * (p - y) ** 2, ((p < CLIP) | (p > 1 - CLIP)).astype(np.float64)]
            for p in self.distinct
        ]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Judged:
        """Some of the rows."""
        own = [p[chosen] for p in self.distinct]
        first, second, third = (own[place] for place in self.place)
        return Judged(self.label[chosen], self.weight[chosen], (first, second, third))


def grid_key(p: Array) -> Index:
    """Cell of the first grid, in [0, GRID), rising with p in [0, 1]."""
    leading = np.ascontiguousarray(p).view(np.int64) >> (_MANTISSA_BITS - _LEADING)
    return np.asarray(np.clip(leading - _LOWEST, 0, GRID - 1))


class Counter:
    """Counts rows into cells by key; memory by the number of keys, 56 bytes each."""

    def __init__(self, keys: int) -> None:
        self._found = np.zeros((keys, 4 + len(STAGES)))
        self._found[:, :2] = [np.inf, -np.inf]

    def add(self, key: Index, rows: Judged) -> None:
        """Counts n rows. key: (n,), −1 where a row is not to be counted."""
        click = rows.label == 1  # copies: Arrow's own buffers, which nobody may write, would be compiled for apart
        _count(key, click, rows.weight + 0.0, np.stack(rows.distinct), rows.place, self._found)

    def cells(self) -> Cells:
        """The cells that have rows."""
        some = np.flatnonzero(self._found[:, 0] <= self._found[:, 1])
        low, high, clicks, others = np.ascontiguousarray(self._found[some, :4].T)
        return Cells(some, low, high, clicks, others, self._found[some, 4:])


@njit(cache=True, nogil=True)
def _count(key, click, weight, stages, place, found):  # type: ignore[no-untyped-def]
    own = np.empty(len(stages))
    for i in range(len(key)):
        if key[i] < 0:
            continue
        cell = found[key[i]]
        cell[0] = min(cell[0], stages[0, i])
        cell[1] = max(cell[1], stages[0, i])
        cell[2 if click[i] else 3] += weight[i]
        for k in range(len(stages)):
            own[k] = np.rint(weight[i] * stages[k, i] / _UNIT) * _UNIT
        for stage in range(len(place)):
            cell[4 + stage] += own[place[stage]]


def _least(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers, none below 0, in the fewest bytes that hold whole ones."""
    kinds = (kind for kind in (np.uint8, np.uint16, np.uint32) if numbers.max(initial=0) <= np.iinfo(kind).max)
    small = numbers.astype(next(kinds, numbers.dtype))
    return small if np.array_equal(small, numbers) else numbers


def refinement(cells: Cells) -> tuple[npt.NDArray[np.bool_], Refinement] | None:
    """Which cells to cut and how; None where they are fine enough.

    A cell that carries a share a of what is uncertain is cut into parts in proportion to √a, which
    reaches a goal with the fewest parts where rows are spread evenly.
    """
    loose = cells.low < cells.high
    pairs = cells.clicks * cells.others / (cells.clicks.sum() * cells.others.sum() or 1.0)
    parts = np.maximum(_parts(pairs * loose, PAIRS), _parts(_precision(cells) * loose, PRECISION))
    parts = np.maximum(parts, _parts_across_edges(cells) * loose)
    cut = parts > 1
    if not cut.any():
        return None
    first = np.concatenate(([0], np.cumsum(parts[cut]))).astype(np.int64)[:-1]
    low = cells.low[cut]
    start = np.searchsorted(grid_key(low), np.arange(GRID + 1))
    return cut, Refinement(low, cells.high[cut], parts[cut], first, start)


def _parts(share: Array, goal: Goal) -> Array:
    """Into how many parts to cut cells with these shares so that their sum falls below the goal; 1: not at all."""
    if share.sum() <= goal.share:
        return np.ones(len(share))
    return np.asarray(np.maximum(1.0, np.ceil(np.sqrt(share) * np.sqrt(share).sum() * goal.finer / goal.share)))


def _precision(cells: Cells) -> Array:
    """By how much each cell's own order of rows can change average precision, (c,)."""
    clicks = np.cumsum(cells.clicks[::-1])[::-1]
    mass = np.cumsum((cells.clicks + cells.others)[::-1])[::-1]
    above_clicks, above = clicks - cells.clicks, mass - cells.clicks - cells.others
    worst = above_clicks / np.maximum(above + cells.others, np.finfo(float).tiny)
    best = clicks / np.maximum(above + cells.clicks, np.finfo(float).tiny)
    return np.asarray(cells.clicks * np.clip(best - worst, 0, 1) / (clicks[0] or 1.0))


def _parts_across_edges(cells: Cells) -> Array:
    """Cuts of the cells that lie across the edge of an equal-mass bin and are heavy."""
    mass = (cells.clicks + cells.others) / (cells.clicks + cells.others).sum()
    above = np.cumsum(mass)
    across = np.floor(np.minimum(above * ECE_BINS, ECE_BINS - 1)) != np.floor((above - mass) * ECE_BINS)
    return np.where(across & (mass > MASS.share), np.ceil(MASS.finer * mass / MASS.share), 1.0)


def fine_key(p: Array, cuts: Refinement) -> Index:
    """Key of the part that p lies in, rising with p; −1 where its cell is not cut."""
    return np.asarray(_fine_key(p + 0.0, grid_key(p), *cuts))


@njit(cache=True, nogil=True)
def _fine_key(p, cell, low, high, parts, first, start):  # type: ignore[no-untyped-def]
    key = np.full(len(p), -1, np.int64)
    for i in range(len(p)):
        at, end = start[cell[i]], start[cell[i] + 1]  # the last whose low is not above p lies just before `at`
        while at < end:
            middle = (at + end) // 2
            if low[middle] <= p[i]:
                at = middle + 1
            else:
                end = middle
        at -= 1
        if at >= 0 and p[i] <= high[at]:
            part = np.floor((p[i] - low[at]) / (high[at] - low[at]) * parts[at])
            key[i] = first[at] + np.int64(min(part, parts[at] - 1))
    return key


def refined(cells: Cells, cut: npt.NDArray[np.bool_], fine: Cells) -> Cells:
    """The cells with those cut replaced by their parts, in rising order of p, with new keys."""
    both = [cells.take(~cut), fine]
    whole = Cells(*(np.concatenate([part[i] for part in both]) for i in range(6)))
    ordered = whole.take(np.argsort(whole.low, kind="stable"))
    return ordered._replace(key=np.arange(len(ordered.low)))
