"""All that the judge needs to know of a model's rows, as sums: counted on workers, added up on the driver."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clickmill.evaluate.cells import STAGES, Cells, Judged, cells_of, empty_cells, grid_key, merged
from clickmill.metrics import CLIP, Array, losses

EVERYTHING = "all"
SUMS = ("rows", "clicked", "weight", "clicks", "p", "loss", "square", "clipped", "truth", "unknown")
"""Of a slice and a stage: counts of rows and of clicks; Σv, Σvy, Σvp, Σv·log-loss, Σv(p − y)²; how many p
were clipped; Σv·p_true of rows that have it, and how many have none."""


@dataclass
class Tally:
    """Sums of one model's rows by slice, (stages, len(SUMS)) each, and its cells."""

    sums: dict[str, Array] = field(default_factory=dict)
    cells: Cells = field(default_factory=empty_cells)

    def add(self, rows: Judged, truth: Array, day: np.ndarray) -> None:
        """Counts rows (n,); truth: p_true or NaN; day: datetime64[D]."""
        for slice_name, held in self._slices(day):
            chosen = rows if held is None else rows.take(held)
            found = _sums(chosen, truth if held is None else truth[held])
            self.sums[slice_name] = self.sums[slice_name] + found if slice_name in self.sums else found
        self.cells = merged([self.cells, cells_of(grid_key(rows.stages[0]), rows)])

    @staticmethod
    def _slices(day: np.ndarray) -> list[tuple[str, np.ndarray | None]]:
        return [(EVERYTHING, None), *((f"day={one}", day == one) for one in np.unique(day))]

    def to_bytes(self) -> bytes:
        """The tally as an `.npz` of plain arrays."""
        names = sorted(self.sums)
        arrays: dict[str, Any] = {
            "slices": np.array(names, "U32"),
            "slice_sums": np.array([self.sums[name] for name in names]).reshape(-1, len(STAGES), len(SUMS)),
        }
        out = io.BytesIO()
        np.savez(out, **arrays, **self.cells._asdict())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Tally:
        """The tally that `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            sums = dict(zip(arrays["slices"].tolist(), arrays["slice_sums"], strict=True))
            return cls(sums, Cells(*(arrays[name] for name in Cells._fields)))

    @classmethod
    def merge(cls, parts: Sequence[Tally]) -> Tally:
        """One tally of all parts; its sums are rounded once (math.fsum), so that their order does not matter."""
        names = sorted({name for part in parts for name in part.sums})
        sums = {}
        for name in names:
            stacked = np.array([part.sums[name] for part in parts if name in part.sums])
            flat = [math.fsum(column) for column in stacked.reshape(len(stacked), -1).T.tolist()]
            sums[name] = np.array(flat).reshape(len(STAGES), len(SUMS))
        return cls(sums, merged([part.cells for part in parts]) if parts else empty_cells())


def _sums(rows: Judged, truth: Array) -> Array:
    y, v = rows.label.astype(np.float64), rows.weight
    known = ~np.isnan(truth)
    shared = [len(y), y.sum(), v.sum(), v @ y]
    true = [v[known] @ truth[known], (~known).sum()]
    found = []
    for p in rows.stages:
        clipped = ((p < CLIP) | (p > 1 - CLIP)).sum()
        found.append([*shared, v @ p, v @ losses(y, p), v @ (p - y) ** 2, clipped, *true])
    return np.array(found, np.float64)
