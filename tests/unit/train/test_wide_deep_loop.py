"""A training by one rank: what is known before it, when it ends, which weights it keeps, what it goes on from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make deep)")
import trained
from safetensors.numpy import load_file, save_file

from clickmill.errors import (
    DegenerateLabelsError,
    KeepRateError,
    MissingColumnsError,
    NoRowsError,
    PreflightError,
)
from clickmill.metrics import log_loss
from clickmill.nets.net import net_of
from clickmill.nets.standard import standard_of
from clickmill.train.wide_deep.first_pass import known
from clickmill.train.wide_deep.loop import fit
from clickmill.train.wide_deep.task import FIGURES, NETWORK, RESULT, Task
from clickmill.train.wide_deep.team import Alone


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return trained.task(tmp_path_factory.mktemp("rows"))


def run(task: Task, folder: Path, **spec: Any) -> dict[str, Any]:
    """The figures of the training, and its network's tensors as `tensors`."""
    own = replace(task, folder=str(folder), spec=task.spec.model_copy(update=spec))
    folder.mkdir(exist_ok=True)
    fit(own, Alone())
    found: dict[str, Any] = json.loads((folder / RESULT / FIGURES).read_text())
    return found | {"tensors": load_file(folder / RESULT / NETWORK)}


def judged(task: Task, tensors: dict[str, Any], keep_rate: float) -> float:
    """Log-loss of p on validation time by a network that is made anew."""
    net = net_of(task.spec, task.layout, standard_of(np.zeros((1, 3))), 0.0).eval()
    net.load({name: torch.from_numpy(one) for name, one in tensors.items()})
    rows = trained.rows(3000, seed=2, sampled=False)
    whole = np.stack([rows[name].to_numpy() for name in task.layout.whole], axis=1)
    real = np.stack([rows[name].to_numpy() for name in task.layout.numbers], axis=1)
    with torch.no_grad():
        margins = net(torch.from_numpy(whole), torch.from_numpy(real)).double().numpy()
    return log_loss(rows["label"].to_numpy(), 1 / (1 + np.exp(-(margins + math.log(keep_rate)))))


def test_what_is_known_of_rows_is_what_the_table_says(task: Task) -> None:
    rows = trained.rows(6000, seed=1, sampled=True)
    price = rows["n_price"].to_numpy()
    price = np.log1p(price[~np.isnan(price)].astype(np.float64))
    label, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
    found = known(task.training, ("n_price",), Alone(), correction="prior")
    assert (found.rows, found.clicks, found.keep_rate) == (6000, label.sum(), trained.KEEP)
    assert found.base_rate == label.mean()
    assert found.moments[0] == pytest.approx((len(price), price.sum(), price @ price))
    weighted = known(task.training, ("n_price",), Alone(), correction="weight", threads=3)
    assert weighted.base_rate == pytest.approx(weight @ label / weight.sum())
    assert weighted.moments == found.moments


@pytest.mark.parametrize(
    ("column", "values", "error"),
    [
        ("keep_rate", np.where(np.arange(3000) < 10, 0.4, 0.5), KeepRateError),
        ("label", np.zeros(3000, np.int8), DegenerateLabelsError),
        ("weight", pa.array([None, *[1.0] * 2999]), MissingColumnsError),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(
    tmp_path: Path, column: str, values: Any, error: type[Exception]
) -> None:
    table = trained.rows(3000, seed=1, sampled=True)
    table = table.set_column(table.schema.get_field_index(column), column, pa.array(values))
    with pytest.raises(error):
        known(trained.pieces(tmp_path / "t", table), (), Alone(), correction="prior")


def test_the_loss_of_validation_time_is_that_of_p_by_the_weights_that_are_kept(task: Task, tmp_path: Path) -> None:
    found = run(task, tmp_path / "a", epochs=3, validate_steps=7, learning_rate=0.1)
    assert found["validation_log_loss"] == pytest.approx(judged(task, found["tensors"], trained.KEEP), abs=1e-6)
    assert found["validation_log_loss"] == min(look[2] for look in found["history"])
    assert [look[0] for look in found["history"]] == sorted({*range(7, 73, 7), 24, 48, 72})
    assert found["stopped"] == "epochs"
    assert found["steps"] == 72


def test_training_ends_when_so_many_looks_found_no_less(task: Task, tmp_path: Path) -> None:
    found = run(task, tmp_path / "a", epochs=1000, validate_steps=6, patience=2, learning_rate=0.3)
    assert found["stopped"] == "validation loss"
    losses = [look[2] for look in found["history"]]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3
    assert found["best_step"] == found["history"][best][0]


def test_a_training_that_has_ended_is_not_made_again(task: Task, tmp_path: Path) -> None:
    first = run(task, tmp_path / "a")
    again = run(task, tmp_path / "a")
    assert again["resumed_from"] == first["steps"] == again["steps"]
    assert again["history"] == first["history"]
    assert all(np.array_equal(again["tensors"][name], one) for name, one in first["tensors"].items())


def test_without_validation_time_nothing_can_stop_early(task: Task, tmp_path: Path) -> None:
    with pytest.raises(NoRowsError, match="patience: null"):
        run(replace(task, validation=()), tmp_path / "a", patience=1)
    found = run(replace(task, validation=()), tmp_path / "b", epochs=1)
    assert found["validation_log_loss"] is None
    assert found["best_step"] == found["steps"] == 24


def test_a_warm_start_begins_with_the_same_p_at_another_keep_rate(task: Task, tmp_path: Path) -> None:
    """Its margins were at a keep rate of 0.1; the sample's is 0.5, and the first step has hardly moved them."""
    first = run(task, tmp_path / "a", epochs=3)
    place = tmp_path / "start.safetensors"
    save_file(first["tensors"] | {"intercept": first["tensors"]["intercept"] + math.log(0.5 / 0.1)}, place)
    warm = replace(task, start=str(place), start_keep_rate=0.1)
    found = run(warm, tmp_path / "b", epochs=1, validate_steps=1, learning_rate=1e-9)
    assert found["history"][0][2] == pytest.approx(first["validation_log_loss"], abs=2e-3)


def test_a_few_rows_are_learned_by_heart_unless_something_holds_back(task: Task, tmp_path: Path) -> None:
    own = replace(task, folder=str(tmp_path), overfit_check=True)
    fit(replace(own, spec=task.spec.model_copy(update={"learning_rate": 0.1})), Alone())
    said = json.loads((tmp_path / RESULT / FIGURES).read_text())["overfit"]
    assert said["last"] < 0.05 * said["first"]
    assert not (tmp_path / RESULT / NETWORK).exists()
    idle = {"learning_rate": 1e-6, "arch": "deep"}
    with pytest.raises(PreflightError, match="should be near 0"):
        fit(replace(own, spec=task.spec.model_copy(update=idle), layout=replace(task.layout, wide=())), Alone())
