"""All that the judge needs to know of a model's rows, as sums: counted on workers, added up on the driver."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from clickmill.evaluate.cells import GRID, Cells, Counter, Judged, grid_key
from clickmill.evaluate.slices import Int32
from clickmill.metrics import Array
from clickmill.schema import STAGES

SUMS = ("rows", "clicked", "weight", "clicks", "p", "loss", "square", "clipped", "truth", "unknown")
"""Of a group and a stage: counts of rows and of clicks; Σv, Σvy, Σvp, Σv·log-loss, Σv(p − y)²; how many p
were clipped; Σv·p_true of rows that have it, and how many have none."""


_SHARED, _OWN = 4, 4
"""The first sums are the same at all stages, as are those after a stage's own."""


class Tallying:
    """Adds up one model's rows, batch by batch."""

    def __init__(self, groups: int) -> None:
        self._sums = np.zeros((groups, _SHARED + 2 + _OWN * len(STAGES)))
        self._cells = Counter(GRID)

    def add(self, rows: Judged, truth: Array, groups: Int32) -> None:
        """Counts rows (n,); truth: p_true or NaN; groups: (n, ways), the groups that each row lies in."""
        y, v = rows.label.astype(np.float64), rows.weight
        unknown = np.isnan(truth)
        true = [v * np.where(unknown, 0.0, truth), unknown.astype(np.float64)]
        own = [term for terms in rows.terms for term in terms]
        shared = [np.ones(len(y)), y, v, v * y, *true]
        found = np.zeros((len(self._sums), len(shared) + len(own)))
        _add(groups, np.stack([*shared, *own]), found)
        places = [len(shared) + _OWN * place + term for place in rows.place for term in range(_OWN)]
        self._sums += found[:, [*range(len(shared)), *places]]
        self._cells.add(grid_key(rows.stages[0]), rows)

    def tally(self) -> Tally:
        """What all rows so far add up to."""
        shared, true = self._sums[:, :_SHARED], self._sums[:, _SHARED : _SHARED + 2]
        own = np.split(self._sums[:, _SHARED + 2 :], len(STAGES), axis=1)
        return Tally(np.stack([np.hstack([shared, one, true]) for one in own], axis=1), self._cells.cells())


@dataclass
class Tally:
    """Sums of one model's rows by group, (groups, stages, len(SUMS)), and its cells."""

    sums: Array
    cells: Cells

    def to_bytes(self) -> bytes:
        """The tally as an `.npz` of plain arrays."""
        out = io.BytesIO()
        np.savez(out, group_sums=self.sums, **self.cells.packed())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Tally:
        """The tally that `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["group_sums"], Cells.unpacked(arrays))

    @classmethod
    def merge(cls, parts: Sequence[Tally]) -> Tally:
        """One tally of all parts; its sums are rounded once (math.fsum), so that their order does not matter."""
        stacked = np.array([part.sums for part in parts])
        flat = [math.fsum(column) for column in stacked.reshape(len(parts), -1).T.tolist()]
        return cls(np.array(flat).reshape(stacked.shape[1:]), Cells.merge([part.cells for part in parts]))


@njit(cache=True, nogil=True)
def _add(groups, values, sums):  # type: ignore[no-untyped-def]
    for i in range(values.shape[1]):
        for way in range(groups.shape[1]):
            if not 0 <= groups[i, way] < len(sums):
                raise IndexError("a row lies in no group")
            row = sums[groups[i, way]]
            for k in range(len(row)):
                row[k] += values[k, i]
