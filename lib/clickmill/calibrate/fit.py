"""Fits calibrators to a histogram and chooses the simplest that is as good as the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clickmill.calibrate.histogram import Array, LogitHistogram
from clickmill.calibration import METHODS, Calibrator, Method, logit
from clickmill.config import Calibration

Bins = tuple[Array, Array, Array]
"""Rows, clicks and mean logit, (b,) each."""


class Choice(NamedTuple):
    """The calibrator chosen, and the mean out-of-fold log-loss of each method that was tried."""

    calibrator: Calibrator
    log_loss: dict[Method, float]


def choose(histogram: LogitHistogram, conf: Calibration) -> Choice:
    """The simplest method whose out-of-fold log-loss is within one standard error of the best one's.

    The standard error is that of the paired difference, row by row: both methods judge the same rows,
    and what they share says nothing about which is better. A method that cannot be fitted without any
    one of the folds is not a candidate; isotonic needs `min_clicks_isotonic` clicks.
    """
    clicks = int(histogram.clicks.sum())
    wanted = [method for method in METHODS if method in conf.methods or method == "none"]
    if clicks < conf.min_clicks_isotonic and "isotonic" in wanted:
        wanted.remove("isotonic")
    losses: dict[Method, tuple[Array, Array]] = {}
    for method in wanted:
        found = _out_of_fold(histogram, method, conf)
        if found is not None:
            losses[method] = found
    rows, clicked = _by_fold(histogram)
    mean = {
        method: float((clicked @ on_click + (rows - clicked) @ on_other) / rows.sum())
        for method, (on_click, on_other) in losses.items()
    }
    best = min(mean, key=lambda method: mean[method])
    for method in mean:
        if mean[method] - mean[best] <= _standard_error(losses[method], losses[best], rows, clicked):
            calibrator = fit(histogram.bins(), method, conf)
            if calibrator is not None:
                return Choice(calibrator, mean)
    return Choice(Calibrator(), mean)


def fit(bins: Bins, method: Method, conf: Calibration) -> Calibrator | None:
    """The calibrator of least log-loss on the bins; None where they do not carry one."""
    if method == "none":
        return Calibrator()
    return platt(bins) if method == "platt" else isotonic(bins, conf.min_block_clicks)


def platt(bins: Bins) -> Calibrator | None:
    """slope·logit p + shift of least log-loss, by Newton's method with halved steps (Platt 1999).

    None where labels all agree, where there is a single bin, or where the slope would not be positive.
    """
    rows, clicks, z = bins
    if not 0 < clicks.sum() < rows.sum() or len(z) < 2:
        return None
    centre = float(rows @ z / rows.sum())
    columns = np.stack([z - centre, np.ones_like(z)])
    theta = np.array([1.0, centre])
    loss = _loss(rows, clicks, theta @ columns)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(theta @ columns, -500, 500)))
        gradient = columns @ (rows * p - clicks)
        hessian = (columns * (rows * p * (1 - p))) @ columns.T
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        for halving in range(50):
            tried = theta - step * 0.5**halving
            after = _loss(rows, clicks, tried @ columns)
            if after <= loss:
                break
        else:
            break
        done = loss - after <= 1e-14 * loss
        theta, loss = tried, after
        if done:
            break
    slope, shift = float(theta[0]), float(theta[1] - theta[0] * centre)
    return Calibrator("platt", slope=slope, shift=shift) if slope > 0 and np.isfinite(shift) else None


def isotonic(bins: Bins, min_block: int) -> Calibrator | None:
    """Isotonic regression of clicks on logit p; a knot for each block, at its mean logit and click rate.

    Neighbouring blocks are joined until each has `min_block` clicks and as many non-clicks, so that no
    block says 0 or 1. None where there are not so many.
    """
    from sklearn.isotonic import IsotonicRegression

    rows, clicks, z = bins
    if min(clicks.sum(), rows.sum() - clicks.sum()) < min_block:
        return None
    rate = IsotonicRegression().fit_transform(z, clicks / rows, sample_weight=rows)
    starts = np.flatnonzero(np.concatenate(([True], np.diff(rate) > 0)))
    mass, hits, logits = (np.add.reduceat(part, starts) for part in (rows, clicks, rows * z))
    blocks = _joined(hits, mass - hits, min_block)
    mass, hits, logits = (np.add.reduceat(part, blocks) for part in (mass, hits, logits))
    knots, values = logits / mass, logit(hits / mass)
    return Calibrator("isotonic", knots=tuple(knots.tolist()), values=tuple(values.tolist()))


def _joined(clicks: Array, others: Array, least: int) -> list[int]:
    """First blocks of runs of blocks that have enough of both labels; the rest joins the last run."""
    starts, held_clicks, held_others = [0], 0.0, 0.0
    for place, (clicked, other) in enumerate(zip(clicks, others, strict=True)):
        if held_clicks >= least and held_others >= least:
            starts.append(place)
            held_clicks = held_others = 0.0
        held_clicks, held_others = held_clicks + clicked, held_others + other
    if len(starts) > 1 and (held_clicks < least or held_others < least):
        starts.pop()
    return starts


def _out_of_fold(histogram: LogitHistogram, method: Method, conf: Calibration) -> tuple[Array, Array] | None:
    """Loss of a click and of a non-click in every bin of every fold, from fits on the other folds."""
    folds = len(histogram.rows)
    on_click, on_other = [], []
    for fold in range(folds):
        calibrator = fit(histogram.bins([other for other in range(folds) if other != fold]), method, conf)
        if calibrator is None:
            return None
        z = calibrator.on_logits(histogram.bins([fold])[2])
        on_click.append(np.logaddexp(0, -z))
        on_other.append(np.logaddexp(0, z))
    return np.concatenate(on_click), np.concatenate(on_other)


def _by_fold(histogram: LogitHistogram) -> tuple[Array, Array]:
    parts: Sequence[Bins] = [histogram.bins([fold]) for fold in range(len(histogram.rows))]
    return np.concatenate([rows for rows, _, _ in parts]), np.concatenate([clicks for _, clicks, _ in parts])


def _standard_error(one: tuple[Array, Array], other: tuple[Array, Array], rows: Array, clicks: Array) -> float:
    on_click, on_other = one[0] - other[0], one[1] - other[1]
    n = rows.sum()
    mean = (clicks @ on_click + (rows - clicks) @ on_other) / n
    square = (clicks @ on_click**2 + (rows - clicks) @ on_other**2) / n
    return float(np.sqrt(max(square - mean**2, 0.0) / n))


def _loss(rows: Array, clicks: Array, z: Array) -> float:
    return float(clicks @ np.logaddexp(0, -z) + (rows - clicks) @ np.logaddexp(0, z))
