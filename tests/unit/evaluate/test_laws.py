"""What intervals promise: over many simulated days they cover the value of an independent, very large day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from clickmill import sampling
from clickmill.bootstrap import Draws, unit_keys
from clickmill.calibration import expit
from clickmill.evaluate.cells import GRID, Counter, Judged, grid_key
from clickmill.evaluate.intervals import interval_of
from clickmill.evaluate.resampling import Ranked, Resampled, rank_edges, statistics
from clickmill.metrics import binary_entropy, roc_auc

ROWS, EACH, REPLICATES = 20_000, 20, 200
"""Impressions of a day, those of one user, replicates."""


class Day(NamedTuple):
    truth: np.ndarray
    first: np.ndarray
    second: np.ndarray
    user: np.ndarray


def day(rng: np.random.Generator, rows: int, *, user_effect: float) -> Day:
    """Two models know parts of the logit; none knows its user's share."""
    user = np.arange(rows) // EACH
    known, half, noise = rng.normal(0, 0.8, rows), rng.normal(0, 0.6, rows), rng.normal(0, 0.3, rows)
    logit = -3.2 + known + half
    truth = expit(logit + user_effect * rng.normal(0, 1, user[-1] + 1)[user])
    return Day(truth, expit(logit + noise), expit(-3.05 + known), user)


def population(*, user_effect: float, rows: int) -> dict[str, float]:
    """Figures under p_true on independent rows, in pieces."""
    rng, piece = np.random.default_rng(999), 1_000_000
    sums = np.zeros(5)
    for _ in range(rows // piece):
        one = day(rng, piece, user_effect=user_effect)
        losses = [-(one.truth * np.log(p) + (1 - one.truth) * np.log1p(-p)).sum() for p in (one.first, one.second)]
        sums += [piece, one.truth.sum(), one.first.sum(), *losses]
    entropy = binary_entropy(sums[1] / sums[0])
    first, second = sums[3:] / sums[0] / entropy
    return {"ne": first, "calibration_ratio": sums[2] / sums[1], "difference": first - second}


def covered(days: int, *, user_effect: float, by_user: bool, truth: dict[str, float]) -> dict[str, float]:
    """The share of days whose interval holds the population's value."""
    rng = np.random.default_rng(7)
    hits = dict.fromkeys(truth, 0)
    for _ in range(days):
        one = day(rng, ROWS, user_effect=user_effect)
        label = (rng.random(ROWS) < one.truth).astype(np.int8)
        judged = [Judged(label, np.ones(ROWS), (p, p, p)) for p in (one.first, one.second)]
        event_id = pa.array([f"e{n}" for n in range(ROWS)])
        units = pa.array([f"u{n}" for n in one.user.tolist()]) if by_user else pa.nulls(ROWS, pa.string())
        found = Resampled.empty(2, 2, REPLICATES)
        groups = np.column_stack([np.zeros(ROWS), np.ones(ROWS)]).astype(np.int32)
        found.add(event_id, unit_keys(units, event_id, int(rng.integers(2**31))), groups, judged)
        found.whole(range(1, 2))
        drawn, other = (found.draws(model, 0).figures() for model in (0, 1))
        for name in hits:
            values = drawn["ne"] - other["ne"] if name == "difference" else drawn[name]
            low, high, _ = interval_of(values, found.units(0))
            assert low is not None
            assert high is not None
            hits[name] += low <= truth[name] <= high
    return {name: count / days for name, count in hits.items()}


def test_intervals_cover_and_those_of_users_do_where_rows_hang_together() -> None:
    """The fast form: 60 days, a wider band."""
    alone = covered(60, user_effect=0.0, by_user=False, truth=population(user_effect=0.0, rows=2_000_000))
    assert all(share >= 0.85 for share in alone.values()), alone
    truth = population(user_effect=1.5, rows=2_000_000)
    by_user = covered(60, user_effect=1.5, by_user=True, truth=truth)
    assert all(share >= 0.85 for share in by_user.values()), by_user
    by_row = covered(60, user_effect=1.5, by_user=False, truth=truth)
    assert by_row["calibration_ratio"] < 0.8, by_row


@pytest.mark.slow
def test_over_300_days_coverage_is_91_to_98_per_cent() -> None:
    for effect, by_user in ((0.0, False), (1.5, True)):
        truth = population(user_effect=effect, rows=20_000_000)
        found = covered(300, user_effect=effect, by_user=by_user, truth=truth)
        print(f"user effect {effect}, by user {by_user}: {found}, of {truth}")
        assert all(0.91 <= share <= 0.98 for share in found.values()), found
    wrong = covered(300, user_effect=1.5, by_user=False, truth=truth)
    print(f"user effect 1.5, by impression: {wrong}")
    assert min(wrong.values()) < 0.85


@pytest.mark.slow
def test_the_interval_of_auc_covers_too() -> None:
    rng = np.random.default_rng(5)
    big = day(rng, 1_000_000, user_effect=0.0)
    truth = np.mean([roc_auc((rng.random(1_000_000) < big.truth).astype(np.int8), big.first) for _ in range(5)])
    hits = 0
    for _ in range(200):
        one = day(rng, ROWS, user_effect=0.0)
        label = (rng.random(ROWS) < one.truth).astype(np.int8)
        event_id = pa.array([f"e{n}" for n in range(ROWS)])
        keys = unit_keys(pa.nulls(ROWS, pa.string()), event_id, int(rng.integers(2**31)))
        rows = Judged(label, np.ones(ROWS), (one.first, one.first, one.first))
        counter = Counter(GRID)
        counter.add(grid_key(one.first), rows)
        edges = rank_edges(counter.cells())
        ranked = Ranked.empty(len(edges) + 1, REPLICATES)
        ranked.add(np.searchsorted(edges, one.first), label, rows.weight, keys)
        binned, draws = ranked.aucs()
        low, high, _ = interval_of(draws + roc_auc(label, one.first) - binned, 30)
        assert low is not None
        assert high is not None
        hits += low <= truth <= high
    print(f"AUC: {hits / 200:.3f} of the days")
    assert 0.9 <= hits / 200 <= 0.985


RATES = (0.3, 0.1)
Figures = dict[str, np.ndarray]


def figures_of(draws: list[Draws]) -> Figures:
    """What is compared of two models' sums."""
    first, second = (each.figures() for each in draws)
    return {
        **{name: first[name] for name in ("ne", "calibration_ratio", "brier")},
        "difference": first["ne"] - second["ne"],
    }


def judged_at(
    keep_rate: float, one: Day, label: np.ndarray, event_id: pa.Array, seed: int
) -> tuple[Figures, Figures]:
    """The day's figures, (1,) each, and their replicates, on its keyed sample with weights; at 1 on all rows."""
    kept = sampling.keep(event_id, label, keep_rate, seed)
    weight = sampling.weights(label, keep_rate)[kept]
    judged = [Judged(label[kept], weight, (p[kept],) * 3) for p in (one.first, one.second)]
    groups = np.repeat(np.array([[0, 1]], np.int32), kept.sum(), axis=0)
    own = event_id.filter(pa.array(kept))
    found = Resampled.empty(2, 2, REPLICATES)
    keys = unit_keys(pa.nulls(len(own), pa.string()), own, seed)
    found.add(own, keys, groups, judged)
    found.whole(range(1, 2))
    v, vy, *each = statistics(judged).sum(axis=0)[:, None]
    return (
        figures_of([Draws(v, vy, *each[3 * model : 3 * model + 3]) for model in (0, 1)]),
        figures_of([found.draws(model, 0) for model in (0, 1)]),
    )


def agreeing(days: int, rows: int, truth: dict[str, float]) -> dict[tuple[str, float, str], float]:
    """In which share of the days an interval of the sample's holds what it should, by law, keep rate and figure.

    The sample S is part of the full traffic F, with every click, so that their errors hang together: Cov(S, F) =
    Var(F), and S − F varies by Var(S) − Var(F) alone. `paired`: the interval of S − F, replicate by replicate with
    the same draws of the same units, holds 0, in 95% of the days if weights and draws are right. `own`: S's own
    interval, which is for the whole error of S, holds F: in more than 95%. `truth`: it holds the population's
    value, in 95%.
    """
    rng = np.random.default_rng(11)
    hits: dict[tuple[str, float, str], int] = {}
    for number in range(days):
        one = day(rng, rows, user_effect=0.0)
        label = (rng.random(rows) < one.truth).astype(np.int8)
        event_id = pa.array([f"d{number}-{n}" for n in range(rows)])
        whole, drawn = judged_at(1.0, one, label, event_id, number)
        for rate in RATES:
            _, own = judged_at(rate, one, label, event_id, number)
            for name in whole:
                paired, alone = interval_of(own[name] - drawn[name], 30), interval_of(own[name], 30)
                assert paired.low is not None
                assert alone.low is not None
                held = {"paired": (paired, 0.0), "own": (alone, float(whole[name][0]))}
                held |= {"truth": (alone, truth[name])} if name in truth else {}
                for law, (ends, wanted) in held.items():
                    key = law, rate, name
                    hits[key] = hits.get(key, 0) + (ends.low <= wanted <= ends.high)
    return {key: count / days for key, count in hits.items()}


def test_a_weighted_sample_and_full_traffic_agree_within_intervals() -> None:
    """The fast form: 60 days, a wider band."""
    found = agreeing(60, 10_000, {})
    assert set(found) == {
        (law, rate, name)
        for law in ("paired", "own")
        for rate in RATES
        for name in ("ne", "calibration_ratio", "brier", "difference")
    }
    assert all(share >= (0.85 if law == "paired" else 0.95) for (law, _, _), share in found.items()), found
    paired = [share for (law, _, _), share in found.items() if law == "paired"]
    assert 0.9 <= np.mean(paired) <= 0.985, "intervals that are not paired would hold 0 nearly always"


@pytest.mark.slow
def test_over_300_days_weighted_samples_agree_in_91_to_98_per_cent() -> None:
    found = agreeing(300, ROWS, population(user_effect=0.0, rows=20_000_000))
    for law, rate, name in found:
        print(f"{law}, w = {rate}, {name}: {found[law, rate, name]:.3f}")
    for (law, rate, name), share in found.items():
        assert (0.95 if law == "own" else 0.91) <= share <= (1 if law == "own" else 0.98), (law, rate, name)
