"""The truth behind the simulated log: keyed effects, drift that stays near zero, the intercept."""

from __future__ import annotations

import numpy as np
import pytest

from clickmill.config_files import load
from clickmill.simulate import truth


def test_an_effect_hangs_on_nothing_but_seed_slot_and_value() -> None:
    values = np.arange(1000)
    whole = truth.effects(7, 3, values)
    assert np.array_equal(truth.effects(7, 3, values[500:600]), whole[500:600])
    assert not np.isclose(truth.effects(8, 3, values), whole).any()
    assert not np.isclose(truth.effects(7, 4, values), whole).any()


def test_effects_are_centred_with_variance_one() -> None:
    normals = truth.effects(7, 25, np.arange(1_000_000))
    assert normals.mean() == pytest.approx(0, abs=0.004)  # four standard errors
    assert normals.std() == pytest.approx(1, abs=0.004)


def test_effects_of_slots_are_uncorrelated() -> None:
    values = np.arange(100_000)
    first, second, pair = (truth.effects(7, slot, values) for slot in (0, 1, 2000))
    assert abs(np.corrcoef([first, second, pair])[np.triu_indices(3, 1)]).max() < 0.015


def test_a_cross_is_more_than_its_parts() -> None:
    """Pairs' effects are no sums of a row's and a column's part: double differences keep their variance."""
    left, right = np.repeat(np.arange(50), 50), np.tile(np.arange(50), 50)
    grid = truth.effects(7, 2000, truth.cross_values(left, right)).reshape(50, 50)
    rest = grid - grid.mean(0) - grid.mean(1)[:, None] + grid.mean()
    assert rest.var() > 0.9 * grid.var()
    assert not np.isclose(grid[3, 5], grid[5, 3])


def test_affinities_are_of_low_rank_and_of_variance_one() -> None:
    left, right = truth.AFFINE[0]
    slots = np.zeros((len(truth.SLOTS), 90_000), np.int64)
    slots[left], slots[right] = np.divmod(np.arange(90_000), 300)
    grid = truth.affinities(7, slots).reshape(300, 300)
    both_ways_centred = grid - grid.mean(axis=0) - grid.mean(axis=1)[:, None] + grid.mean()
    found = np.linalg.svd(both_ways_centred, compute_uv=False)
    assert found[truth.TRAITS - 1] > 10
    assert found[truth.TRAITS] < 1e-9
    rng = np.random.default_rng(1)
    slots = rng.integers(0, 100_000, (len(truth.SLOTS), 200_000))
    assert truth.affinities(7, slots).var() == pytest.approx(1, rel=0.03)


def test_affinity_moves_the_logit_by_so_much_and_none_by_nothing() -> None:
    rng = np.random.default_rng(1)
    columns = {
        "slots": rng.integers(0, 3, (len(truth.SLOTS), 500)),
        "numbers": rng.normal(size=(len(truth.NUMBERS), 500)),
        "user": rng.integers(0, 9, 500),
        "hour": rng.random(500) * 24,
    }
    plain = truth.logits(columns, seed=7)
    np.testing.assert_array_equal(truth.logits(columns, seed=7, affinity=0.0), plain)
    more = truth.logits(columns, seed=7, affinity=0.5) - plain
    np.testing.assert_allclose(more, 0.5 * truth.affinities(7, columns["slots"]), atol=1e-12)


def test_without_drift_every_day_is_alike() -> None:
    for day in (-4000, 0, 4000):
        assert all((effect == 0).all() for effect in truth.walk(7, day, step=0.0).values())


@pytest.mark.parametrize("start", [-4000, 0, 4000])
def test_drift_moves_by_its_step_a_day_and_stays_near_zero(start: int) -> None:
    stands = [truth.walk(7, day, step=0.1) for day in range(start, start + 200)]
    assert set(stands[0]) == {-1, *truth.DRIFTING}
    for place in truth.DRIFTING:
        path = np.array([standing[place] for standing in stands])
        assert path.shape == (200, truth.CARDINALITIES[place])
        assert np.diff(path, axis=0).std() == pytest.approx(0.1, rel=0.06)
        assert path.std() == pytest.approx(0.1 / np.sqrt(1 - 0.95**2), rel=0.35)
        assert abs(path).max() < 0.1 * 3.2 * 5


def test_values_of_a_slot_drift_apart() -> None:
    place = truth.DRIFTING[-1]
    change = truth.walk(7, 11, step=0.1)[place] - truth.walk(7, 1, step=0.1)[place]
    assert change.std() > 0.1


@pytest.mark.parametrize("ctr", [0.0001, 0.001, 0.03, 0.2, 0.49])
def test_the_intercept_gives_the_mean_asked_for(ctr: float) -> None:
    logit = 1.2 * truth.effects(7, 1, np.arange(10_000))
    intercept = truth.solve_intercept(logit, ctr)
    assert truth.sigmoid(logit + intercept).mean() == pytest.approx(ctr, rel=1e-8)


def test_equal_logits_need_the_logit_of_the_rate() -> None:
    assert truth.solve_intercept(np.zeros(3), 0.2) == pytest.approx(np.log(0.2 / 0.8), abs=1e-8)


def test_the_data_set_crosses_what_is_planted_and_two_that_are_not() -> None:
    dataset = load(["datasets/simulated.yaml"]).dataset
    planted = [(truth.SLOTS[left], truth.SLOTS[right]) for left, right in truth.CROSSES]
    assert list(dataset.crosses[: len(planted)]) == planted
    assert len(dataset.crosses) == len(planted) + 2
    assert (dataset.slots, dataset.numbers) == (truth.SLOTS, truth.NUMBERS)
    assert (min(truth.CARDINALITIES), max(truth.CARDINALITIES)) == (3, 1_000_000)


def test_digits_are_eight_hex_digits_keyed_by_slot_and_value() -> None:
    texts = truth.value_digits(np.uint64(7), 3, np.arange(1000)).tobytes().decode()
    words = [texts[8 * i : 8 * i + 8] for i in range(1000)]
    assert len(set(words)) == 1000
    assert set(texts) == set("0123456789abcdef")
    other = truth.value_digits(np.uint64(7), 4, np.arange(1000)).tobytes().decode()
    assert words[0] != other[:8]
