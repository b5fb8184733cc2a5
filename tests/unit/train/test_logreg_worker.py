"""The trainer against scikit-learn, against itself on other rings, and against its own words."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from sklearn.linear_model import LogisticRegression
from unit.train.logs import SLOTS, Held, indices, log, task
from unit.train.rings import on_ranks

from clickmill import metrics
from clickmill.calibration import prior_correction
from clickmill.errors import DegenerateLabelsError, KeepRateError, NoRowsError
from clickmill.hashing import rare_hash, to_index
from clickmill.models.logreg import key_bits
from clickmill.train import report
from clickmill.train.logreg import worker
from clickmill.train.logreg.say import warn_of
from clickmill.train.logreg.worker import Fitted, WarmStart, fit
from clickmill.train.report import Row
from clickmill.train.ring import SoloRing


def table_of(fitted: Fitted) -> dict[int, float]:
    return dict(zip(fitted.keys.tolist(), fitted.weight.tolist(), strict=True))


def margins(fitted: Fitted, batch: pa.RecordBatch, bits: int = 18) -> np.ndarray:
    table = table_of(fitted)
    cells = indices(batch, bits)
    out = [
        fitted.intercept + sum(table.get(int(i), u) for i, u in zip(row, fitted.unseen, strict=True))
        for row in cells
    ]
    return np.array(out)


def probability(margin: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-margin)))


def matrix(cells: np.ndarray) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """The rows as counts of the indices that occur, and these indices."""
    used, columns = np.unique(cells, return_inverse=True)
    rows = np.repeat(np.arange(len(cells)), cells.shape[1])
    return scipy.sparse.csr_matrix((np.ones(cells.size), (rows, columns.ravel()))), used


def peer_of(batch: pa.RecordBatch, cells: np.ndarray, *, l2: float) -> LogisticRegression:
    """scikit-learn's model with our l2; its C is 1 / (Σ weights · l2)."""
    weight = batch["weight"].to_numpy()
    peer = LogisticRegression(C=1 / (weight.sum() * l2), tol=1e-10, max_iter=5000)
    return peer.fit(matrix(cells)[0], batch["label"].to_numpy(), sample_weight=weight)


def peer_objective(
    peer: LogisticRegression, batch: pa.RecordBatch, cells: np.ndarray, *, l2: float, l1: float
) -> float:
    return objective(peer.coef_[0], peer.intercept_[0], batch, cells, l2=l2, l1=l1)


def objective(
    theta: np.ndarray, intercept: float, batch: pa.RecordBatch, cells: np.ndarray, *, l2: float, l1: float
) -> float:
    label, weight = batch["label"].to_numpy().astype(float), batch["weight"].to_numpy()
    margin = matrix(cells)[0] @ theta + intercept
    loss = np.logaddexp(0, margin) - label * margin
    return float(weight @ loss / weight.sum() + l2 / 2 * theta @ theta + l1 * np.abs(theta).sum())


@pytest.mark.parametrize("l2", [1e-3, 1e-4])
@pytest.mark.parametrize("correction", ["prior", "weight"])
def test_the_objective_is_that_of_scikit_learn_lbfgs(l2: float, correction: str) -> None:
    rate = 1.0 if correction == "prior" else 0.5
    batch = log(3000, keep_rate=rate)
    cells = indices(batch, 18)
    peer = peer_of(batch, cells, l2=l2)
    expected = peer_objective(peer, batch, cells, l2=l2, l1=0)
    fitted = fit(Held([batch]), SoloRing(), task(l2=l2, correction=correction))
    assert fitted.figures["converged"]
    assert fitted.figures["objective"] == pytest.approx(expected, rel=1e-6)
    table = table_of(fitted)
    theta = np.array([table[int(index)] for index in matrix(cells)[1]])
    own = objective(theta, fitted.intercept, batch, cells, l2=l2, l1=0)
    assert own == pytest.approx(fitted.figures["objective"], rel=1e-12)


def test_the_objective_with_l1_is_that_of_scikit_learn_saga() -> None:
    batch, l1 = log(1500), 3e-3
    cells = indices(batch, 18)
    settings: dict[str, Any] = {"solver": "saga", "tol": 1e-9, "max_iter": 4000, "random_state": 0}
    peer = LogisticRegression(C=1 / (batch.num_rows * l1), l1_ratio=1.0, **settings)
    peer.fit(matrix(cells)[0], batch["label"].to_numpy())
    expected = peer_objective(peer, batch, cells, l2=0, l1=l1)
    fitted = fit(Held([batch]), SoloRing(), task(l2=0.0, l1=l1))
    assert fitted.figures["converged"]
    assert fitted.figures["objective"] == pytest.approx(expected, rel=1e-6)
    assert 0 < fitted.figures["non_zeros"] == len(fitted.keys) < fitted.figures["active"] / 2


def test_two_columns_that_collide_add_their_weights() -> None:
    batch = log(2000)
    doubled = batch.set_column(1, "s_b", batch.column("s_a"))
    l2 = 1e-3
    cells = indices(doubled, 18)
    assert matrix(cells)[0].max() == 2
    expected = peer_objective(peer_of(doubled, cells, l2=l2), doubled, cells, l2=l2, l1=0)
    fitted = fit(Held([doubled]), SoloRing(), task(l2=l2))
    assert fitted.figures["objective"] == pytest.approx(expected, rel=1e-6)


def test_several_l2_and_no_rows_to_choose_by_are_refused_on_every_rank_before_training() -> None:
    batch, several = log(500), task(l2=(1e-3, 1e-5))

    class Unread(Held):
        def training(self) -> list[pa.RecordBatch]:
            raise AssertionError("the training rows were read")

    with pytest.raises(NoRowsError, match=r"l2 is to be chosen from 0\.001, 1e-05 on validation time"):
        on_ranks(2, lambda ring: fit(Unread([batch], [batch.slice(0, 0)]), ring, several))
    found = on_ranks(2, lambda ring: fit(Held([batch], [batch] if ring.rank else []), ring, several))
    assert [fitted.figures["validation_rows"] for fitted in found] == [batch.num_rows] * 2
    alone = fit(Held([batch]), SoloRing(), task(l2=(1e-3,))).figures
    assert (alone["l2"], alone["validation_rows"], alone["validation_ne"]) == (1e-3, 0, None)


@pytest.mark.parametrize("spec", [{}, {"bits": 32}, {"min_count": 4}, {"l1": 1e-4}, {"correction": "weight"}])
def test_any_number_of_ranks_gives_the_same_model(spec: dict[str, Any]) -> None:
    batch, other = log(4000, keep_rate=0.5), log(1000, seed=9)
    asked = task(**spec)
    whole = fit(Held([batch], [other]), SoloRing(), asked)
    bits = key_bits(asked.spec)
    for size in (2, 4):
        cuts = [*(batch.num_rows * r // size for r in range(size)), batch.num_rows]
        parts = [batch.slice(a, b - a) for a, b in itertools.pairwise(cuts)]
        found = on_ranks(
            size, lambda ring, p=parts: fit(Held([p[ring.rank]], [other] if ring.rank == 0 else []), ring, asked)
        )
        for fitted in found:
            assert fitted.figures["objective"] == pytest.approx(whole.figures["objective"], rel=1e-8)
            assert fitted.figures["validation_ne"] == pytest.approx(whole.figures["validation_ne"], abs=1e-5)
            change = probability(margins(fitted, other, bits)) - probability(margins(whole, other, bits))
            assert np.abs(change).max() <= 1e-4
            np.testing.assert_array_equal(fitted.weight, found[0].weight)


def test_equal_runs_are_equal_to_the_bit() -> None:
    batch = log(3000)
    found = [
        on_ranks(3, lambda ring: fit(Held([batch.slice(ring.rank * 1000, 1000)]), ring, task()))[0]
        for _ in range(2)
    ]
    np.testing.assert_array_equal(found[0].weight, found[1].weight)
    assert found[0].intercept == found[1].intercept
    assert found[0].figures["history"] == found[1].figures["history"]


def test_a_rank_without_rows_takes_part() -> None:
    batch = log(2000)
    whole = fit(Held([batch]), SoloRing(), task())
    found = on_ranks(3, lambda ring: fit(Held([batch] if ring.rank == 1 else []), ring, task()))
    for fitted in found:
        assert fitted.figures["rows"] == batch.num_rows
        assert fitted.figures["objective"] == pytest.approx(whole.figures["objective"], rel=1e-8)


def test_no_rows_one_label_and_mixed_rates_are_refused_on_every_rank() -> None:
    batch = log(500)
    with pytest.raises(NoRowsError):
        on_ranks(2, lambda ring: fit(Held([]), ring, task()))
    clicks = batch.filter(pa.array(batch["label"].to_numpy() == 1))
    with pytest.raises(DegenerateLabelsError, match="labels are 1"):
        on_ranks(2, lambda ring: fit(Held([clicks]), ring, task()))
    rates = [log(500, keep_rate=0.5), log(500, keep_rate=0.25)]
    with pytest.raises(KeepRateError, match=r"0\.25, 0\.5"):
        on_ranks(2, lambda ring: fit(Held([rates[ring.rank]]), ring, task()))
    mixed = on_ranks(2, lambda ring: fit(Held([rates[ring.rank]]), ring, task(correction="weight")))
    assert 0.25 < mixed[0].keep_rate < 0.5
    assert mixed[0].figures["converged"]


def test_figures_are_those_of_the_public_metrics() -> None:
    batch, other = log(4000, keep_rate=0.3), log(1500, seed=5)
    fitted = fit(Held([batch], [other]), SoloRing(), task())
    figures = fitted.figures
    label = batch["label"].to_numpy()
    assert figures["rows"] == batch.num_rows
    assert figures["clicks"] == label.sum()
    assert figures["zero_loss"] == pytest.approx(math.log(2))
    q = label.mean()
    assert figures["base_rate_loss"] == pytest.approx(-q * math.log(q) - (1 - q) * math.log(1 - q))
    p_sampled = probability(margins(fitted, batch))
    assert figures["loss"] == pytest.approx(metrics.log_loss(label, p_sampled))
    weight = batch["weight"].to_numpy()
    p = prior_correction(p_sampled, 0.3)
    assert figures["train_ne"] == pytest.approx(metrics.normalized_entropy(label, p, weight))
    judged = prior_correction(probability(margins(fitted, other)), 0.3)
    assert figures["validation_ne"] == pytest.approx(metrics.normalized_entropy(other["label"].to_numpy(), judged))
    assert figures["validation_ne"] < 1
    assert list(figures["history"]) == sorted(figures["history"], reverse=True)
    assert len(figures["history"]) == figures["iterations"]


def test_the_l2_that_judges_validation_time_best_is_taken() -> None:
    batch, other = log(3000), log(3000, seed=5)
    strengths = (1e-1, 1e-3, 1e-5)
    alone = {
        l2: fit(Held([batch], [other]), SoloRing(), task(l2=l2)).figures["validation_log_loss"] for l2 in strengths
    }
    fitted = fit(Held([batch], [other]), SoloRing(), task(l2=strengths))
    assert fitted.figures["l2"] == min(alone, key=alone.__getitem__) == 1e-3
    for found in fitted.figures["per_l2"]:
        assert found["validation_log_loss"] == pytest.approx(alone[found["l2"]], rel=1e-4)
        assert found["converged"]


def test_an_l2_that_did_not_converge_and_lost_is_named() -> None:
    batch, other = log(3000), log(3000, seed=5)
    figures = fit(Held([batch], [other]), SoloRing(), task(l2=(3e-2, 1e-9), max_iterations=15)).figures
    assert figures["l2"] == 3e-2
    assert figures["converged"]
    assert [found["converged"] for found in figures["per_l2"]] == [True, False]
    (warning,) = warn_of(figures)
    assert "l2 0.03 was chosen against 1e-09, which did not converge" in warning


def test_rare_and_unseen_values_share_the_rare_weight() -> None:
    batch = log(3000)
    fitted = fit(Held([batch]), SoloRing(), task(min_count=5))
    hashes = indices(batch, 32)
    values, counts = np.unique(hashes, return_counts=True)
    assert fitted.keys.tolist() == values[counts >= 5].tolist()
    rare = [int(to_index(np.array([rare_hash(slot)]), 18)[0]) for slot in SLOTS]
    folded = np.where(np.isin(hashes, values[counts >= 5]), indices(batch, 18), rare)
    peer = peer_of(batch, folded, l2=1e-4)
    decisions = peer.decision_function(matrix(folded)[0])
    np.testing.assert_allclose(margins(fitted, batch, 32), decisions, atol=1e-3)
    weights = dict(zip(matrix(folded)[1].tolist(), peer.coef_[0].tolist(), strict=True))
    np.testing.assert_allclose(fitted.unseen, [weights.get(index, 0.0) for index in rare], atol=1e-3)


def test_every_batch_read_and_every_iteration_is_said() -> None:
    batch = log(1500)
    said: list[str] = []
    figures = fit(Held([batch], [batch]), SoloRing(), task(l2=(1e-2, 1e-3)), say=said.append).figures
    assert said[:3] == [f"{rows} rows read by the first rank" for rows in (700, 1400, 1500)]
    iterations = said[3:]
    assert len(iterations) == figures["total_iterations"]
    assert iterations[0].startswith("l2 0.01: iteration 1, objective 0.")
    last = f"l2 0.001: iteration {figures['iterations']}, objective {figures['history'][-1]:.6f}, gradient "
    assert iterations[-1].startswith(last)


def test_the_iteration_limit_is_told() -> None:
    figures = fit(Held([log(3000)]), SoloRing(), task(max_iterations=2)).figures
    assert (figures["converged"], figures["stopped"], figures["iterations"]) == (False, "iteration limit", 2)


def test_a_warm_start_is_moved_to_the_new_keep_rate_and_is_nearly_there() -> None:
    full, sampled = log(20000), log(20000, seed=3, keep_rate=0.25)
    cold = fit(Held([sampled]), SoloRing(), task(max_iterations=1))
    before = fit(Held([full]), SoloRing(), task())
    warm = replace(
        task(max_iterations=1),
        warm_start=WarmStart(before.keys, before.weight, before.intercept, before.keep_rate),
    )
    after = fit(Held([sampled]), SoloRing(), warm)
    assert after.figures["objective"] < cold.figures["objective"]
    unmoved = replace(warm, warm_start=replace(warm.warm_start, keep_rate=0.25))  # type: ignore[type-var]
    assert after.figures["history"][0] < fit(Held([sampled]), SoloRing(), unmoved).figures["history"][0]


def test_extreme_margins_stay_finite() -> None:
    batch = log(1000)
    separable = batch.set_column(
        0, "s_a", pa.array(np.where(batch["label"].to_numpy() == 1, 5, 6).astype(np.int32))
    )
    figures = fit(Held([separable]), SoloRing(), task(l2=1e-12, max_iterations=100)).figures
    assert math.isfinite(figures["objective"])
    assert figures["loss"] < 1e-4


def test_a_model_comes_back_whole_from_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PIECE_BYTES", 256)
    fitted = fit(Held([log(1000)]), SoloRing(), task(min_count=2))
    told = [row for batch in worker.rows_of(fitted, 0) for row in batch.to_pylist()]
    rows = [Row(row["rank"], row["kind"], json.loads(row["value"]), row["data"]) for row in told]
    assert len(rows) > 10
    back = worker.fitted_from(rows)
    for name in worker.PARTS:
        np.testing.assert_array_equal(getattr(back, name), getattr(fitted, name))
    assert (back.intercept, back.keep_rate, back.figures) == (fitted.intercept, fitted.keep_rate, fitted.figures)
    assert len(list(worker.rows_of(fitted, 3))) == 1
