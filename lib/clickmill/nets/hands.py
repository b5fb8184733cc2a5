"""Threads of a process's own for loops over rows: each part of the work is always the same, whoever does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

Found = TypeVar("Found")


class Hands:
    """`number` threads, the caller's among them. What they do must leave Python's lock alone to run at once.

    (Not numba's own threads: they are one set for the whole process, which two threads must not ask at a time.)
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number - 1) if number > 1 else None

    def __call__(self, work: Callable[..., Found], parts: Sequence[tuple[Any, ...]]) -> list[Found]:
        """What `work` makes of each part, in order."""
        if self._pool is None or len(parts) < 2:
            return [work(*part) for part in parts]
        others = [self._pool.submit(work, *part) for part in parts[1:]]
        try:
            own = work(*parts[0])
        finally:
            found = [other.result() for other in others]
        return [own, *found]

    def slices(self, length: int, size: int) -> list[list[slice]]:
        """[0, length) in slices of `size`, the last shorter, for each thread those that are its to do: the same
        slices however many threads there are."""
        every = [slice(at, min(at + size, length)) for at in range(0, length, size)]
        return [every[a:b] for a, b in self.ranges(len(every))]

    def ranges(self, length: int) -> list[tuple[int, int]]:
        """[0, length) in as many pieces as there are threads, those without anything left out."""
        ends = [length * n // self.number for n in range(self.number + 1)]
        return [(a, b) for a, b in pairwise(ends) if a < b]
