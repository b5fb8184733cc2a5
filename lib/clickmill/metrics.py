"""What a probability of a click is worth: log-loss, normalized entropy, calibration, ranking.

All functions take `label` (n,) of 0 and 1, `p` (n,) probabilities in [0, 1], and `weight` (n,) ≥ 0 (1
unless given), and return a float. Natural logarithms. They raise InvalidProbabilityError (NaN or
outside [0, 1]), InputError (labels, weights or lengths that do not fit), NoRowsError (no rows, or no
weight) and, where the figure is undefined because all labels agree, DegenerateLabelsError.

Ranking figures and ECE depend on the rows only through groups of equal p in rising order; the
functions on `Groups` serve the in-memory figures here and the distributed ones of `evaluate`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clickmill.errors import DegenerateLabelsError, InputError, InvalidProbabilityError, NoRowsError

Array = npt.NDArray[np.float64]

CLIP = 1e-15
"""Log-loss takes p no nearer to 0 and 1 than this."""
ECE_BINS = 20


class Rows(NamedTuple):
    """Checked rows, float64 (n,) each."""

    label: Array
    p: Array
    weight: Array


class Groups(NamedTuple):
    """Rows put together in rising order of p, (g,) each: Σ weight·p, Σ weight of clicks and of non-clicks."""

    sum_p: Array
    clicks: Array
    others: Array

    @property
    def mass(self) -> Array:
        """Σ weight of each group, (g,)."""
        return self.clicks + self.others


class Bins(NamedTuple):
    """Bins of about equal mass in rising order of p, those without rows left out."""

    p_mean: Array
    click_rate: Array
    mass: Array


# --- proper scores ----------------------------------------------------------------------------


def log_loss(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """−Σ v (y ln p + (1−y) ln(1−p)) / Σ v, with p clipped to [1e-15, 1−1e-15]; ≥ 0, lower is better."""
    rows = checked(label, p, weight)
    return float((rows.weight @ losses(rows.label, rows.p)) / rows.weight.sum())


def normalized_entropy(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Log-loss over the entropy of the rows' own click rate: 1 is as good as always saying that rate.

    He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014.
    """
    rows = checked(label, p, weight)
    entropy = binary_entropy(_click_rate(rows))
    return float((rows.weight @ losses(rows.label, rows.p)) / rows.weight.sum() / entropy)


def relative_information_gain(
    label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> float:
    """1 − NE: the share of the labels' entropy that p takes away; at most 1, higher is better."""
    return 1.0 - normalized_entropy(label, p, weight)


def brier_score(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Σ v (p − y)² / Σ v, in [0, 1], lower is better."""
    rows = checked(label, p, weight)
    return float((rows.weight @ (rows.p - rows.label) ** 2) / rows.weight.sum())


# --- calibration ------------------------------------------------------------------------------


def calibration_ratio(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Σ v p / Σ v y: 1 is right, above 1 promises too much. Undefined without clicks."""
    rows = checked(label, p, weight)
    clicks = rows.weight @ rows.label
    if clicks == 0:
        raise DegenerateLabelsError("calibration_ratio: there are no clicks")
    return float((rows.weight @ rows.p) / clicks)


def expected_calibration_error(
    label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None, bins: int = ECE_BINS
) -> float:
    """Σ_b (V_b/V)·|p̄_b − ȳ_b| over bins of equal mass, in [0, 1]; see `equal_mass_bins`."""
    return ece_of(group(checked(label, p, weight)), bins)


# --- ranking ----------------------------------------------------------------------------------


def roc_auc(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Chance that a click stands above a non-click, ties half: 0.5 is no skill. Exact."""
    return auc_of(group(checked(label, p, weight)))


def average_precision(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Σ (R_i − R_{i−1})·P_i over thresholds from high to low, in (0, 1]. Undefined without clicks."""
    return average_precision_of(group(checked(label, p, weight)))


# --- what they are made of --------------------------------------------------------------------


def checked(label: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Rows:
    """The rows as float64, or an error that names what is wrong with them."""
    labels, probabilities = np.asarray(label, np.float64), np.asarray(p, np.float64)
    weights = np.ones(labels.shape) if weight is None else np.asarray(weight, np.float64)
    if labels.ndim != 1 or not labels.shape == probabilities.shape == weights.shape:
        raise InputError(
            f"label, p and weight must be of one length; found shapes {labels.shape}, {probabilities.shape}, "
            f"{weights.shape}"
        )
    check_probabilities(probabilities)
    if not np.isin(labels, (0.0, 1.0)).all():
        raise InputError(f"labels must be 0 or 1; found {_first(labels, ~np.isin(labels, (0.0, 1.0)))}")
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        raise InputError(f"weights must be finite and not negative; found {_first(weights, bad)}")
    if not weights.sum() > 0:
        raise NoRowsError("there are no rows to judge" if not labels.size else "all weights are 0")
    return Rows(labels, probabilities, weights)


def check_probabilities(p: npt.NDArray[np.floating[Any]], what: str = "p") -> None:
    """Raises InvalidProbabilityError where a value is NaN or outside [0, 1]."""
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        raise InvalidProbabilityError(
            f"{what} must be in [0, 1]; found {_first(p, bad)}, in {int(bad.sum())} of {p.size} values"
        )


def losses(label: Array, p: Array) -> Array:
    """−ln of the probability that each row's own label was given, p clipped, (n,)."""
    clipped = np.clip(p, CLIP, 1 - CLIP)
    return np.asarray(-np.where(label == 1, np.log(clipped), np.log1p(-clipped)))


def binary_entropy(q: float) -> float:
    """H(q) = −q ln q − (1−q) ln(1−q), in nats. Raises DegenerateLabelsError at 0 and 1."""
    if not 0 < q < 1:
        raise DegenerateLabelsError(f"normalized entropy is undefined: all labels are {'1' if q > 0 else '0'}")
    return float(-q * np.log(q) - (1 - q) * np.log1p(-q))


def group(rows: Rows) -> Groups:
    """Rows of equal p put together, in rising order of p."""
    order = np.argsort(rows.p, kind="stable")
    label, p, weight = rows.label[order], rows.p[order], rows.weight[order]
    starts = np.flatnonzero(np.concatenate(([True], p[1:] != p[:-1])))
    clicks, mass = np.add.reduceat(weight * label, starts), np.add.reduceat(weight, starts)
    return Groups(p[starts] * mass, clicks, np.add.reduceat(weight * (1 - label), starts))


def auc_of(groups: Groups) -> float:
    """ROC AUC of groups of equal p (within a group a click is above a non-click half of the time)."""
    clicks, others = groups.clicks.sum(), groups.others.sum()
    if clicks == 0 or others == 0:
        raise DegenerateLabelsError(f"AUC is undefined: all labels are {'0' if clicks == 0 else '1'}")
    below = np.cumsum(groups.others) - groups.others
    return float((groups.clicks @ (below + groups.others / 2)) / (clicks * others))


def average_precision_of(groups: Groups) -> float:
    """Average precision of groups of equal p."""
    clicks = groups.clicks[::-1]
    if not clicks.sum() > 0:
        raise DegenerateLabelsError("average precision is undefined: there are no clicks")
    above, mass = np.cumsum(clicks), np.cumsum(groups.mass[::-1])
    some = mass > 0
    return float((clicks[some] @ (above[some] / mass[some])) / clicks.sum())


def equal_mass_bins(groups: Groups, bins: int = ECE_BINS) -> Bins:
    """Groups sorted into `bins` bins of equal mass: a group is in the bin that the middle of its mass is in.

    Rows of equal p are therefore never parted; bins differ in mass where groups are heavy.
    """
    mass = groups.mass
    total = mass.sum()
    middle = np.cumsum(mass) - mass / 2
    place = np.minimum((middle * bins / total).astype(np.int64), bins - 1)
    sum_p, clicks, held = (
        np.bincount(place, column, bins).astype(np.float64) for column in (groups.sum_p, groups.clicks, mass)
    )
    some = held > 0
    return Bins(sum_p[some] / held[some], clicks[some] / held[some], held[some])


def ece_of(groups: Groups, bins: int = ECE_BINS) -> float:
    """Expected calibration error of groups."""
    found = equal_mass_bins(groups, bins)
    return float((found.mass @ np.abs(found.p_mean - found.click_rate)) / found.mass.sum())


def ece_debiased_of(groups: Groups, bins: int = ECE_BINS) -> float:
    """Expected calibration error of groups of unweighted rows, less what chance adds to it; at least 0.

    In a bin of n rows the click rate is off by chance, with spread s = √(q(1 − q)/n). |p̄ − ȳ| is then on
    average the mean of a folded normal distribution (Leone, Nelson and Nottingham 1961), above the true gap by
    s·(√(2/π)·exp(−r²/2) − 2r·Φ(−r)) where that is r·s. One r is taken for all bins: what their gaps, in units
    of s, have in the mean square beyond the 1 that chance gives.
    """
    found = equal_mass_bins(groups, bins)
    seen = np.abs(found.p_mean - found.click_rate)
    rate = (found.click_rate * found.mass + 0.5) / (found.mass + 1)  # so that a bin without clicks has a spread
    spread = np.sqrt(rate * (1 - rate) / found.mass)
    r = math.sqrt(max(0.0, float(np.mean((seen / spread) ** 2)) - 1))
    by_chance = math.sqrt(2 / math.pi) * math.exp(-(r**2) / 2) - r * math.erfc(r / math.sqrt(2))
    return float(max(0.0, found.mass @ (seen - by_chance * spread) / found.mass.sum()))


def _click_rate(rows: Rows) -> float:
    return float((rows.weight @ rows.label) / rows.weight.sum())


def _first(values: npt.NDArray[np.floating[Any]], bad: npt.NDArray[np.bool_]) -> float:
    return float(values[bad][0])
