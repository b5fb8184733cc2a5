"""Laws of the keyed sample: DESIGN section 5."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill import sampling
from clickmill.errors import KeepRateError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "hashing.json"
N = 40_000
IDS = [f"event-{n}" for n in range(N)]
LABEL = (np.arange(N) % 33 == 0).astype(np.int8)
RATE = st.floats(1e-4, 1.0)


def test_the_sample_equals_the_golden_file():
    for row in json.loads(GOLDEN.read_text(encoding="utf-8"))["samples"]:
        (kept,) = sampling.keep([row["event_id"]], [row["label"]], row["keep_rate"], row["seed"])
        assert kept == row["kept"], row


@given(rate=RATE, seed=st.integers(0, 2**32 - 1))
def test_every_click_is_kept(rate, seed):
    assert sampling.keep(IDS[:500], LABEL[:500], rate, seed)[LABEL[:500] == 1].all()


@given(rates=st.lists(RATE, min_size=2, max_size=2), seed=st.integers(0, 100))
def test_what_a_smaller_rate_keeps_a_larger_one_keeps(rates, seed):
    small, large = (sampling.keep(IDS[:2000], LABEL[:2000], rate, seed) for rate in sorted(rates))
    assert not (small & ~large).any()


@given(order=st.permutations(range(60)), rate=RATE)
def test_a_row_is_kept_or_not_whatever_stands_around_it(order, rate):
    ids, label = np.array(IDS[:60]), LABEL[:60]
    shuffled = sampling.keep(ids[list(order)].tolist(), label[list(order)], rate, 42)
    assert (shuffled == sampling.keep(ids.tolist(), label, rate, 42)[list(order)]).all()


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("seed", [0, 42])
def test_the_kept_share_lies_in_its_binomial_interval(rate, seed):
    from scipy.stats import binom

    others = LABEL == 0
    kept = sampling.keep(IDS, LABEL, rate, seed)[others].sum()
    low, high = binom.interval(0.999, others.sum(), rate)
    assert low <= kept <= high


def test_rate_one_is_the_identity():
    assert sampling.keep(IDS, LABEL, 1.0, 42).all()
    assert (sampling.weights(LABEL, 1.0) == 1.0).all()


def test_seeds_draw_different_samples():
    one, other = (sampling.keep(IDS, LABEL, 0.5, seed)[LABEL == 0] for seed in (1, 2))
    assert abs((one == other).mean() - 0.5) < 0.02


def test_weights_undo_the_sampling_of_non_clicks_only():
    assert sampling.weights([1, 0, 1, 0], 0.05).tolist() == [1.0, 20.0, 1.0, 20.0]
    kept = sampling.keep(IDS, LABEL, 0.05, 42)
    estimate, deviation = sampling.weights(LABEL[kept], 0.05).sum(), np.sqrt(N * 0.95 / 0.05)
    assert abs(estimate - N) < 4 * deviation


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(KeepRateError, match=r"\(0, 1\]"):
        sampling.keep(["a"], [0], rate, 42)
    with pytest.raises(KeepRateError):
        sampling.weights([0], rate)
    with pytest.raises(KeepRateError):
        sampling.single_keep_rate([rate])


def test_rates_never_mix():
    assert sampling.single_keep_rate([0.05, 0.05]) == 0.05
    with pytest.raises(KeepRateError, match=r"0\.05.*0\.3") as refused:
        sampling.single_keep_rate([0.05, 0.3])
    assert refused.value.exit_code == 3
    with pytest.raises(KeepRateError):
        sampling.single_keep_rate([])
