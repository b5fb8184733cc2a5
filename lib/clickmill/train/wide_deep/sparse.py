"""Gradients summed by the rows of a table that a batch uses: no table is ever walked through.

On a CPU by loops over shared memory, each thread its own slots' rows or its own part of the table; elsewhere by
torch. Either way sums are taken in one order, so that a step has the same bits whenever it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clickmill.nets.hands import Hands
from clickmill.nets.layout import Table
from clickmill.train.wide_deep import kernels

Summed = tuple[Tensor, Tensor]
"""(k,) int64 rising without repeats, and (k, d)."""


class TableSums:
    """Sums for a table of embeddings."""

    def __init__(self, part: Table, hands: Hands, device: torch.device) -> None:
        self._part, self._hands = part, hands
        self._loops = _Loops(part.rows, part.dim, hands) if device.type == "cpu" else None
        self._column = np.array(part.column, np.int64)
        self._shares = _shares(part, hands.number)

    def __call__(self, index: Tensor, gradient: Tensor) -> Summed:
        """index: (slots, b) or (2·slots, b), as `Embeddings.put` returns it; gradient: (b, width) of the input.

        The rows returned are overwritten by the next call.
        """
        slots = len(self._part.slots)
        repeats = len(index) // slots
        if self._loops is None:
            columns = [gradient[:, at : at + self._part.dim] for at in self._part.column]
            return summed(index.reshape(-1), torch.cat(columns * repeats))
        places = [np.concatenate([share + n * slots for n in range(repeats)]) for share in self._shares]
        whole = (0, self._part.rows)
        by = (np.tile(self._column, repeats), gradient.numpy())
        return self._loops(kernels.sum_rows, index.numpy(), [(place, *whole) for place in places], by)


class WideSums:
    """Sums for the weights of the wide part: all values of a row have the row's gradient."""

    def __init__(self, size: int, hands: Hands, device: torch.device) -> None:
        self._ends = hands.ranges(size)
        self._loops = _Loops(size, 1, hands) if device.type == "cpu" else None

    def __call__(self, index: Tensor, gradient: Tensor) -> Summed:
        """index: (m, b) as `Wide` returns it; gradient: (b,) of the margins; the rows' width is 1.

        The rows returned are overwritten by the next call.
        """
        if self._loops is None:
            return summed(index.reshape(-1), gradient[:, None].repeat(len(index), 1))
        every = np.arange(len(index))
        return self._loops(
            kernels.sum_same, index.numpy(), [(every, *ends) for ends in self._ends], (gradient.numpy(),)
        )


Share = tuple[NDArray[np.int64], int, int]
"""What a thread sums: these rows of an index, as far as their values lie in [low, high)."""


class _Loops:
    """The threads' marks and memory for one table. Their shares must have no row of the table in common."""

    def __init__(self, rows: int, dim: int, hands: Hands) -> None:
        self._hands, self._dim = hands, dim
        self._marks = np.full(rows, -1, np.int32)
        self._used: list[NDArray[Any]] = []
        self._out = np.empty((0, dim), np.float32)

    def __call__(self, add: Any, index: NDArray[Any], shares: list[Share], by: tuple[NDArray[Any], ...]) -> Summed:
        """The shares' sums, one after the other; add: the kernel; by: what it is handed of gradients."""
        sizes = [min(len(places) * index.shape[1], len(self._marks)) for places, _, _ in shares]
        if [len(own) for own in self._used] < sizes or len(self._used) != len(sizes):
            self._used = [np.empty(size, index.dtype) for size in sizes]
        rows = self._hands(
            self._rows, [(index, share, own) for share, own in zip(shares, self._used, strict=True)]
        )
        ends = np.cumsum([0, *map(len, rows)])
        if len(self._out) < ends[-1]:
            self._out = np.empty((ends[-1] * 5 // 4, self._dim), np.float32)
        outs = [self._out[a:b] for a, b in pairwise(ends)]
        parts = [
            (index, *share, *by, own, self._marks, out) for share, own, out in zip(shares, rows, outs, strict=True)
        ]
        self._hands(add, parts)
        return torch.from_numpy(np.concatenate(rows, dtype=np.int64)), torch.from_numpy(self._out[: ends[-1]])

    def _rows(self, index: NDArray[Any], share: Share, memory: NDArray[Any]) -> NDArray[Any]:
        rows = memory[: kernels.used(index, *share, self._marks, memory)]
        rows.sort()
        return rows


def summed(index: Tensor, rows: Tensor) -> Summed:
    """The sum of the rows (n, d) of each index (n,), by torch: where there is no CPU, and as a reference."""
    found, place = torch.unique(index, return_inverse=True)
    out = torch.zeros((len(found), rows.shape[1]), dtype=rows.dtype, device=rows.device)
    # (accumulating by index_put_ has one order on a GPU too; index_add_ does not)
    return found.to(torch.int64), out.index_put_((place,), rows, accumulate=True)


def merged(parts: Sequence[Summed]) -> Summed:
    """Several such sums added up, in their order: the same bits wherever it is done."""
    if parts[0][0].device.type == "cpu":
        return reduce(_merged, parts)
    found = torch.unique(torch.cat([index for index, _ in parts]))
    out = torch.zeros((len(found), parts[0][1].shape[1]), dtype=parts[0][1].dtype, device=found.device)
    for index, rows in parts:
        out.index_add_(0, torch.searchsorted(found, index), rows)  # (no index twice)
    return found, out


def _merged(one: Summed, other: Summed) -> Summed:
    (index, rows), (further, added) = one, other
    most = len(index) + len(further)
    found, out = torch.empty(most, dtype=index.dtype), torch.empty((most, rows.shape[1]))
    arrays = (index, rows, further, added, found, out)
    k = kernels.merge(*(one.numpy() for one in arrays))
    return found[:k], out[:k]


def _shares(part: Table, number: int) -> list[NDArray[np.int64]]:
    """The table's slots by thread: those of a group together, so that no two threads share a row, and in the order
    of their rows."""
    groups = list(dict.fromkeys(part.group))
    members = [[place for place, own in enumerate(part.group) if own == group] for group in groups]
    dealt: list[list[int]] = [[] for _ in range(number)]
    before = 0
    for places in members:
        dealt[before * number // len(part.slots)] += places
        before += len(places)
    return [np.array(places, np.int64) for places in dealt if places]
