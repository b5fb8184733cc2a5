"""Numbers as a network eats them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clickmill.nets.standard import moments, standard_of


def test_moments_are_those_of_the_squeezed_values_that_are_there() -> None:
    real = np.array([[math.e - 1], [-(math.e**2 - 1)], [np.nan]], np.float32)
    assert moments(real)[0] == pytest.approx([2, 1 - 2, 1 + 4], rel=1e-6)


def test_moments_add_up_over_rows() -> None:
    real = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_allclose(moments(real[:20]) + moments(real[20:]), moments(real), rtol=1e-12)


def test_standardised_numbers_have_mean_0_and_deviation_1() -> None:
    real = np.random.default_rng(1).lognormal(size=(1000, 2)).astype(np.float32)
    found = standard_of(moments(real))
    x = (np.log1p(real) - found.mean) * found.scale
    assert x.mean(axis=0) == pytest.approx([0, 0], abs=1e-5)
    assert x.std(axis=0) == pytest.approx([1, 1], rel=1e-4)


def test_a_number_that_never_varies_or_is_always_missing_is_not_blown_up() -> None:
    real = np.array([[7.0, np.nan], [7.0, np.nan]], np.float32)
    found = standard_of(moments(real))
    assert found.scale.tolist() == [1, 1]
    assert found.mean == pytest.approx([math.log(8), 0], rel=1e-6)
