"""Embeddings of hashed values: one table for each width, whose rows a slot finds by its hash's lowest bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clickmill.nets import kernels
from clickmill.nets.hands import Hands
from clickmill.nets.layout import Layout, Table

FIRST_DEVIATION = 0.01
"""Of the numbers that tables begin with."""
FULL = 0xFFFFFFFF


def index_type(rows: int) -> torch.dtype:
    """Of the numbers of so many rows: the shorter the faster."""
    return torch.int32 if rows <= 2**31 else torch.int64


def large(*shape: int) -> Tensor:
    """Zeros, float32, in memory that numpy asks for as huge pages: a table is read at random, and small pages cost
    a look-up of their own each time."""
    return torch.from_numpy(np.zeros(shape, np.float32))


class Embeddings(nn.Module):
    """The tables of a layout. They are no parameters of torch's: only rows that a batch uses have a gradient."""

    def __init__(self, layout: Layout, generator: torch.Generator) -> None:
        super().__init__()
        self.parts, self._two = layout.tables, layout.rows_per_value == 2
        deviation = FIRST_DEVIATION / layout.rows_per_value**0.5
        for part in self.parts:
            first = large(part.rows, part.dim).normal_(0, deviation, generator=generator)
            self.register_buffer(_name(part), first)
        self._numpy = [_Constants(part) for part in self.parts]

    def table(self, part: Table) -> Tensor:
        """(rows, dim)."""
        return self.get_buffer(_name(part))

    def put(self, whole: Tensor, out: Tensor, hands: Hands) -> list[Tensor]:
        """Puts the rows of `whole` (b, i) int32 into the columns of `out` (≥ b, ≥ width).

        Returns where each table was read: (slots, b), or (2·slots, b) where a value has two rows, the second ones
        below the first.
        """
        read = self._put_by_loops if whole.device.type == "cpu" else self._put_by_tensors
        return [read(whole, out, hands, place) for place in range(len(self.parts))]

    def _put_by_loops(self, whole: Tensor, out: Tensor, hands: Hands, place: int) -> Tensor:
        part, own = self.parts[place], self._numpy[place]
        shape = (len(part.slots) * (1 + self._two), len(whole))
        index = torch.empty(shape, dtype=index_type(part.rows))
        arrays = (whole.numpy(), own.slots, own.mask, own.offset, own.column, self.table(part).numpy())
        hands(kernels.look_up, [(*arrays, index.numpy(), out.numpy(), *ends) for ends in hands.ranges(len(whole))])
        return index

    def _put_by_tensors(self, whole: Tensor, out: Tensor, hands: Hands, place: int) -> Tensor:  # noqa: ARG002
        part, table = self.parts[place], self.table(self.parts[place])
        mask, offset = (torch.tensor(values, device=whole.device)[:, None] for values in (part.mask, part.offset))
        h = whole[:, list(part.slots)].T.to(torch.int64)
        index = (h & mask) + offset
        rows = table[index]
        if self._two:
            second = (_remix(h) & mask) + offset
            rows = rows + table[second]
            index = torch.cat([index, second])
        for row, at in zip(rows, part.column, strict=True):
            out[: len(whole), at : at + part.dim] = row
        return index


class _Constants:
    """A table's places as the loops want them."""

    def __init__(self, part: Table) -> None:
        def ints(values: Any) -> NDArray[np.int64]:
            return np.array(values, np.int64)

        self.slots, self.mask, self.offset, self.column = map(
            ints, (part.slots, part.mask, part.offset, part.column)
        )


def _name(part: Table) -> str:
    return f"table_{part.dim}"


def _remix(h: Tensor) -> Tensor:
    """`kernels.remix` of int64 tensors; products wrap at 64 bits, and their lowest 32 are right."""
    x = (h & FULL) ^ 0x9E3779B9
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & FULL
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & FULL
    return x ^ (x >> 16)
