"""Laws of the prior correction, and of a calibrator as a function."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.calibration import Calibrator, expit, logit, prior_correction
from clickmill.errors import ArtifactError, InvalidProbabilityError, KeepRateError

PROBABILITIES = st.floats(0, 1)
KEEP_RATES = st.floats(1e-6, 1)
ISOTONIC = Calibrator("isotonic", knots=(-5.0, -2.0, 0.5), values=(-4.0, -2.5, 0.0))
CALIBRATORS = [Calibrator(), Calibrator("platt", slope=0.8, shift=-0.3), ISOTONIC]


def test_prior_correction_gives_back_the_rate_that_sampling_distorted() -> None:
    p_true, keep_rate = np.array([0.001, 0.03, 0.5, 0.97]), 0.05
    p_sampled = p_true / (p_true + (1 - p_true) * keep_rate)
    np.testing.assert_allclose(prior_correction(p_sampled, keep_rate), p_true, rtol=1e-14)


def test_prior_correction_adds_ln_w_to_the_logit() -> None:
    p = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(logit(prior_correction(p, 0.05)), logit(p) + math.log(0.05), atol=1e-12)


def test_prior_correction_moves_p_down() -> None:
    assert np.all(prior_correction([0.1, 0.5, 0.9], 0.05) < np.array([0.1, 0.5, 0.9]))


@given(KEEP_RATES)
def test_prior_correction_is_exact_at_the_ends(keep_rate: float) -> None:
    assert prior_correction([0.0, 1.0], keep_rate).tolist() == [0.0, 1.0]


@given(st.lists(PROBABILITIES, max_size=20))
def test_prior_correction_of_all_rows_kept_is_the_identity_to_the_bit(values: list[float]) -> None:
    p = np.array(values)
    assert prior_correction(p, 1.0).tobytes() == p.tobytes()


@given(st.lists(PROBABILITIES, min_size=2, max_size=50), KEEP_RATES)
def test_prior_correction_keeps_the_ranking_and_stays_a_probability(values: list[float], keep_rate: float) -> None:
    corrected = prior_correction(np.sort(values), keep_rate)
    assert np.all(np.diff(corrected) >= 0)
    assert np.all((corrected >= 0) & (corrected <= 1))


@pytest.mark.parametrize("keep_rate", [0.05, 0.3, 0.7])
def test_prior_correction_keeps_the_order_of_neighbouring_floats(keep_rate: float) -> None:
    p = np.random.default_rng(0).random(200_000)
    assert np.all(prior_correction(np.nextafter(p, 1), keep_rate) >= prior_correction(p, keep_rate))


def test_prior_correction_takes_any_shape_and_leaves_its_input_alone() -> None:
    p = np.full((2, 3), 0.5)
    assert prior_correction(p, 0.5).shape == (2, 3)
    assert float(prior_correction(0.5, 0.5)) == pytest.approx(1 / 3)
    prior_correction(p, 1.0)[0, 0] = 0.9
    assert p[0, 0] == 0.5


@pytest.mark.parametrize("keep_rate", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_prior_correction_refuses_keep_rates_outside_0_1(keep_rate: float) -> None:
    with pytest.raises(KeepRateError, match=str(keep_rate).replace(".", r"\.")):
        prior_correction([0.5], keep_rate)


@pytest.mark.parametrize("p", [math.nan, -1e-9, 1.1])
def test_prior_correction_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(InvalidProbabilityError, match="p_sampled"):
        prior_correction([0.5, p], 0.05)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_calibrator_keeps_the_ranking(calibrator: Calibrator) -> None:
    p = np.sort(np.random.default_rng(1).random(1000))
    assert np.all(np.diff(calibrator.apply(p)) > 0)


@pytest.mark.parametrize("calibrator", CALIBRATORS[1:])
def test_a_fitted_calibrator_never_says_0_or_1(calibrator: Calibrator) -> None:
    out = calibrator.apply([0.0, 1e-300, 1 - 1e-16, 1.0])
    assert np.all((out > 0) & (out < 1))


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_calibrator_survives_json(calibrator: Calibrator) -> None:
    assert Calibrator.from_dict(json.loads(json.dumps(calibrator.to_dict()))) == calibrator


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_calibrator_refuses_what_is_no_probability(calibrator: Calibrator) -> None:
    with pytest.raises(InvalidProbabilityError):
        calibrator.apply([0.5, math.nan])


def test_none_is_the_identity_to_the_bit() -> None:
    p = np.random.default_rng(1).random(100)
    assert Calibrator().apply(p).tobytes() == p.tobytes()


def test_platt_is_a_line_on_the_logits() -> None:
    assert Calibrator("platt", slope=0.5, shift=1.0).apply([0.1])[0] == pytest.approx(
        float(expit(0.5 * math.log(1 / 9) + 1))
    )


def test_isotonic_goes_through_its_knots_and_on_in_parallel() -> None:
    out = logit(ISOTONIC.apply(expit(np.array([-7.0, -5.0, -3.5, 0.5, 3.0]))))
    np.testing.assert_allclose(out, [-6.0, -4.0, -3.25, 0.0, 2.5], atol=1e-9)


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"method": "pickle"},
        {"method": "platt", "slope": 1.0},
        {"method": "isotonic", "knots": [0.0, 1.0], "values": [0.0]},
        {"method": "isotonic", "knots": [0.0, 1.0], "values": [1.0, 0.0]},
        {"method": "isotonic", "knots": [], "values": []},
    ],
)
def test_what_is_no_calibrator_is_refused(written: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="calibrator"):
        Calibrator.from_dict(written)
