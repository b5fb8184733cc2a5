"""The bootstrap's draws are Poisson's, hang on the unit alone, and add up the same however rows lie."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clickmill import bootstrap
from clickmill.bootstrap import MIN_UNITS, Replicates, block_keys, interval, poisson, unit_keys


def keys(n: int, seed: int = 42) -> np.ndarray:
    return unit_keys([f"u{k}" for k in range(n)], [f"e{k}" for k in range(n)], seed)


def test_counts_are_poisson_of_mean_one() -> None:
    counts = poisson(keys(20_000), 100)
    n = counts.size
    for k in range(7):
        chance = math.exp(-1) / math.factorial(k)
        seen = (counts == k).mean()
        assert abs(seen - chance) < 5 * math.sqrt(chance * (1 - chance) / n), k
    assert abs(counts.mean() - 1) < 5 / math.sqrt(n)
    assert abs(counts.var() - 1) < 0.01
    between = np.corrcoef(counts[:, :40].astype(float).T)
    assert np.abs(between - np.eye(40)).max() < 6 / math.sqrt(20_000), "replicates are independent"


def test_draws_hang_on_the_unit_the_seed_and_the_replicate_alone() -> None:
    assert (poisson(keys(50), 200)[:, :7] == poisson(keys(50), 7)).all()
    assert (poisson(keys(50)[::-1], 20) == poisson(keys(50), 20)[::-1]).all()
    assert (keys(50) != keys(50, seed=43)).all()


def test_a_null_unit_is_its_own_row_and_no_event_id_is_taken_for_a_unit() -> None:
    found = unit_keys(["a", None, "a", None], ["e1", "e2", "e3", "a"], 42)
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3
    assert (
        unit_keys([None, None], ["a", "b"], 42) == bootstrap.hashing.keyed_words("boot-row", 42, ["a", "b"])
    ).all()


def test_time_blocks_are_units() -> None:
    hour = 3_600_000_000
    found = block_keys(np.array([0, hour - 1, hour, 23 * hour, 24 * hour, -1]), 1, 42)
    assert found[0] == found[1]
    assert len(set(found.tolist())) == 5
    days = block_keys(np.array([0, 23 * hour, 24 * hour]), 24, 42)
    assert days[0] == days[1] != days[2]


@pytest.mark.parametrize("replicates", [1, 2, 7, 200])
def test_sums_are_those_of_the_draws(replicates: int) -> None:
    rng = np.random.default_rng(3)
    n = 500
    own, values = keys(n)[rng.integers(0, 80, n)], rng.normal(size=(n, 3)) * (rng.random((n, 3)) < 0.7)
    own[:300].sort()  # neighbours of one unit, as in a log by user
    groups = np.column_stack([np.zeros(n), rng.integers(-1, 3, n) + 1]).astype(np.int32)
    groups[groups[:, 1] == 0, 1] = -1
    found = Replicates.empty(4, 3, replicates)
    found.add(own, groups, values)
    counts = poisson(own, replicates).astype(float)
    for group in range(4):
        held = (groups == group).any(axis=1)
        np.testing.assert_allclose(found.sums[group], values[held].T @ counts[held], rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 7])
def test_parts_add_up_to_the_same(parts: int) -> None:
    rng = np.random.default_rng(4)
    n = 3000
    own, values = keys(n), rng.normal(size=(n, 2))
    groups = np.column_stack([np.zeros(n), 1 + (np.arange(n) % 50 == 0)]).astype(np.int32)
    whole = Replicates.empty(3, 2, 50)
    whole.add(own, groups, values)
    cut = []
    for place in np.array_split(rng.permutation(n), parts):
        part = Replicates.empty(3, 2, 50)
        part.add(own[place], groups[place], values[place])
        cut.append(part)
    merged = Replicates.merge(cut)
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=0, atol=1e-12)
    assert [len(units) for units in merged.units] == [MIN_UNITS] * 3
    assert all((a == b).all() for a, b in zip(merged.units, whole.units, strict=True))


def test_the_interval_of_a_mean_is_that_of_theory_and_clustered_rows_widen_it() -> None:
    rng = np.random.default_rng(5)
    users, each = 400, 25
    n = users * each
    user = np.repeat(np.arange(users), each)
    y = rng.normal(size=users)[user] + 0.5 * rng.normal(size=n)
    statistics = np.column_stack([np.ones(n), y])
    widths = {}
    for name, own in (("row", keys(n)), ("user", keys(users)[user])):
        sums = Replicates.empty(1, 2, 400)
        sums.add(own, np.zeros((n, 1), np.int32), statistics)
        (low, high), reason = interval(sums.sums[0, 1] / sums.sums[0, 0], MIN_UNITS)  # type: ignore[misc]
        assert reason is None
        assert low < y.mean() < high
        widths[name] = high - low
    by_user = 2 * 1.96 * y.reshape(users, each).mean(axis=1).std() / math.sqrt(users)
    assert widths["user"] == pytest.approx(by_user, rel=0.15)
    assert widths["row"] == pytest.approx(2 * 1.96 * y.std() / math.sqrt(n), rel=0.15)
    assert widths["user"] > 3 * widths["row"]


def test_without_enough_units_or_with_undefined_replicates_there_is_no_interval() -> None:
    values = np.linspace(0, 1, 200)
    assert interval(values, MIN_UNITS)[0] == pytest.approx((0.025, 0.975))
    assert interval(values, MIN_UNITS - 1) == (None, "29 units, at least 30 are needed")
    values[:2] = np.nan
    assert interval(values, MIN_UNITS)[0] is not None
    values[:3] = np.nan
    assert interval(values, MIN_UNITS) == (None, "undefined in 3 of 200 replicates")
