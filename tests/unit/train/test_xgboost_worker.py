"""Trees on one rank, without Spark: XGBoost's own, to 1e-6, however often the training is stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from trees import NAMES, Held, log, spec, task

from clickmill.errors import DegenerateLabelsError, KeepRateError, NoRowsError
from clickmill.metrics import log_loss, normalized_entropy
from clickmill.models.trees import booster_from, moved
from clickmill.models.xgboost import Inputs
from clickmill.train.ring import SoloRing
from clickmill.train.xgboost import worker
from clickmill.train.xgboost.checkpoint import Checkpoint
from clickmill.train.xgboost.worker import Fitted, fit

TRAINING, VALIDATION, TEST = log(6000, seed=1, keep_rate=0.5), log(3000, seed=2), log(3000, seed=3)
HELD = Held([TRAINING], [VALIDATION])


def margins(trees: bytes, batch: pa.RecordBatch) -> np.ndarray:
    rows = Inputs(NAMES).matrix(batch)
    return np.asarray(booster_from(trees).inplace_predict(rows, predict_type="margin"), np.float64)


def trained(held: Held = HELD, **changes: Any) -> Fitted:
    return fit(held, SoloRing(), task(**changes))


@pytest.mark.parametrize("growth", [{}, {"grow_policy": "lossguide", "max_leaves": 9, "max_depth": 0}])
def test_one_rank_is_native_xgboost(growth: dict[str, Any]) -> None:
    import xgboost

    found = trained(**growth)
    rows = Inputs(NAMES).matrix(TRAINING)
    label = TRAINING["label"].to_numpy().astype(float)
    parameters = {"objective": "binary:logistic", "tree_method": "hist", "eta": 0.3, "nthread": 1, "max_depth": 4}
    parameters |= {"base_score": float(label.mean()), "verbosity": 0} | growth
    native = xgboost.train(parameters, xgboost.QuantileDMatrix(rows, label, max_bin=256), num_boost_round=12)
    theirs = native.inplace_predict(Inputs(NAMES).matrix(TEST), predict_type="margin")
    np.testing.assert_allclose(margins(found.booster, TEST), theirs, rtol=0, atol=1e-6)


def test_a_column_of_text_is_no_number_and_a_missing_one_is_no_zero() -> None:
    numbers = pa.array([None, 0.0, 1e300, -1e300, math.inf, -math.inf])
    hashes = np.array([-1, 1, 2, 3, 4, 5], np.int32)
    batch = pa.RecordBatch.from_pydict({"n_a": numbers, "s_b": hashes})
    matrix = Inputs(("n_a",), ("s_b",)).matrix(batch)
    assert np.isnan(matrix[0, 0])
    largest, least = float(np.finfo(np.float32).max), float(np.finfo(np.float32).min)
    assert matrix[1:, 0].tolist() == [0.0, largest, least, largest, least]
    assert matrix[:, 1].tolist() == [2**24 - 1, 1, 2, 3, 4, 5]


def test_losses_are_those_of_p_at_full_traffic() -> None:
    figures = trained().figures
    for name, batch in (("train", TRAINING), ("validation", VALIDATION)):
        p = 1 / (1 + np.exp(-margins(trained().booster, batch) - math.log(0.5)))
        label, weight = batch["label"].to_numpy(), batch["weight"].to_numpy()
        assert figures[f"{name}_log_loss"] == pytest.approx(log_loss(label, p, weight), abs=1e-6)
        assert figures[f"{name}_ne"] == pytest.approx(normalized_entropy(label, p, weight), abs=1e-6)
    assert figures["validation_ne"] < 0.95
    names = ("train_log_loss", "validation_log_loss", "train_ne", "validation_ne")
    assert figures["history"][-1] == [figures[name] for name in names]
    assert (figures["rounds"], figures["rows"], figures["stopped"]) == (12, TRAINING.num_rows, "rounds")


@pytest.mark.parametrize("stop", [5, 10])
def test_what_goes_on_from_a_checkpoint_grows_the_same_trees(tmp_path: Path, stop: int) -> None:
    asked: dict[str, Any] = {"subsample": 0.5, "colsample": 0.6}
    whole = fit(HELD, SoloRing(), task(folder=str(tmp_path), **asked))
    assert sorted(place.name for place in tmp_path.iterdir()) == ["000005", "000010"]
    for later in tmp_path.glob("*"):
        if int(later.name) > stop:
            later.rename(tmp_path.parent / f"{later.name}-gone-{stop}")
    start = Checkpoint.latest(tmp_path)
    assert start is not None
    assert len(start.losses) == stop
    again = fit(HELD, SoloRing(), task(start, **asked))
    assert again.booster == whole.booster
    assert again.figures["history"] == whole.figures["history"]


def test_each_chunk_draws_rows_by_a_seed_of_its_own() -> None:
    seeds = [worker.chunk_seed(42, chunk) for chunk in range(100)]
    assert len(set(seeds)) == 100
    one, other = (trained(subsample=0.5, seed=seed).booster for seed in (1, 2))
    assert one != other
    assert trained(subsample=0.5, seed=1).booster == one


def test_training_stops_where_validation_time_gains_no_more() -> None:
    found = trained(rounds=300, early_stopping_rounds=5, max_depth=6)
    losses = [loss for _, loss, *_ in found.figures["history"]]
    best = int(np.argmin(losses))
    assert found.figures["rounds"] == best + 1
    assert len(losses) == best + 6
    assert found.figures["stopped"] == "validation loss"
    assert booster_from(found.booster).num_boosted_rounds() == best + 1
    p = 1 / (1 + np.exp(-margins(found.booster, VALIDATION) - math.log(0.5)))
    assert log_loss(VALIDATION["label"].to_numpy(), p) == pytest.approx(min(losses), abs=1e-6)


def test_trained_with_weights_it_says_p_at_full_traffic() -> None:
    found = trained(correction="weight", rounds=30)
    p = 1 / (1 + np.exp(-margins(found.booster, TEST)))
    assert p.sum() / TEST["label"].to_numpy().sum() == pytest.approx(1, abs=0.2)
    assert found.figures["validation_ne"] < 0.95


def test_a_monotone_column_never_lowers_p() -> None:
    found = trained(monotone={"n_0": -1}, rounds=5)
    grid = np.full((50, len(NAMES)), 0.3, np.float32)
    grid[:, 0] = np.linspace(-3, 3, 50)
    told = booster_from(found.booster).inplace_predict(grid, predict_type="margin")
    assert np.all(np.diff(told) <= 0)


def test_more_than_its_memory_is_kept_on_disk_and_grows_as_good_trees() -> None:
    held = Held([log(400_000, seed=5)], [VALIDATION])
    found = fit(held, SoloRing(), task(memory_mb=1, rounds=4))
    assert found.figures["external_memory"]
    plain = fit(held, SoloRing(), task(rounds=4))
    assert not plain.figures["external_memory"]
    assert found.figures["validation_ne"] == pytest.approx(plain.figures["validation_ne"], abs=5e-4)


def test_what_cannot_be_trained_on_is_refused_by_name() -> None:
    with pytest.raises(NoRowsError, match="training stretch has no rows"):
        trained(Held([], [VALIDATION]))
    with pytest.raises(NoRowsError, match="early_stopping_rounds: null"):
        trained(Held([TRAINING]), early_stopping_rounds=3)
    clicks = TRAINING.filter(pa.array(TRAINING["label"].to_numpy() == 1))
    with pytest.raises(DegenerateLabelsError, match=r"all \d+ training labels are 1"):
        trained(Held([clicks], [VALIDATION]))
    with pytest.raises(KeepRateError):
        trained(Held([TRAINING, log(500, keep_rate=0.3)], [VALIDATION]))
    assert trained(Held([TRAINING])).figures["validation_ne"] is None


def test_columns_that_say_nothing_are_never_asked_for() -> None:
    silent = [TRAINING.set_column(1, "n_1", pa.array(np.full(TRAINING.num_rows, 3.0, np.float32)))]
    silent = [one.set_column(2, "n_2", pa.nulls(one.num_rows, pa.float32())) for one in silent]
    found = trained(Held(silent, [VALIDATION]))
    assert set(found.figures["gain"]) == {"n_0", "n_3", "n_4"}
    assert found.figures["shap"].keys() == found.figures["gain"].keys()
    nothing = [one.set_column(j, name, silent[0]["n_2"]) for one in silent for j, name in enumerate(NAMES)][:1]
    for j, name in enumerate(NAMES):
        nothing[0] = nothing[0].set_column(j, name, silent[0]["n_2"])
    bare = trained(Held(nothing, [VALIDATION]))
    label = TRAINING["label"].to_numpy()
    base = math.log(label.mean() / (1 - label.mean()))
    np.testing.assert_allclose(margins(bare.booster, TEST), base, atol=1e-5)


def test_a_warm_start_goes_on_and_moves_to_another_keep_rate() -> None:
    first = trained(rounds=5)
    start = Checkpoint(first.booster, before=5)
    more = fit(HELD, SoloRing(), task(start, rounds=4))
    assert booster_from(more.booster).num_boosted_rounds() == 9
    assert more.figures["history"][0][0] < first.figures["history"][-1][0]
    shifted = moved(first.booster, math.log(2.0))
    np.testing.assert_allclose(margins(shifted, TEST), margins(first.booster, TEST) + math.log(2.0), atol=1e-5)
    asked = task(start, rounds=4)
    other = fit(HELD, SoloRing(), worker.Task(asked.spec, asked.inputs, start, warm_keep_rate=0.25))
    by_hand = Checkpoint(moved(first.booster, math.log(0.25 / 0.5)), before=5)
    assert other.booster == fit(HELD, SoloRing(), task(by_hand, rounds=4)).booster
    assert other.booster != more.booster
    assert other.figures["rounds_before"] == 5


def test_each_round_is_told() -> None:
    lines: list[str] = []
    found = fit(HELD, SoloRing(), task(), say=lines.append)
    told = [line for line in lines if line.startswith("round ")]
    assert len(told) == 12
    training, validation, *_ = found.figures["history"][-1]
    assert told[-1] == f"round 12: log-loss {training:.6f} in training, {validation:.6f} in validation"


def test_numbers_beyond_all_bounds_grow_trees_that_score_as_they_were_judged() -> None:
    """They are the largest of a 32-bit float, and so are on the same side of every split wherever they are met."""

    def beyond(batch: pa.RecordBatch) -> pa.RecordBatch:
        x = batch["n_0"].to_numpy(zero_copy_only=False).astype(float)
        far = np.where(x > 1, math.inf, np.where(x < -1, -1e300, x))
        return batch.set_column(batch.schema.get_field_index("n_0"), "n_0", pa.array(far, from_pandas=True))

    found = trained(Held([beyond(TRAINING)], [beyond(VALIDATION)]))
    p = 1 / (1 + np.exp(-margins(found.booster, beyond(VALIDATION)) - math.log(0.5)))
    judged = log_loss(VALIDATION["label"].to_numpy(), p)
    assert found.figures["validation_log_loss"] == pytest.approx(judged, abs=1e-6)
    assert found.figures["validation_ne"] < 0.95


def test_a_spec_without_any_limit_of_leaves_is_refused() -> None:
    with pytest.raises(ValueError, match="max_leaves"):
        spec(max_depth=0)
    assert spec(**{"lambda": 2.5}).model_dump(mode="json")["lambda"] == 2.5


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"max_bins": 9}, {"eta": 0.0}, {"grow_policy": "widest"}])
def test_no_rounds_and_unknown_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        spec(**wrong)
