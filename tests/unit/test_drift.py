"""Distances of two sets of rows: closed forms, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from clickmill import drift
from clickmill.errors import DegenerateLabelsError


def test_index_is_that_of_the_formula_less_chance():
    now, then = np.array([300, 700]), np.array([500, 500])
    p, q = (now + 0.5) / 1001, (then + 0.5) / 1001
    index = ((p - q) * np.log(p / q)).sum()
    assert drift.stability_index(now, then) == pytest.approx(index - 6.6349 * 2 / 1000)  # χ² of 1: 1% is above
    assert drift.stability_index(then, then) == 0


def test_what_chance_adds_to_the_index_is_taken_off():
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(20))
    drawn = [
        drift.stability_index(rng.multinomial(1000, shares), rng.multinomial(3000, shares)) for _ in range(300)
    ]
    assert np.mean(drawn) < 0.001  # (some 0.025 with it)
    assert np.mean(np.array(drawn) > 0) < 0.04


def test_distance_of_shifted_samples_is_that_of_their_distributions():
    rng = np.random.default_rng(1)
    now, then = rng.random(200_000), rng.random(200_000) + 0.3
    assert drift.distance(now, then) == pytest.approx(0.3, abs=0.01)
    beyond = [drift.distance(rng.random(500), rng.random(700)) > 0 for _ in range(500)]
    assert np.mean(beyond) < 0.03
    assert drift.distance(np.empty(0), then) == 0


def test_a_number_that_goes_missing_moves_to_the_last_bin():
    then = np.arange(1000.0)
    now = np.where(np.arange(1000) < 400, np.nan, then)
    own, other = drift.number_bins(now, then)
    assert (own[-1], other[-1]) == (400, 0)
    assert own.sum() == other.sum() == 1000
    assert drift.number_bins(np.full(5, np.nan), np.full(9, np.nan))[0].tolist() == [0, 5]


def test_the_numbers_of_a_column_that_is_nearly_always_0_have_bins_of_their_own():
    rng = np.random.default_rng(1)

    def drawn(n: int) -> np.ndarray:
        return np.where(rng.random(n) < 0.9, 0, rng.lognormal(sigma=1.5, size=n))

    assert drift.stability_index(*drift.number_bins(1000 * drawn(3000), drawn(6000))) > 0.25
    calm = [drift.stability_index(*drift.number_bins(drawn(3000), drawn(6000))) > 0 for _ in range(400)]
    assert np.mean(calm) < 0.03


def test_values_outside_the_commonest_share_a_bin():
    then = np.repeat(np.arange(-30, 30, dtype=np.int32), np.arange(60, 0, -1))
    own, other = drift.slot_bins(np.array([-30, -11, -10, 29, 1_000_000], np.int32), then)
    assert len(own) == drift.TOP + 1
    assert other[0] == 60
    assert own[[0, 19, 20]].tolist() == [1, 1, 3]


def test_an_excess_is_told_from_chance():
    rng = np.random.default_rng(3)
    pairs = rng.binomial((200, 700), 0.4, (2000, 2)).tolist()
    beyond = [drift.excess((now, 200), (then, 700)) > 0 for now, then in pairs]
    assert 0.002 < np.mean(beyond) < 0.02
    assert drift.excess((9000, 10_000), (4000, 10_000)) == pytest.approx(0.5, abs=0.02)
    assert drift.excess((0, 50), (0, 50)) == 0


def test_a_share_has_the_interval_of_clopper_and_pearson():
    np.testing.assert_allclose(drift.share(0, 60), (0, 0, 0.05963), atol=1e-5)  # 1 − 0.025^(1/60)
    np.testing.assert_allclose(
        drift.share(4, 20), (0.2, 0.05733, 0.43661), atol=1e-5
    )  # their tables: 0.057, 0.437
    assert drift.share(7, 7)[2] == 1


@pytest.mark.parametrize(("clicks", "times"), [(2, 7), (15, 7), (15, 1), (300, 5)])
def test_a_ratio_of_rates_is_within_its_interval_however_few_clicks_there_are(clicks, times):
    rng = np.random.default_rng(4)
    drawn = zip(rng.poisson(1.3 * clicks, 4000), rng.poisson(clicks * times, 4000), strict=True)
    found = [drift.share_ratio((own, 500), (other, 500 * times)) for own, other in drawn if other]
    missed = 1 - np.mean([one.low <= 1.3 <= one.high for one in found])
    assert missed < 0.013, "1% at most, and two standard deviations of 4,000 draws"


def test_a_ratio_is_found_where_there_are_clicks_enough():
    rng = np.random.default_rng(5)
    drawn = zip(rng.binomial(12_000, 0.12, 2000), rng.binomial(60_000, 0.1, 2000), strict=True)
    found = [drift.share_ratio((own, 12_000), (other, 60_000)) for own, other in drawn]
    assert np.mean([one.low > 1.05 for one in found]) > 0.95
    assert np.mean([one.value for one in found]) == pytest.approx(1.2, abs=0.005)


def test_a_ratio_to_no_clicks_is_infinite_and_proves_nothing():
    assert drift.share_ratio((5, 100), (0, 100)) == (float("inf"), None, None)
    none = drift.share_ratio((0, 100), (5, 100))
    assert (none.value, none.low) == (0, 0)
    assert none.high > 1


def test_a_loss_allows_for_both_days():
    now, then = drift.Figure(0.96, 0.9, 1.0), drift.Figure(0.8, 0.77, 0.84)
    low = 0.2 - np.hypot(0.06, 1.2 * 0.04) / 0.8
    high = 0.2 + np.hypot(0.04, 1.2 * 0.03) / 0.8
    np.testing.assert_allclose(drift.loss(now, then), (0.2, low, high))
    rng = np.random.default_rng(6)
    truth, own, other = 0.9 / 0.8 - 1, rng.normal(0.9, 0.02, 4000), rng.normal(0.8, 0.02, 4000)
    found = [
        drift.loss(*(drift.Figure(x, x - 0.0392, x + 0.0392) for x in pair))
        for pair in zip(own, other, strict=True)
    ]
    assert 0.94 < np.mean([one.low <= truth <= one.high for one in found]) < 0.96
    assert drift.loss(drift.Figure(0.9), then) == (pytest.approx(0.125), None, None)
    assert drift.loss(now, drift.Figure(0.8))[1:] == (None, None)


def test_area_and_its_interval_cover_the_truth():
    rng = np.random.default_rng(2)
    label = np.repeat(np.array([0, 1], np.int8), (1500, 500))
    truth = 0.76025  # Φ(1/√2) of normals one standard deviation apart
    found = []
    for _ in range(400):
        score = 1 / (1 + np.exp(-(rng.normal(size=2000) + label)))
        found.append(drift.auc_with_interval(label, score))
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.002)
    assert 0.92 < np.mean([one.low <= truth <= one.high for one in found]) < 0.98
    with pytest.raises(DegenerateLabelsError):
        drift.auc_with_interval(np.ones(5, np.int8), np.full(5, 0.5))


def test_another_unit_of_a_number_that_is_always_the_same_where_it_is_not_0_is_seen():
    rng = np.random.default_rng(1)
    there = [rng.random(5000) < 0.1 for _ in range(3)]
    then, now, other = (np.where(one, value, 0.0) for one, value in zip(there, (9.99, 9.99, 999.0), strict=True))
    assert drift.stability_index(*drift.number_bins(now, then)) == 0
    assert drift.stability_index(*drift.number_bins(other, then)) > 1
    few, enough = (np.full(rows, 7.0) for rows in (drift.LONE - 1, drift.LONE))
    assert len(drift.number_bins(few, few)[0]) + 1 == len(drift.number_bins(enough, enough)[0])
