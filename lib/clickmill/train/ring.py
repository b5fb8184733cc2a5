"""Sums over ranks. A rank is one of `size` processes that run the same code on different rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.float64, np.int64)

TIMEOUT_SECONDS = 1800
"""How long a rank waits for a slower one; one that is gone is noticed at once, since its sockets close."""


class Ring(Protocol):
    """What the ranks share. Every rank must make the same calls in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: NDArray[Number]) -> NDArray[Number]:
        """The elementwise sum over all ranks of arrays of one shape: the same bits on each rank."""


class BrokenRingError(Exception):
    """Another rank left the ring: its error, not this one, is the cause."""


class SoloRing:
    """One rank, alone."""

    rank = 0
    size = 1

    def sum(self, values: NDArray[Number]) -> NDArray[Number]:
        return values.copy()


class CollectiveRing:
    """The ring of `xgboost.collective`, inside `connected`."""

    def __init__(self) -> None:
        from xgboost import collective

        self._collective = collective
        self.rank: int = collective.get_rank()
        self.size: int = collective.get_world_size()

    def sum(self, values: NDArray[Number]) -> NDArray[Number]:
        from xgboost.core import XGBoostError

        flat = np.ascontiguousarray(values).reshape(-1)
        try:
            summed = self._collective.allreduce(flat, self._collective.Op.SUM)
        except XGBoostError as error:
            raise BrokenRingError(str(error).strip().splitlines()[-1]) from None
        return summed.reshape(values.shape)  # type: ignore[no-any-return]


@contextmanager
def connected(tracker: Mapping[str, str | int], rank: int) -> Iterator[CollectiveRing]:
    """The ring that the tracker with these `worker_args` makes; leaving it breaks it for whoever is still inside."""
    from xgboost import collective
    from xgboost.core import XGBoostError

    try:
        collective.init(**tracker, dmlc_task_id=f"{rank:08d}", dmlc_timeout=TIMEOUT_SECONDS)
    except XGBoostError as error:
        raise BrokenRingError(str(error).strip().splitlines()[-1]) from None
    try:
        yield CollectiveRing()
    finally:
        try:
            collective.finalize()
        except XGBoostError:  # the others are gone: there is nobody to say goodbye to
            pass


def gather(ring: Ring, values: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Every rank's array, by rank; their lengths (each (n_r,)) may differ. Takes Σ n_r numbers on each rank."""
    lengths = np.zeros(ring.size, np.int64)
    lengths[ring.rank] = len(values)
    ends = np.cumsum(ring.sum(lengths))
    own = np.zeros(int(ends[-1]), np.int64)
    own[ends[ring.rank] - len(values) : ends[ring.rank]] = values
    return np.split(ring.sum(own), ends[:-1])
