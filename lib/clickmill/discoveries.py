"""Many comparisons at once: which of them are discoveries, at a false discovery rate. No Spark."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

FALSE_DISCOVERIES = 0.05
"""Share of false ones among the slices that are called better or worse (Benjamini and Hochberg 1995)."""


def two_sided(difference: float, error: float) -> float:
    """The chance of so large a difference where there is none, normally distributed; 1 where none was seen."""
    if difference == 0:
        return 1.0
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else 0.0


def adjusted(chances: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's: the least false discovery rate at which each would be called a discovery."""
    order = np.argsort(chances)
    ranked = np.asarray(chances, float)[order] * len(order) / np.arange(1, len(order) + 1)
    found = np.empty(len(order))
    found[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return [float(value) for value in found]
