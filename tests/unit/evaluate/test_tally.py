"""Tallies: the sums of a partition, put together on the driver, and the figures made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clickmill import metrics
from clickmill.calibration import expit
from clickmill.evaluate.cells import Judged
from clickmill.evaluate.figures import metric_rows, reliability_rows
from clickmill.evaluate.tally import Tally, Tallying
from clickmill.schema import EVERYTHING, STAGES

N = 5000
DAYS = ("day=2026-01-09", "day=2026-01-10")
NAMES = (EVERYTHING, *DAYS)


def log(seed: int = 0) -> tuple[Judged, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(-3, 1, N))
    label = (rng.random(N) < truth).astype(np.int8)
    p = expit(np.log(truth / (1 - truth)) + rng.normal(0, 0.3, N))
    return (
        Judged(label, rng.choice([1.0, 20.0], N), (p, p / 2, p**1.1)),
        truth,
        np.column_stack([np.zeros(N), rng.integers(1, 3, N)]).astype(np.int32),
    )


def tally_of(pieces: int = 1, judged: Judged | None = None, truth: np.ndarray | None = None) -> Tally:
    rows, known, day = log()
    rows, known = judged or rows, known if truth is None else truth
    parts = []
    for piece in range(pieces):
        chosen = np.arange(N) % pieces == piece
        counting = Tallying(len(NAMES))
        for half in (chosen & (np.arange(N) < 1000), chosen & (np.arange(N) >= 1000)):
            counting.add(rows.take(half), known[half], day[half])
        parts.append(Tally.from_bytes(counting.tally().to_bytes()))
    return Tally.merge(parts)


def values(tally: Tally) -> dict[tuple[str, str, str], float | None]:
    return {
        (row["slice"], row["stage"], row["metric"]): row["value"]
        for row in metric_rows(tally, NAMES, {}, traffic="full")
    }


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("log_loss", metrics.log_loss),
        ("ne", metrics.normalized_entropy),
        ("rig", metrics.relative_information_gain),
        ("brier", metrics.brier_score),
        ("calibration_ratio", metrics.calibration_ratio),
    ],
)
def test_figures_of_sums_are_those_of_rows(name: str, figure) -> None:
    rows, _, day = log()
    found = values(tally_of(pieces=3))
    for place, stage in enumerate(STAGES):
        p = rows.stages[place]
        assert found[EVERYTHING, stage, name] == pytest.approx(figure(rows.label, p, rows.weight), rel=1e-12)
        for place, one in enumerate(NAMES):
            own = (day == place).any(axis=1)
            exact = figure(rows.label[own], p[own], rows.weight[own])
            assert found[one, stage, name] == pytest.approx(exact, rel=1e-12)


def test_counts_and_the_truth() -> None:
    rows, truth, _ = log()
    found = values(tally_of())
    assert found[EVERYTHING, "prior", "n"] == N
    assert found[EVERYTHING, "prior", "clicks"] == rows.label.sum()
    assert found[EVERYTHING, "prior", "ctr"] == pytest.approx(rows.weight @ rows.label / rows.weight.sum())
    ratio = (rows.weight @ rows.stages[2]) / (rows.weight @ truth)
    assert found[EVERYTHING, "calibrated", "calibration_to_truth"] == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize("pieces", [2, 7, 17])
def test_figures_do_not_hang_on_the_partitioning(pieces: int) -> None:
    one, other = values(tally_of()), values(tally_of(pieces))
    assert one.keys() == other.keys()
    assert [key for key in one if one[key] is None] == [key for key in other if other[key] is None]
    for key, value in one.items():
        assert value is None or other[key] == pytest.approx(value, rel=1e-12), key


def test_the_order_of_partitions_changes_no_bit() -> None:
    rows, truth, day = log()
    parts = []
    for piece in range(9):
        counting = Tallying(len(NAMES))
        chosen = np.arange(N) % 9 == piece
        counting.add(rows.take(chosen), truth[chosen], day[chosen])
        parts.append(counting.tally())
    assert values(Tally.merge(parts)) == values(Tally.merge(parts[::-1]))


def test_clipped_p_are_counted() -> None:
    rows, _, _ = log()
    p = rows.stages[0].copy()
    p[:3] = [0.0, 1.0, 1e-16]
    found = values(tally_of(judged=Judged(rows.label, rows.weight, (p, p / 2, p))))
    assert [found[EVERYTHING, stage, "clipped"] for stage in STAGES] == [3, 2, 3]
    assert math.isfinite(found[EVERYTHING, "p_sampled", "log_loss"] or math.nan)


def test_labels_that_all_agree_leave_a_figure_out_with_its_reason() -> None:
    rows, _, _ = log()
    nothing = Judged(np.zeros(N, np.int8), rows.weight, rows.stages)
    found = {
        row["metric"]: row
        for row in metric_rows(tally_of(judged=nothing), NAMES, {}, traffic="full")
        if row["slice"] == EVERYTHING and row["stage"] == "calibrated"
    }
    for name in ("ne", "rig", "auc", "auc_pr", "calibration_ratio"):
        assert found[name]["value"] is None
        assert "all labels are 0" in found[name]["reason"] or "no clicks" in found[name]["reason"]
    for name in ("log_loss", "brier", "ece", "ctr"):
        assert found[name]["value"] is not None
        assert found[name]["reason"] is None


def test_where_the_truth_is_not_known_nothing_is_said_of_it() -> None:
    known = log()[1].copy()
    known[:5] = math.nan
    for truth, reason in ((np.full(N, math.nan), "the rows have no p_true"), (known, "5 rows have no p_true")):
        rows = [
            row
            for row in metric_rows(tally_of(truth=truth), NAMES, {}, traffic="full")
            if row["slice"] == EVERYTHING
        ]
        found = next(row for row in rows if row["metric"] == "calibration_to_truth")
        assert (found["value"], found["reason"]) == (None, reason)


def test_reliability_has_twenty_bins_a_stage_that_hold_all_rows() -> None:
    rows, _, _ = log()
    tally = tally_of()
    found = [row for row in reliability_rows(tally.cells) if row["stage"] == "calibrated"]
    assert [row["bin"] for row in found] == list(range(20))
    assert sum(row["n"] for row in found) == pytest.approx(rows.weight.sum())
    expected = sum(row["n"] * row["p_mean"] for row in found)
    assert expected == pytest.approx(rows.weight @ rows.stages[2], rel=1e-7)
    assert sum(row["n"] * row["ctr"] for row in found) == pytest.approx(rows.weight @ rows.label)


def test_an_empty_tally_survives_the_journey() -> None:
    empty = Tally.from_bytes(Tallying(3).tally().to_bytes())
    assert not empty.sums.any()
    assert len(empty.cells.key) == 0
