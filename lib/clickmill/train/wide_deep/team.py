"""The processes that train a network together, and what they say to each other. No Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Team(Protocol):
    """One rank's end. Every method but the two numbers is called by all ranks alike, or all wait."""

    @property
    def rank(self) -> int:
        """From 0 to `size` - 1."""

    @property
    def size(self) -> int: ...

    @property
    def bytes_sent(self) -> int:
        """What this rank has handed over for others so far."""

    def broadcast(self, tensor: Tensor) -> None:
        """Makes it rank 0's, in place."""

    def sum(self, tensor: Tensor) -> None:
        """Makes it the sum over ranks, in place; the same bits on every rank."""

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows by their index, summed over ranks: (k,) int64 rising without repeats and (k, d) in, (m,) rising and
        (m, d) out, the same bits on every rank. k may differ by rank, and be 0. Never a whole table."""


class Alone:
    """A team of one."""

    rank, size, bytes_sent = 0, 1, 0

    def broadcast(self, tensor: Tensor) -> None:
        """Nothing: it is rank 0's."""

    def sum(self, tensor: Tensor) -> None:
        """Nothing: it is the sum."""

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """As they are."""
        return index, rows
