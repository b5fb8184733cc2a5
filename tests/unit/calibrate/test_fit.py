"""Which calibrator is chosen on simulated days whose truth is known, and that fits are what they claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from clickmill.calibrate.fit import choose, fit, isotonic, platt
from clickmill.calibrate.histogram import BINS, LogitHistogram
from clickmill.calibration import Calibrator, expit, logit
from clickmill.config import Calibration

CONF = Calibration()
FOLDS = CONF.folds


def day(seed: int, n: int, truth: Calibrator) -> tuple[np.ndarray, np.ndarray]:
    """Labels and what the model said, where `truth` of that is the chance of a click."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-3.5, 1.2, n))
    return (rng.random(n) < truth.apply(p)).astype(np.int8), p


def histogram(label: np.ndarray, p: np.ndarray, seed: int = 0) -> LogitHistogram:
    counted = LogitHistogram.empty(FOLDS)
    counted.add(np.random.default_rng(seed).integers(0, FOLDS, len(p)), label, logit(p))
    return counted


def mean_loss(label: np.ndarray, p: np.ndarray) -> float:
    return float(-np.mean(np.where(label == 1, np.log(p), np.log1p(-p))))


def test_none_is_chosen_where_nothing_is_wrong_in_90_of_100_days() -> None:
    chosen = [choose(histogram(*day(seed, 40_000, Calibrator())), CONF).calibrator.method for seed in range(100)]
    assert chosen.count("none") >= 90, {method: chosen.count(method) for method in chosen}


@pytest.mark.parametrize("seed", range(5))
def test_a_distorted_model_is_recalibrated_and_gets_better_on_another_day(seed: int) -> None:
    truth = Calibrator("platt", slope=0.7, shift=-0.6)
    choice = choose(histogram(*day(seed, 40_000, truth)), CONF)
    assert choice.calibrator.method in ("platt", "isotonic")
    label, p = day(1000 + seed, 200_000, truth)
    after, best = mean_loss(label, choice.calibrator.apply(p)), mean_loss(label, truth.apply(p))
    assert after - best < 0.05 * (mean_loss(label, p) - best)


def test_isotonic_wins_where_the_truth_is_no_line() -> None:
    truth = Calibrator("isotonic", knots=(-6.0, -4.0, -3.9, -1.0), values=(-5.9, -5.8, -2.6, -2.5))
    choice = choose(histogram(*day(3, 200_000, truth)), CONF)
    assert choice.calibrator.method == "isotonic"
    label, p = day(4, 200_000, truth)
    assert np.sum(choice.calibrator.apply(p)) / label.sum() == pytest.approx(1, abs=0.03)


def test_isotonic_is_not_tried_with_few_clicks() -> None:
    label, p = day(3, 15_000, Calibrator())
    assert 500 < label.sum() < 1000
    assert set(choose(histogram(label, p), CONF).log_loss) == {"none", "platt"}
    assert set(choose(histogram(label, p), CONF.model_copy(update={"min_clicks_isotonic": 500})).log_loss) == {
        "none",
        "platt",
        "isotonic",
    }


def test_only_the_methods_of_the_config_are_tried() -> None:
    counted = histogram(*day(3, 40_000, Calibrator("platt", slope=0.7, shift=-0.6)))
    assert set(choose(counted, CONF.model_copy(update={"methods": ("none",)})).log_loss) == {"none"}


def test_platt_on_bins_is_platt_on_rows() -> None:
    label, p = day(5, 20_000, Calibrator("platt", slope=0.7, shift=-0.6))
    z = logit(p)

    def objective(theta: np.ndarray) -> float:
        margin = theta[0] * z + theta[1]
        return float(np.mean(np.where(label == 1, np.logaddexp(0, -margin), np.logaddexp(0, margin))))

    exact = minimize(objective, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    found = platt(histogram(label, p).bins())
    assert found is not None
    assert (found.slope, found.shift) == pytest.approx(tuple(exact), abs=1e-4)
    assert objective(np.array([found.slope, found.shift])) - objective(exact) < 1e-9


def test_blocks_of_isotonic_hold_twenty_clicks_and_rise() -> None:
    label, p = day(6, 40_000, Calibrator())
    found = isotonic(histogram(label, p).bins(), 20)
    assert found is not None
    assert len(found.knots) > 5
    assert np.all(np.diff(found.knots) > 0)
    assert np.all(np.diff(found.values) > 0)
    edges = np.searchsorted(np.sort(logit(p[label == 1])), found.knots)
    assert np.all(np.diff(edges) >= 10)  # a knot is the middle of 20 clicks or more


def test_labels_that_all_agree_leave_p_as_it_is() -> None:
    for only in (0, 1):
        p = expit(np.random.default_rng(1).normal(-3, 1, 5000))
        choice = choose(histogram(np.full(5000, only, np.int8), p), CONF)
        assert choice.calibrator == Calibrator()
        assert set(choice.log_loss) == {"none"}


def test_a_model_that_ranks_the_wrong_way_round_is_not_turned() -> None:
    label, p = day(7, 20_000, Calibrator())
    turned = fit(histogram(label, expit(-logit(p) - 7)).bins(), "platt", CONF)
    assert turned is None


def test_a_constant_p_leaves_platt_out() -> None:
    label, _ = day(7, 20_000, Calibrator())
    assert platt(histogram(label, np.full(20_000, 0.05)).bins()) is None


def test_a_histogram_is_the_same_however_its_rows_come() -> None:
    label, p = day(8, 10_000, Calibrator())
    fold = np.random.default_rng(2).integers(0, FOLDS, 10_000)
    whole, parts = LogitHistogram.empty(FOLDS), LogitHistogram.empty(FOLDS)
    whole.add(fold, label, logit(p))
    for rows in np.array_split(np.random.default_rng(3).permutation(10_000), 7):
        parts.add(fold[rows], label[rows], logit(p[rows]))
    for name in ("rows", "clicks", "logits"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_p_of_exactly_0_and_1_is_counted_at_the_ends() -> None:
    counted = LogitHistogram.empty(1)
    counted.add(np.zeros(2, np.int64), np.array([0, 1], np.int8), logit([0.0, 1.0]))
    assert counted.rows[0, [0, BINS - 1]].tolist() == [1, 1]
    np.testing.assert_allclose(counted.bins()[2], logit([0.0, 1.0]), atol=1e-7)
