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
LONE = 30
"""Rows that one number takes for a bin of its own."""
CHANCE = 0.01
"""How often chance alone may give more than what is taken for it: as seldom as a day without drift may alarm,
since of few rows whatever chance gives lies beyond the thresholds."""


class Figure(NamedTuple):
    """A statistic, and its interval where there is one: of 95%, of a ratio of shares of 99%."""

    value: float
    low: float | None = None
    high: float | None = None


def stability_index(now: Counts, then: Counts) -> float:
    """Population stability index of counts by bin, less what 1 in 100 exceeds by chance; at least 0.

    Σ (p − q)·ln(p / q) over bins, p and q the shares now and then, half a row added to each bin. Where nothing has
    changed it is 1/n + 1/m times a χ² with B − 1 degrees of freedom, for B bins that hold rows, n and m rows
    (Yurdakul 2018). now, then: (bins,).
    """
    from scipy.special import chdtri

    n, m = int(now.sum()), int(then.sum())
    held = (now + then) > 0
    p, q = (now[held] + 0.5) / (n + 0.5 * held.sum()), (then[held] + 0.5) / (m + 0.5 * held.sum())
    index = float(((p - q) * np.log(p / q)).sum())
    return max(0.0, index - float(chdtri(max(int(held.sum()) - 1, 1), CHANCE)) * (1 / n + 1 / m))


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
    """Rows by bin, those without a number (NaN) last: (bins,) each.

    Cut by the quantiles of `then` and, where many rows have one number, by those of the others as well: of a
    column that is nearly always 0 all quantiles are 0. A number that is several of them has a bin of its own.
    """
    there = then[~np.isnan(then)]
    edges, common = _cuts(there)
    if len(common):
        edges = np.unique(np.concatenate((edges, _cuts(there[~np.isin(there, common)])[0])))
    found = []
    for values in (now, then):
        place = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))
        found.append(np.bincount(place, minlength=len(edges) + 2))
    return found[0], found[1]


def _cuts(values: Doubles) -> tuple[Doubles, Doubles]:
    """Where they are cut into QUANTILES bins, and the numbers that are several quantiles: cut above as well, where
    enough rows have them to say so."""
    if not len(values):
        return np.empty(0), np.empty(0)
    edges, counts = np.unique(np.quantile(values, np.arange(1, QUANTILES) / QUANTILES), return_counts=True)
    common = edges[counts > 1]
    there = common[[(values == one).sum() >= LONE for one in common]]
    return np.union1d(edges, np.nextafter(there, np.inf)), common


def slot_bins(now: Int32, then: Int32, of: Int32 | None = None) -> tuple[Counts, Counts]:
    """Rows by bin: the TOP commonest hashes `of` some rows, of both unless given, and the rest last; (bins,) each.

    (Those of one alone are commoner there by the choice; those of both are not the ones that have gone or come.)
    """
    values, counts = np.unique(np.concatenate((now, then)) if of is None else of, return_counts=True)
    top = np.sort(values[np.argsort(-counts, kind="stable")[:TOP]])
    return _binned(now, top), _binned(then, top)


def _binned(hashes: Int32, top: Int32) -> Counts:
    place = np.searchsorted(top, hashes)
    known = top[np.minimum(place, len(top) - 1)] == hashes
    return np.bincount(np.where(known, place, len(top)), minlength=len(top) + 1)


def excess(now: tuple[float, float], then: tuple[float, float]) -> float:
    """A share less an earlier one, less what 1 in 100 pairs exceeds by chance; at least 0.

    now, then: rows found, and of how many (> 0); not necessarily whole numbers.
    """
    (own, rows), (other, others) = now, then
    both = (own + other) / (rows + others)
    return max(0.0, own / rows - other / others - 2.33 * math.sqrt(both * (1 - both) * (1 / rows + 1 / others)))


def share(found: float, of: float) -> Figure:
    """A share of independent rows and its 95% interval, exact however few there are (Clopper and Pearson 1934).

    found, of: rows, which need not be whole numbers; 0 ≤ found ≤ of, 0 < of.
    """
    return Figure(found / of, *_binomial_ends(found, of, 0.05))


def share_ratio(now: tuple[float, float], then: tuple[float, float]) -> Figure:
    """A share over an earlier one and its 99% interval, which holds however few rows were found, or none.

    now, then: rows found, and of how many (> 0); not necessarily whole numbers. Small shares are Poisson's: given
    the sum of both, those found now are a binomial share of it (Przyborowski and Wilenski 1940); of large shares
    the interval is wider than it need be. Infinite, without an interval, where none was found then.
    """
    (own, rows), (other, others) = now, then
    if not other:
        return Figure(math.inf)
    low, high = (
        end / (1 - end) * others / rows if end < 1 else math.inf
        for end in _binomial_ends(own, own + other, CHANCE)
    )
    return Figure(own / rows / (other / others), low, high)


def _binomial_ends(found: float, of: float, error: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    low = 0.0 if found <= 0 else float(betaincinv(found, of - found + 1, error / 2))
    high = 1.0 if found >= of else float(betaincinv(found + 1, of - found, 1 - error / 2))
    return low, high


def loss(now: Figure, then: Figure) -> Figure:
    """By how much a figure is above an earlier one, relatively, with the interval that the two intervals come to.

    Days are taken to be independent, so that half widths add up by their squares: that of the day towards its
    lower end and that of the earlier one towards its upper end, and the other way round (Zou and Donner 2008).
    Without an interval where either has none. then: its value is above 0.
    """
    ratio = now.value / then.value
    if now.low is None or now.high is None or then.low is None or then.high is None:
        return Figure(ratio - 1)
    below = math.hypot(now.value - now.low, ratio * (then.high - then.value)) / then.value
    above = math.hypot(now.high - now.value, ratio * (then.value - then.low)) / then.value
    return Figure(ratio - 1, ratio - 1 - below, ratio - 1 + above)


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
