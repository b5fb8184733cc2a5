"""Ranking figures from cells against the exact ones, on scores that a fixed grid gets wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clickmill import metrics
from clickmill.calibration import expit
from clickmill.evaluate.cells import (
    GRID,
    Cells,
    Counter,
    Judged,
    fine_key,
    grid_key,
    refined,
    refinement,
)


def rows(label: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> Judged:
    """Rows whose stages are p, its half, and its square: rising all."""
    return Judged(label, np.ones(len(p)) if weight is None else weight, (p, p / 2, p**2))


def cells_of(key: np.ndarray, judged: Judged, keys: int = GRID) -> Cells:
    counter = Counter(keys)
    counter.add(key, judged)
    return counter.cells()


def counted(judged: Judged, *, pieces: int = 1) -> tuple[Cells, int]:
    """Cells fine enough for the figures, counted in so many pieces, and how often they were cut."""
    p = judged.stages[0]
    split = [np.isin(np.arange(len(p)) % pieces, piece) for piece in range(pieces)]
    parts = [judged.take(chosen) for chosen in split]
    cells = Cells.merge([cells_of(grid_key(part.stages[0]), part) for part in parts])
    rounds = 0
    while (found := refinement(cells)) is not None:
        cut, cuts = found
        fine = [cells_of(fine_key(part.stages[0], cuts), part, cuts.keys) for part in parts]
        cells, rounds = refined(cells, cut, Cells.merge(fine)), rounds + 1
        assert rounds < 10
    return cells, rounds


def scores(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    shapes: dict[str, Callable[[], np.ndarray]] = {
        "spread": lambda: expit(rng.normal(-3.5, 1.5, n)),
        "within 0.02 logits": lambda: expit(-3.5 + 0.02 * rng.random(n)),
        "within 1e-9 logits": lambda: expit(-3.5 + 1e-9 * rng.random(n)),
        "ties": lambda: np.round(expit(rng.normal(-3.5, 1.5, n)), 2),
        "constant": lambda: np.full(n, 0.03),
        "0 and 1": lambda: rng.choice([0.0, 0.03, 0.2, 1.0], n),
        "near 1": lambda: expit(rng.normal(6, 1, n)),
        "tiny": lambda: expit(rng.normal(-40, 3, n)),
        "one far off": lambda: np.append(expit(-3.5 + 0.02 * rng.random(n - 1)), 0.9),
    }
    return shapes[kind]()


KINDS = (
    "spread",
    "within 0.02 logits",
    "within 1e-9 logits",
    "ties",
    "constant",
    "0 and 1",
    "near 1",
    "tiny",
    "one far off",
)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_ranking_figures_from_cells_are_the_exact_ones(kind: str, weighted: bool) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    n = 30_000
    p = scores(kind, rng, n)
    order = np.argsort(np.argsort(p)) / n
    label = (rng.random(n) < 0.02 + 0.1 * order).astype(np.int8)  # the ranking means something
    weight = np.where(label == 1, 1.0, 1 / 0.3) if weighted else np.ones(n)
    cells, _ = counted(rows(label, p, weight))
    loose = cells.low < cells.high
    pairs = cells.clicks[loose] @ cells.others[loose] / (cells.clicks.sum() * cells.others.sum())
    assert pairs <= 2e-6  # what AUC may err by is half of it, whatever the rows
    groups = cells.groups(0)
    assert metrics.auc_of(groups) == pytest.approx(roc_auc_score(label, p, sample_weight=weight), abs=1e-6)
    assert metrics.average_precision_of(groups) == pytest.approx(
        metrics.average_precision(label, p, weight), abs=1e-6
    )
    assert metrics.ece_of(groups) == pytest.approx(metrics.expected_calibration_error(label, p, weight), abs=1e-9)


def test_the_first_grid_alone_is_not_enough_when_scores_are_close() -> None:
    rng = np.random.default_rng(1)
    p = scores("within 0.02 logits", rng, 30_000)
    label = (rng.random(30_000) < (p - p.min()) / (p.max() - p.min()) / 5).astype(np.int8)
    coarse = cells_of(grid_key(p), rows(label, p))
    exact = roc_auc_score(label, p)
    assert abs(metrics.auc_of(coarse.groups(0)) - exact) > 1e-4
    fine, rounds = counted(rows(label, p))
    assert abs(metrics.auc_of(fine.groups(0)) - exact) < 1e-6
    assert 1 <= rounds <= 3


def test_all_stages_share_their_cells() -> None:
    rng = np.random.default_rng(2)
    p = scores("spread", rng, 20_000)
    label = (rng.random(20_000) < p).astype(np.int8)
    judged = rows(label, p)
    cells, _ = counted(judged)
    for stage in range(3):
        exact = metrics.expected_calibration_error(label, judged.stages[stage])
        assert metrics.ece_of(cells.groups(stage)) == pytest.approx(exact, abs=1e-9)


def test_cells_are_the_same_however_their_rows_come() -> None:
    rng = np.random.default_rng(3)
    p = scores("spread", rng, 20_000)
    label = (rng.random(20_000) < p).astype(np.int8)
    whole, _ = counted(rows(label, p))
    parts, _ = counted(rows(label, p), pieces=7)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_grid_rises_with_p() -> None:
    p = np.sort(np.concatenate([[0.0, 5e-324, 1.0], np.random.default_rng(4).random(1000), 2.0 ** -np.arange(60)]))
    key = grid_key(p)
    assert np.all(np.diff(key) >= 0)
    assert (key[0], key[-1]) == (0, GRID - 1)


def test_ties_are_never_cut() -> None:
    label = np.array([0, 1] * 500, np.int8)
    assert refinement(cells_of(grid_key(np.full(1000, 0.03)), rows(label, np.full(1000, 0.03)))) is None


def test_nothing_makes_no_cells() -> None:
    nothing = Counter(GRID).cells()
    assert len(Cells.merge([nothing, nothing]).key) == 0
    assert len(Cells.from_bytes(nothing.to_bytes()).key) == 0


def test_far_down_pairs_alone_decide_what_is_cut() -> None:
    """Below very many rows average precision no longer minds the order of a few, but AUC may."""

    def two_cells(others: float) -> Cells:
        low, high = np.array([0.01, 0.02]), np.array([0.011, 0.02])
        sums = np.ones((2, 3))
        return Cells(np.arange(2), low, high, np.array([10.0, 1000.0]), np.array([others, 1e9]), sums)

    found = refinement(two_cells(1e6))  # 1e-5 of all pairs
    assert found is not None
    assert found[0].tolist() == [True, False]
    assert refinement(two_cells(1e4)) is None  # 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_of_a_part_is_that_of_a_plain_search(kind: str) -> None:
    rng = np.random.default_rng(7)
    p = scores(kind, rng, 20_000)
    judged = rows((rng.random(20_000) < 0.3).astype(np.int8), p)
    found = refinement(cells_of(grid_key(p), judged))
    if found is None:
        return
    cuts = found[1]
    asked = np.concatenate([p, [0.0, 1.0, 2.0**-45], np.nextafter(cuts.low, 0), np.nextafter(cuts.high, 1)])
    at = np.searchsorted(cuts.low, asked, side="right") - 1
    inside = (at >= 0) & (asked <= cuts.high[at])
    part = np.floor((asked - cuts.low[at]) / (cuts.high[at] - cuts.low[at]) * cuts.parts[at])
    part = np.clip(part, 0, cuts.parts[at] - 1)
    assert inside.any()
    assert np.array_equal(fine_key(asked, cuts), np.where(inside, cuts.first[at] + part, -1))


@pytest.mark.parametrize("weight", [1.0, 300.0, 1 / 0.3])
@pytest.mark.parametrize("stages", ["one p", "two", "three"])
def test_cells_come_back_from_bytes_as_they_were(weight: float, stages: str) -> None:
    rng = np.random.default_rng(8)
    p = np.round(expit(rng.normal(-3.5, 1.5, 5000)), 3)
    label = (rng.random(5000) < 0.3).astype(np.int8)
    other = {"one p": (p, p, p), "two": (p, p, p / 2), "three": (p, p / 2, p**2)}[stages]
    cells = cells_of(grid_key(p), Judged(label, np.full(5000, weight), other))
    for one, back in zip(cells, Cells.from_bytes(cells.to_bytes()), strict=True):
        assert one.dtype == back.dtype
        assert np.array_equal(one, back)


def test_stages_that_share_an_array_are_counted_as_if_they_did_not() -> None:
    rng = np.random.default_rng(9)
    p = scores("spread", rng, 5000)
    label, weight = (rng.random(5000) < p).astype(np.int8), rng.choice([1.0, 1 / 0.3], 5000)
    for shared in ((p, p, p), (p, p, p / 2)):
        apart = tuple(stage.copy() for stage in shared)
        one = cells_of(grid_key(p), Judged(label, weight, shared))
        other = cells_of(grid_key(p), Judged(label, weight, (apart[0], apart[1], apart[2])))
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
