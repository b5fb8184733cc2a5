"""A training by one rank: what is known before it, when it ends, which weights it keeps, what it goes on from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
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
    NonFiniteLossError,
    NoRowsError,
    PreflightError,
)
from clickmill.loader import Columns, Loader
from clickmill.metrics import log_loss, normalized_entropy
from clickmill.nets.net import net_of
from clickmill.nets.standard import standard_of
from clickmill.specs import Ftrl
from clickmill.train.wide_deep import loop
from clickmill.train.wide_deep.first_pass import known
from clickmill.train.wide_deep.learner import Learner
from clickmill.train.wide_deep.loop import fit
from clickmill.train.wide_deep.preflight import few
from clickmill.train.wide_deep.say import learned
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
    rows = trained.rows(3000, seed=2, sampled=False)
    return log_loss(rows["label"].to_numpy(), said(task, tensors, keep_rate, rows))


def said(task: Task, tensors: dict[str, Any], keep_rate: float, rows: pa.Table) -> Any:
    """(n,) p of rows."""
    net = net_of(task.spec, task.layout, standard_of(np.zeros((1, 3))), 0.0).eval()
    net.load({name: torch.from_numpy(one) for name, one in tensors.items()})
    whole = np.stack([rows[name].to_numpy() for name in task.layout.whole], axis=1)
    real = np.stack([rows[name].to_numpy() for name in task.layout.numbers], axis=1)
    with torch.no_grad():
        margins = net(torch.from_numpy(whole), torch.from_numpy(real)).double().numpy()
    return 1 / (1 + np.exp(-(margins + math.log(keep_rate))))


def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of progress of trainings to come."""
    lines: list[str] = []
    monkeypatch.setattr(loop.watch, "teller", lambda *_: lines.append)
    return lines


def begin_with(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object]) -> None:
    """Networks to come begin with changed tensors."""

    def changed(*given: Any, **more: Any) -> Any:
        net = net_of(*given, **more)
        change(net.tensors())
        return net

    monkeypatch.setattr(loop, "net_of", changed)


def kill_units(tensors: dict[str, Any]) -> None:
    """No unit of the first layer answers to any row, so that neither it nor the head learns."""
    tensors["body.layers.0.bias"].fill_(-1e9)


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
    assert (
        found["first_log_loss"] < 0.99 * found["first_expected"]
    )  # (no error: it need not begin at the base rate)


@pytest.mark.parametrize("correction", ["prior", "weight"])
def test_ne_in_training_is_that_of_p_with_rows_weighted_to_full_traffic(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, correction: str
) -> None:
    """Of a network that goes on from what it is, and does not move: its figures are then those of one look."""
    keep_rate = trained.KEEP if correction == "prior" else 1.0
    still = {"learning_rate": 1e-12, "ftrl": Ftrl(alpha=1e-12, l1=0, l2=0), "correction": correction}
    first = run(task, tmp_path / "a", correction=correction)["tensors"]
    place = tmp_path / "start.safetensors"
    save_file(first, place)
    lines = told(monkeypatch)
    warm = replace(task, start=str(place), start_keep_rate=keep_rate)
    found = run(warm, tmp_path / "b", epochs=1, batch_rows=500, **still)
    rows = trained.rows(6000, seed=1, sampled=True)
    label, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
    p = said(task, first, keep_rate, rows)
    assert found["train_log_loss"] == pytest.approx(log_loss(label, p, weight), rel=1e-4)
    assert found["train_ne"] == pytest.approx(normalized_entropy(label, p, weight), rel=1e-4)
    steps = [float(found.group(1)) for line in lines if (found := re.search(r"NE ([0-9.]+), ", line))]
    assert len(steps) == 12
    assert np.mean(steps) == pytest.approx(normalized_entropy(label, p, weight), abs=0.02)


def test_rows_of_one_label_have_no_ne(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch)
    table = trained.rows(30, seed=1, sampled=True)
    own = replace(task, training=trained.pieces(tmp_path / "t", table), validation=())
    found = run(own, tmp_path / "a", epochs=1, batch_rows=1, validate_steps=1, checkpoint_steps=9999)
    assert [ne for *_, ne in found["history"]] == [None] * 30
    assert sum("NE unknown" in line for line in lines) == 30


def test_figures_of_a_training_that_was_interrupted_are_those_of_a_whole_one(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, step = run(task, tmp_path / "a", epochs=1), Learner.step
    with monkeypatch.context() as patch:

        def broken(own: Learner, batch: Any, *, step: int, go: Any = step) -> Any:
            if step == 10:
                raise KeyboardInterrupt
            return go(own, batch, step=step)

        patch.setattr(Learner, "step", broken)
        with pytest.raises(KeyboardInterrupt):
            run(task, tmp_path / "b", epochs=1)
    found = run(task, tmp_path / "b", epochs=1)
    assert found["resumed_from"] == 8
    same = ("history", "train_ne", "train_log_loss", "first_log_loss", "first_expected", "idle")
    assert {name: found[name] for name in same} == {name: whole[name] for name in same}


# --- pre-flight -------------------------------------------------------------------------------


@pytest.mark.parametrize("correction", ["prior", "weight"])
def test_a_training_begins_at_the_base_rate_and_all_of_it_learns(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, correction: str
) -> None:
    lines = told(monkeypatch)
    found = run(task, tmp_path / "a", epochs=1, correction=correction, batch_rows=6000)
    assert found["first_log_loss"] == pytest.approx(found["base_entropy"], rel=1e-5)  # (of all rows in one batch)
    assert found["first_expected"] == pytest.approx(found["base_entropy"], rel=1e-6)
    assert found["idle"] != []  # (the head begins at 0: what lies before it learns from the second step on)
    found = run(task, tmp_path / "b", epochs=1, correction=correction)
    assert found["first_log_loss"] == pytest.approx(found["first_expected"], rel=1e-5)
    assert found["idle"] == []
    (line,) = [line for line in lines if line.startswith("begins at")]
    assert f"{found['first_log_loss']:.6f} of the sample" in line
    assert "all 6 groups of parameters by step 2" in line


@pytest.mark.parametrize("overfit_check", [False, True])
def test_a_network_that_begins_elsewhere_is_stopped(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overfit_check: bool
) -> None:
    begin_with(monkeypatch, lambda tensors: tensors["intercept"].add_(1e-2))
    with pytest.raises(PreflightError, match="does not begin at the log-odds"):
        run(replace(task, overfit_check=overfit_check), tmp_path / "a", learning_rate=0.1)


@pytest.mark.parametrize("overfit_check", [False, True])
def test_a_network_of_which_a_part_does_not_learn_is_stopped(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overfit_check: bool
) -> None:
    begin_with(monkeypatch, kill_units)
    with pytest.raises(PreflightError, match=r"no gradient reached body\.layers\.0\.bias, .*layers\.0\.weight"):
        run(replace(task, overfit_check=overfit_check), tmp_path / "a", ftrl=Ftrl(alpha=1.0, l1=0.0))


def check(task: Task, folder: Path, **spec: Any) -> dict[str, Any]:
    """What the overfit check says."""
    folder.mkdir(exist_ok=True)
    own = replace(task, folder=str(folder), overfit_check=True, spec=task.spec.model_copy(update=spec))
    fit(own, Alone())
    assert not (folder / RESULT / NETWORK).exists()
    found: dict[str, Any] = json.loads((folder / RESULT / FIGURES).read_text())["overfit"]
    return found


@pytest.mark.parametrize("batch_rows", [1, 7, 256])
def test_a_few_rows_of_both_labels_are_learned_by_heart_however_large_a_batch_is(
    task: Task, tmp_path: Path, batch_rows: int
) -> None:
    found = check(task, tmp_path / "a", learning_rate=0.1, batch_rows=batch_rows)
    assert found["last"] < 0.05 * found["first"]
    assert (found["rows"], found["clicks"]) == (64, 32)
    assert learned(found).startswith("log-loss of 64 rows, 32 of them clicks, from ")


def test_where_there_are_few_clicks_all_are_taken_and_none_is_an_error(task: Task, tmp_path: Path) -> None:
    table = trained.rows(3000, seed=1, sampled=True)
    place = table.schema.get_field_index("label")
    for clicks in (3, 0):
        label = pa.array((np.arange(3000) >= 3000 - clicks).astype(np.int8))
        own = replace(
            task, training=trained.pieces(tmp_path / f"t{clicks}", table.set_column(place, "label", label))
        )
        if clicks:
            found = check(own, tmp_path / "a", learning_rate=0.1)
            assert (found["rows"], found["clicks"]) == (35, 3)
        else:
            with pytest.raises(DegenerateLabelsError, match="all 3000 training labels are 0"):
                check(own, tmp_path / "b")


@pytest.mark.parametrize(("learning_rate", "share"), [(1e-6, (0.99, 1.0)), (5e-3, (0.1, 0.8))])
def test_rows_that_are_not_learned_by_heart_are_an_error(
    task: Task, tmp_path: Path, learning_rate: float, share: tuple[float, float]
) -> None:
    own = replace(task, layout=replace(task.layout, wide=()))
    with pytest.raises(PreflightError, match=r"64 rows, 32 of them clicks, .*should be near 0") as raised:
        check(own, tmp_path / "a", learning_rate=learning_rate, arch="deep")
    first, last = map(float, re.findall(r"from ([0-9.]+) to ([0-9.]+),", str(raised.value))[0])
    assert share[0] <= last / first <= share[1]


def test_an_infinite_number_is_the_largest_one_from_the_first_pass_on(task: Task, tmp_path: Path) -> None:
    def trained_with(value: float) -> dict[str, Any]:
        log = trained.rows(3000, seed=1, sampled=True)
        price = log["n_price"].to_numpy().copy()
        price[7] = value
        number = log.schema.get_field_index("n_price")
        folder = tmp_path / str(value)
        table = log.set_column(number, "n_price", pa.array(price, pa.float32()))
        return run(replace(task, training=trained.pieces(folder, table)), folder / "training", epochs=1)

    huge, largest = trained_with(math.inf), trained_with(float(np.finfo(np.float32).max))
    assert huge["history"] == largest["history"]
    assert math.isfinite(huge["validation_log_loss"])


@pytest.mark.parametrize("patience", [2, None])
def test_a_training_that_leaves_its_senses_in_the_last_step_is_no_model(
    task: Task, tmp_path: Path, patience: int | None
) -> None:
    with pytest.raises(NonFiniteLossError, match="not finite"):
        run(task, tmp_path, learning_rate=1e38, batch_rows=100_000, epochs=1, patience=patience)
    assert not (tmp_path / RESULT).exists()


def test_without_validation_time_weights_that_are_not_finite_are_no_model(task: Task, tmp_path: Path) -> None:
    alone = replace(task, validation=())
    with pytest.raises(NonFiniteLossError, match="after the last step weights are not finite"):
        run(alone, tmp_path, learning_rate=1e38, batch_rows=100_000, epochs=1, patience=None)


def test_a_few_rows_of_several_batches_know_where_they_come_from(task: Task) -> None:
    columns = Columns(task.layout.whole, task.layout.numbers)
    batch = few(Loader(task.training, columns, batch_rows=16, seed=1).epoch(0), 32)
    names = {f"{one.piece.path}, row group {one.piece.row_group}" for one in task.training}
    assert set(batch.sources(np.arange(batch.rows))) <= names
    assert len(batch.source_of_each(np.arange(batch.rows))) == batch.rows == 64
