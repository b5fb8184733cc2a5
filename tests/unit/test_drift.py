"""Distances of two sets of rows: closed forms, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from clickmill import drift
from clickmill.errors import DegenerateLabelsError


def test_index_is_that_of_the_formula_less_chance():
    now, then = np.array([300, 700]), np.array([500, 500])
    p, q = (now + 0.5) / 1001, (then + 0.5) / 1001
    assert drift.stability_index(now, then) == pytest.approx(((p - q) * np.log(p / q)).sum() - 2 / 1000)
    assert drift.stability_index(then, then) == 0


def test_what_chance_adds_to_the_index_is_taken_off():
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(20))
    drawn = [
        drift.stability_index(rng.multinomial(1000, shares), rng.multinomial(3000, shares)) for _ in range(300)
    ]
    assert np.mean(drawn) < 0.006  # (some 0.025 with it)
    assert np.quantile(drawn, 0.99) < 0.03


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


def test_values_outside_the_commonest_share_a_bin():
    then = np.repeat(np.arange(-30, 30, dtype=np.int32), np.arange(60, 0, -1))
    own, other = drift.slot_bins(np.array([-30, -11, -10, 29, 1_000_000], np.int32), then)
    assert len(own) == drift.TOP + 1
    assert other[0] == 60
    assert own[[0, 19, 20]].tolist() == [1, 1, 3]


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
