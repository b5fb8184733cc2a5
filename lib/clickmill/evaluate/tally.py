"""All that the judge needs to know of a model's rows, as sums: counted on workers, added up on the driver."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clickmill.evaluate.cells import Cells, Judged, cells_of, empty_cells, grid_key, merged
from clickmill.evaluate.slices import Int32
from clickmill.metrics import CLIP, Array
from clickmill.schema import STAGES

SUMS = ("rows", "clicked", "weight", "clicks", "p", "loss", "square", "clipped", "truth", "unknown")
"""Of a group and a stage: counts of rows and of clicks; Σv, Σvy, Σvp, Σv·log-loss, Σv(p − y)²; how many p
were clipped; Σv·p_true of rows that have it, and how many have none."""


@dataclass
class Tally:
    """Sums of one model's rows by group, (groups, stages, len(SUMS)), and its cells."""

    sums: Array
    cells: Cells = field(default_factory=empty_cells)

    @classmethod
    def empty(cls, groups: int) -> Tally:
        """No rows."""
        return cls(np.zeros((groups, len(STAGES), len(SUMS))))

    def add(self, rows: Judged, truth: Array, groups: Int32) -> None:
        """Counts rows (n,); truth: p_true or NaN; groups: (n, ways), the groups that each row lies in."""
        for place, statistics in enumerate(_statistics(rows, truth)):
            for way in groups.T:
                for k, values in enumerate(statistics):
                    self.sums[:, place, k] += np.bincount(way, values, minlength=len(self.sums))
        self.cells = merged([self.cells, cells_of(grid_key(rows.stages[0]), rows)])

    def to_bytes(self) -> bytes:
        """The tally as an `.npz` of plain arrays."""
        out = io.BytesIO()
        np.savez(out, group_sums=self.sums, **self.cells._asdict())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Tally:
        """The tally that `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["group_sums"], Cells(*(arrays[name] for name in Cells._fields)))

    @classmethod
    def merge(cls, parts: Sequence[Tally]) -> Tally:
        """One tally of all parts; its sums are rounded once (math.fsum), so that their order does not matter."""
        stacked = np.array([part.sums for part in parts])
        flat = [math.fsum(column) for column in stacked.reshape(len(parts), -1).T.tolist()]
        return cls(np.array(flat).reshape(stacked.shape[1:]), merged([part.cells for part in parts]))


def _statistics(rows: Judged, truth: Array) -> list[list[Array]]:
    """For each stage the values that SUMS adds up, (n,) each."""
    y, v = rows.label.astype(np.float64), rows.weight
    known = ~np.isnan(truth)
    shared = [np.ones(len(y)), y, v, v * y]
    true = [v * np.where(known, truth, 0.0), (~known).astype(np.float64)]
    return [
        [
            *shared,
            *terms,
            ((p < CLIP) | (p > 1 - CLIP)).astype(np.float64),
            *true,
        ]
        for p, terms in zip(rows.stages, rows.terms, strict=True)
    ]
