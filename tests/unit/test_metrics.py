"""The judge's figures against scikit-learn, against plain loops, and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

from clickmill import metrics
from clickmill.calibration import expit
from clickmill.errors import DegenerateLabelsError, InputError, InvalidProbabilityError, NoRowsError

Figure = Callable[..., float]
ALL: list[Figure] = [
    metrics.log_loss,
    metrics.normalized_entropy,
    metrics.relative_information_gain,
    metrics.brier_score,
    metrics.calibration_ratio,
    metrics.expected_calibration_error,
    metrics.roc_auc,
    metrics.average_precision,
]


def weighted_rows(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 3, 3000)
    if ties:
        p = np.round(p, 2)
    label = (rng.random(3000) < p).astype(np.int8)
    return label, np.clip(p, 1e-6, 1 - 1e-6), rng.choice([1.0, 20.0, 0.5], 3000)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.log_loss, sk.log_loss),
        (metrics.brier_score, sk.brier_score_loss),
        (metrics.roc_auc, sk.roc_auc_score),
        (metrics.average_precision, sk.average_precision_score),
    ],
)
def test_equals_scikit_learn_on_weighted_rows(ours: Figure, theirs: Figure, seed: int, ties: bool) -> None:
    label, p, weight = weighted_rows(seed, ties=ties)
    assert ours(label, p, weight) == pytest.approx(theirs(label, p, sample_weight=weight), rel=1e-12)
    assert ours(label, p) == pytest.approx(theirs(label, p), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_normalized_entropy_is_log_loss_over_that_of_the_base_rate(seed: int) -> None:
    label, p, weight = weighted_rows(seed, ties=False)
    base = np.full(len(p), np.average(label, weights=weight))
    ratio = sk.log_loss(label, p, sample_weight=weight) / sk.log_loss(label, base, sample_weight=weight)
    assert metrics.normalized_entropy(label, p, weight) == pytest.approx(ratio, rel=1e-12)
    assert metrics.relative_information_gain(label, p, weight) == pytest.approx(1 - ratio, rel=1e-12)
    assert metrics.normalized_entropy(label, base, weight) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_ratio_is_expected_over_observed_clicks(seed: int) -> None:
    label, p, weight = weighted_rows(seed, ties=False)
    ratio = math.fsum(weight * p) / math.fsum(weight * label)
    assert metrics.calibration_ratio(label, p, weight) == pytest.approx(ratio, rel=1e-12)


def plain_ece(label: np.ndarray, p: np.ndarray, weight: np.ndarray, bins: int) -> float:
    """The definition, row by row: a p belongs to the bin that the middle of its rows' mass falls into."""
    total = math.fsum(weight)
    held: dict[int, list[tuple[float, float, float]]] = {}
    below = 0.0
    for value in sorted(set(p.tolist())):
        rows = [(v, y) for v, y, q in zip(weight, label, p, strict=True) if q == value]
        mass = math.fsum(v for v, _ in rows)
        place = min(int((below + mass / 2) / total * bins), bins - 1)
        held.setdefault(place, []).extend((v, y, value) for v, y in rows)
        below += mass
    return math.fsum(abs(math.fsum(v * (q - y) for v, y, q in rows)) for rows in held.values()) / total


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("bins", [1, 7, 20])
def test_ece_equals_a_plain_reference(bins: int, ties: bool) -> None:
    label, p, weight = (column[:400] for column in weighted_rows(11, ties=ties))
    ours = metrics.expected_calibration_error(label, p, weight, bins)
    assert ours == pytest.approx(plain_ece(label, p, weight, bins), rel=1e-12)


def test_equal_mass_bins_of_distinct_p_hold_equally_many_rows() -> None:
    p = np.random.default_rng(3).permutation(np.linspace(0.01, 0.99, 200))
    bins = metrics.equal_mass_bins(metrics.group(metrics.checked(np.zeros(200), p)))
    assert bins.mass.tolist() == [10.0] * 20
    assert np.all(np.diff(bins.p_mean) > 0)


def test_rows_of_equal_p_stay_in_one_bin() -> None:
    label = np.array([1, 0, 0, 0] * 25)
    assert metrics.expected_calibration_error(label, np.full(100, 0.25)) == 0
    assert metrics.expected_calibration_error(label, np.full(100, 0.35)) == pytest.approx(0.1, rel=1e-12)


def test_constant_p_ranks_nothing() -> None:
    label = np.array([1, 0, 0, 0])
    assert metrics.roc_auc(label, np.full(4, 0.3)) == 0.5
    assert metrics.average_precision(label, np.full(4, 0.3)) == 0.25


def test_ties_count_half() -> None:
    assert metrics.roc_auc([1, 0, 0], [0.5, 0.5, 0.1]) == 0.75
    assert metrics.roc_auc([1, 0, 0], [0.5, 0.5, 0.1], [1, 3, 1]) == pytest.approx((0.5 * 3 + 1) / 4)


def test_p_of_exactly_0_and_1_costs_what_the_clip_costs_when_wrong_and_next_to_nothing_when_right() -> None:
    assert metrics.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-math.log(1e-15), rel=1e-2)
    assert metrics.log_loss([1, 1], [0.0, 0.0]) == pytest.approx(15 * math.log(10), rel=1e-12)
    assert metrics.log_loss([0, 1], [0.0, 1.0]) == pytest.approx(1e-15, rel=0.2)
    assert metrics.brier_score([1, 0, 1, 0], [0.0, 1.0, 1.0, 0.0]) == 0.5
    assert metrics.roc_auc([0, 1], [0.0, 1.0]) == 1.0
    assert metrics.calibration_ratio([0, 1], [0.0, 1.0]) == 1.0


def test_weights_count_as_repetitions() -> None:
    label, p = np.array([1, 0, 0, 1]), np.array([0.3, 0.2, 0.6, 0.9])
    times = np.array([2, 1, 3, 4])
    for figure in ALL:
        repeated = figure(np.repeat(label, times), np.repeat(p, times))
        assert figure(label, p, times) == pytest.approx(repeated, rel=1e-12), figure.__name__


@pytest.mark.parametrize("figure", ALL)
def test_bad_rows_are_named(figure: Figure) -> None:
    with pytest.raises(InvalidProbabilityError, match="nan"):
        figure([1, 0], [0.5, math.nan])
    with pytest.raises(InvalidProbabilityError, match=r"1\.5"):
        figure([1, 0], [1.5, 0.5])
    with pytest.raises(InvalidProbabilityError, match=r"-0\.1"):
        figure([1, 0], [-0.1, 0.5])
    with pytest.raises(InputError, match="one length"):
        figure([1, 0], [0.5, 0.5, 0.5])
    with pytest.raises(InputError, match="one length"):
        figure([1, 0], [0.5, 0.5], [1.0])
    with pytest.raises(InputError, match="0 or 1"):
        figure([2, 0], [0.5, 0.5])
    with pytest.raises(InputError, match="not negative"):
        figure([1, 0], [0.5, 0.5], [1.0, -1.0])
    with pytest.raises(NoRowsError, match="no rows"):
        figure([], [])
    with pytest.raises(NoRowsError, match="weights are 0"):
        figure([1, 0], [0.5, 0.5], [0.0, 0.0])


@pytest.mark.parametrize(
    "figure", [metrics.normalized_entropy, metrics.relative_information_gain, metrics.roc_auc]
)
@pytest.mark.parametrize("only", [0, 1])
def test_labels_that_all_agree_are_an_error_by_name_where_the_figure_is_undefined(
    figure: Figure, only: int
) -> None:
    with pytest.raises(DegenerateLabelsError, match=f"all labels are {only}"):
        figure([only, only], [0.2, 0.5])


@pytest.mark.parametrize("figure", [metrics.calibration_ratio, metrics.average_precision])
def test_figures_over_clicks_need_one(figure: Figure) -> None:
    with pytest.raises(DegenerateLabelsError, match="no clicks"):
        figure([0, 0], [0.2, 0.5])
    assert figure([1, 1], [1.0, 1.0]) == 1.0


@pytest.mark.parametrize(("factor", "left"), [(1.0, 0.4), (1.1, 0.4), (1.5, 1.0)])
def test_the_debiased_ece_is_nearer_to_that_of_the_population(factor: float, left: float) -> None:
    """Plain ECE is too high where rows are few, most of all for a model that is right."""
    rng = np.random.default_rng(3)

    def day(rows: int) -> metrics.Groups:
        p = expit(rng.normal(-3, 1, rows))
        label = (rng.random(rows) < p).astype(float)
        return metrics.group(metrics.checked(label, np.minimum(factor * p, 1.0)))

    whole = metrics.ece_of(day(2_000_000))
    days = [day(5_000) for _ in range(200)]
    plain = np.mean([metrics.ece_of(one) for one in days]) - whole
    debiased = np.mean([metrics.ece_debiased_of(one) for one in days]) - whole
    assert plain > 0
    assert abs(debiased) < left * plain


def test_the_debiased_ece_of_bins_without_chance_is_the_plain_one() -> None:
    """No click at all: the rate of each bin is 0 for sure, as far as its own spread says."""
    rows = metrics.checked(np.zeros(1000), np.linspace(0.1, 0.3, 1000))
    assert metrics.ece_debiased_of(metrics.group(rows)) == pytest.approx(metrics.ece_of(metrics.group(rows)))
