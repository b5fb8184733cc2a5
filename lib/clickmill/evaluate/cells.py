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
from collections.abc import Sequence
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

    def to_bytes(self) -> bytes:
        """An `.npz` of plain arrays."""
        out = io.BytesIO()
        np.savez(out, **self._asdict())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Cells:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(*(arrays[name] for name in cls._fields))

    @classmethod
    def merge(cls, parts: Sequence[Cells]) -> Cells:
        """Cells of the same key put together; at least one part."""
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
    def terms(self) -> list[list[Array]]:
        """Of each stage v·p, v·log-loss, v·(p − y)², and whether p was clipped, (n,) each."""
        y, v = self.label.astype(np.float64), self.weight
        found: dict[int, list[Array]] = {}
        for p in self.stages:
            if id(p) not in found:
                clipped = ((p < CLIP) | (p > 1 - CLIP)).astype(np.float64)
                found[id(p)] = [v * p, v * losses(y, p), v * (p - y) ** 2, clipped]
        return [found[id(p)] for p in self.stages]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Judged:
        """Some of the rows."""
        first, second, third = (p[chosen] for p in self.stages)
        return Judged(self.label[chosen], self.weight[chosen], (first, second, third))


def grid_key(p: Array) -> Index:
    """Cell of the first grid, in [0, GRID), rising with p in [0, 1]."""
    leading = np.ascontiguousarray(p).view(np.int64) >> (_MANTISSA_BITS - _LEADING)
    return np.asarray(np.clip(leading - _LOWEST, 0, GRID - 1))


class Counter:
    """Counts rows into cells by key; memory by the number of keys, 64 bytes each."""

    def __init__(self, keys: int) -> None:
        self._ends = np.tile([np.inf, -np.inf], (keys, 1))
        self._sums = np.zeros((keys, 2 + len(STAGES)))

    def add(self, key: Index, rows: Judged) -> None:
        """Counts n rows. key: (n,), −1 where a row is not to be counted."""
        click = rows.label == 1  # copies: Arrow's own buffers, which nobody may write, would be compiled for apart
        _count(key, click, rows.weight + 0.0, np.stack(rows.stages), self._ends, self._sums)

    def cells(self) -> Cells:
        """The cells that have rows."""
        some = np.flatnonzero(self._ends[:, 0] <= self._ends[:, 1])
        ends, sums = self._ends[some], self._sums[some]
        return Cells(some, ends[:, 0], ends[:, 1], sums[:, 0], sums[:, 1], sums[:, 2:])


@njit(cache=True, nogil=True)
def _count(key, click, weight, stages, ends, sums):  # type: ignore[no-untyped-def]
    for i in range(len(key)):
        k = key[i]
        if k < 0:
            continue
        ends[k, 0] = min(ends[k, 0], stages[0, i])
        ends[k, 1] = max(ends[k, 1], stages[0, i])
        sums[k, 0 if click[i] else 1] += weight[i]
        for stage in range(len(stages)):
            sums[k, 2 + stage] += np.rint(weight[i] * stages[stage, i] / _UNIT) * _UNIT


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
    return cut, Refinement(cells.low[cut], cells.high[cut], parts[cut], first)


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
    place = np.searchsorted(cuts.low, p, side="right") - 1
    inside = (place >= 0) & (p <= cuts.high[place])
    low, high, parts = cuts.low[place], cuts.high[place], cuts.parts[place]
    part = np.minimum(np.floor((p - low) / (high - low) * parts), parts - 1)
    return np.where(inside, cuts.first[place] + np.where(inside, part, 0).astype(np.int64), -1)


def refined(cells: Cells, cut: npt.NDArray[np.bool_], fine: Cells) -> Cells:
    """The cells with those cut replaced by their parts, in rising order of p, with new keys."""
    both = [cells.take(~cut), fine]
    whole = Cells(*(np.concatenate([part[i] for part in both]) for i in range(6)))
    ordered = whole.take(np.argsort(whole.low, kind="stable"))
    return ordered._replace(key=np.arange(len(ordered.low)))
