"""Several ranks as threads of one process: a ring that needs no network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Threads:
    """The shared middle of a ring of `size` threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)
        self.slots: list[NDArray[Any]] = [np.empty(0)] * size

    def ring(self, rank: int) -> ThreadRing:
        return ThreadRing(self, rank)


class ThreadRing:
    def __init__(self, threads: Threads, rank: int) -> None:
        self.threads, self.rank, self.size = threads, rank, threads.size

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Added by rank; ranks must agree on shape and type."""
        self.threads.slots[self.rank] = values.copy()
        self.threads.barrier.wait()
        shapes = {(slot.shape, slot.dtype) for slot in self.threads.slots}
        assert len(shapes) == 1, shapes
        total = sum(self.threads.slots[1:], start=self.threads.slots[0].copy())
        self.threads.barrier.wait()
        return np.asarray(total)


def on_ranks(size: int, work: Callable[[ThreadRing], T]) -> Sequence[T]:
    """What `work` returns on each of `size` ranks."""
    threads = Threads(size)

    def one(rank: int) -> T:
        try:
            return work(threads.ring(rank))
        except BaseException:
            threads.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(one, rank) for rank in range(size)]
    errors = [future.exception() for future in futures]
    real = [error for error in errors if error is not None and not isinstance(error, threading.BrokenBarrierError)]
    if real:
        raise real[0]
    return [future.result() for future in futures]
