"""Numbers as a network eats them: sign(x)·ln(1 + |x|), less its mean, over its deviation. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_DEVIATION = 1e-6
"""Of a number that hardly varies, so that it is not blown up."""


class Standard(NamedTuple):
    """(f,) float32 each: what each squeezed number is lessened by, and then multiplied by."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


def moments(real: NDArray[np.float32]) -> NDArray[np.float64]:
    """(f, 3) of rows (n, f): how many are not missing, Σ and Σ² of their squeezed values. Adds up over rows."""
    there = ~np.isnan(real)
    x = np.where(there, np.sign(real) * np.log1p(np.abs(real, dtype=np.float64)), 0.0)
    return np.stack([there.sum(axis=0), x.sum(axis=0), (x * x).sum(axis=0)], axis=1).astype(np.float64)


def standard_of(sums: NDArray[np.float64] | Sequence[Sequence[float]]) -> Standard:
    """The means and deviations that `moments` (f, 3) come to; a number that is always missing has 0 and 1."""
    count, total, squares = np.asarray(sums, np.float64).reshape(-1, 3).T
    n = np.maximum(count, 1)
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean * mean, 0))
    scale = np.where(deviation < LEAST_DEVIATION, 1.0, 1 / np.maximum(deviation, LEAST_DEVIATION))
    return Standard(mean.astype(np.float32), scale.astype(np.float32))
