"""The smooth part of the objective over all ranks: margins, loss along a line, gradient, curvature.

Vectors of the size of θ are cut: a rank owns one slice of θ, gradient, direction and history, so that
memory and vector work fall with the number of ranks. Whole vectors exist only for a pass over the rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clickmill.train.logreg import kernels
from clickmill.train.logreg.rows import Rows
from clickmill.train.ring import Ring, gather
from clickmill.train.sampled import require_both_labels

Doubles = NDArray[np.float64]


class Line(NamedTuple):
    """The mean loss at a point of a line, and its first two derivatives along it."""

    loss: float
    slope: float
    second: float


class Totals(NamedTuple):
    """Over all ranks: Σ v, Σ v·y, rows, clicks."""

    weight: float
    weighted_clicks: float
    rows: int
    clicks: int

    @property
    def base_rate(self) -> float:
        return self.weighted_clicks / self.weight


class Problem:
    """Relabelled rows of this rank (cells are positions in θ), weights v, and the ring."""

    def __init__(self, rows: Rows, weight: Doubles, active: int, ring: Ring) -> None:
        self.rows, self.weight, self.ring, self.length = rows, weight, ring, active + 1
        self.low = self.length * ring.rank // ring.size
        self.high = self.length * (ring.rank + 1) // ring.size
        own = np.array([weight.sum(), weight @ rows.label, len(rows), rows.label.sum()])
        total = ring.sum(own)
        self.totals = Totals(float(total[0]), float(total[1]), int(total[2]), int(total[3]))
        self.residual = np.empty(len(rows))
        self.curvature = np.empty(len(rows))
        require_both_labels("logreg", self.totals.rows, self.totals.clicks)

    def zeros(self) -> Doubles:
        """A vector's slice that this rank owns: the intercept is the first number of rank 0's."""
        return np.zeros(self.high - self.low)

    def whole(self, own: Doubles) -> Doubles:
        """The whole vector, and a last 0 that stands for values that have no weight."""
        return np.append(gather(self.ring, own, self.low, self.length), 0.0)

    def penalised(self, own: Doubles) -> Doubles:
        """The slice without the intercept (shares memory)."""
        return own[1:] if self.low == 0 and len(own) else own

    def dots(self, *pairs: tuple[NDArray[np.floating], NDArray[np.floating]]) -> Doubles:
        """Scalar products of sliced vectors, over all ranks."""
        return self.ring.sum(np.array([kernels.dot(a, b) for a, b in pairs]))

    def margins(self, own: Doubles) -> Doubles:
        """(n,) margins of this rank's rows for a θ (or direction) given by slices: one pass over the rows."""
        whole, out, start = self.whole(own), np.empty(len(self.rows)), 0
        for block in self.rows.cells:
            kernels.margins(block, whole, out[start : start + len(block)])
            start += len(block)
        return out

    def line(self, start: Doubles, step: Doubles, t: float) -> Line:
        """Mean loss at margins start + t·step; keeps the residuals for `gradient`. No gather."""
        found = kernels.line(start, step, t, self.rows.label, self.weight, self.residual, self.curvature)
        return Line(*(self.ring.sum(np.array(found)) / self.totals.weight).tolist())

    def gradient(self) -> Doubles:
        """This rank's slice of the mean loss's gradient at the margins of the last `line`: one pass."""
        return self._scattered(self.residual)

    def diagonal(self) -> Doubles:
        """This rank's slice of the Hessian's diagonal there: one pass. Repeats within a row count as single."""
        return self._scattered(self.curvature)

    def _scattered(self, values: Doubles) -> Doubles:
        whole, start = np.zeros(self.length), 0
        for block in self.rows.cells:
            kernels.scatter(block, values[start : start + len(block)], whole)
            start += len(block)
        own: Doubles = self.ring.sum(whole)[self.low : self.high] / self.totals.weight
        return own

    def base_margin(self) -> float:
        """The logit of the weighted click rate."""
        q = self.totals.base_rate
        return math.log(q) - math.log1p(-q)
