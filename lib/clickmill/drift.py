"""How far two sets of rows are from each other, column by column, and as a whole: plain numpy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clickmill.metrics import roc_auc

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]
Int32 = NDArray[np.int32]

TOP = 20
"""A slot's commonest values that are bins of their own."""
QUANTILES = 10
"""Bins of a number, of equal mass in the reference."""


class Figure(NamedTuple):
    """A statistic, and its 95% interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def stability_index(now: Counts, then: Counts) -> float:
    """Population stability index of counts by bin, less what chance adds to it; at least 0.

    Σ (p − q)·ln(p / q) over bins, p and q the shares now and then, half a row added to each bin. Where nothing has
    changed it is (B − 1)(1/n + 1/m) on average, for B bins that hold rows, n and m rows (Yurdakul 2018), and that
    is taken off. now, then: (bins,).
    """
    n, m = int(now.sum()), int(then.sum())
    held = (now + then) > 0
    p, q = (now[held] + 0.5) / (n + 0.5 * held.sum()), (then[held] + 0.5) / (m + 0.5 * held.sum())
    index = float(((p - q) * np.log(p / q)).sum())
    return max(0.0, index - (int(held.sum()) - 1) * (1 / n + 1 / m))


def distance(now: Doubles, then: Doubles) -> float:
    """Kolmogorov and Smirnov's distance of two samples without NaN: the most that their distribution functions
    differ, less what 1 in 100 pairs of samples exceeds by chance (1.63·√(1/n + 1/m)); at least 0."""
    if not len(now) or not len(then):
        return 0.0
    now, then = np.sort(now), np.sort(then)
    at = np.concatenate((now, then))
    own = np.searchsorted(now, at, side="right") / len(now)
    other = np.searchsorted(then, at, side="right") / len(then)
    return max(0.0, float(np.abs(own - other).max()) - 1.63 * math.sqrt(1 / len(now) + 1 / len(then)))


def number_bins(now: Doubles, then: Doubles) -> tuple[Counts, Counts]:
    """Rows by bin, those without a number (NaN) last: (bins,) each, the bins cut by the quantiles of `then`."""
    there = then[~np.isnan(then)]
    inner = np.quantile(there, np.arange(1, QUANTILES) / QUANTILES) if len(there) else np.empty(0)
    edges = np.unique(inner)
    found = []
    for values in (now, then):
        place = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))
        found.append(np.bincount(place, minlength=len(edges) + 2))
    return found[0], found[1]


def slot_bins(now: Int32, then: Int32) -> tuple[Counts, Counts]:
    """Rows by bin: the TOP commonest hashes of `then`, and the rest last; (bins,) each."""
    values, counts = np.unique(then, return_counts=True)
    top = np.sort(values[np.argsort(-counts, kind="stable")[:TOP]])
    return _binned(now, top), _binned(then, top)


def _binned(hashes: Int32, top: Int32) -> Counts:
    place = np.searchsorted(top, hashes)
    known = top[np.minimum(place, len(top) - 1)] == hashes
    return np.bincount(np.where(known, place, len(top)), minlength=len(top) + 1)


def unseen(hashes: Int32, known: Int32) -> float:
    """The share of rows whose hash is not among `known`."""
    return float(np.mean(~np.isin(hashes, known))) if len(hashes) else 0.0


def auc_with_interval(label: NDArray[np.int8], score: Doubles) -> Figure:
    """ROC AUC of independent rows and its 95% interval (DeLong, DeLong and Clarke-Pearson 1988).

    label: (n,) 0 or 1; score: (n,) in [0, 1]. Raises DegenerateLabelsError where all labels agree.
    """
    area = roc_auc(label, score)
    ones, zeros = np.sort(score[label == 1]), np.sort(score[label == 0])
    above = _share_below(zeros, score[label == 1])
    below = 1 - _share_below(ones, score[label == 0])
    variance = above.var(ddof=1) / len(ones) + below.var(ddof=1) / len(zeros)
    half = 1.96 * math.sqrt(float(variance))
    return Figure(area, max(0.0, area - half), min(1.0, area + half))


def _share_below(values: Doubles, at: Doubles) -> Doubles:
    """The share of sorted values below each of `at`, equal ones counting half."""
    left, right = np.searchsorted(values, at, side="left"), np.searchsorted(values, at, side="right")
    return np.asarray((left + right) / (2 * len(values)))
