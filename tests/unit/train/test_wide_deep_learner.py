"""Steps of training against torch's own gradients, other numbers of ranks, and interruption."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make deep)")

from torch import Tensor
from torch.nn import functional
from unit.nets.networks import Rows, layout_for, rows_of, spec_of, standard_for

from clickmill.errors import ArtifactError, NonFiniteLossError
from clickmill.metrics import log_loss
from clickmill.nets.net import Net, net_of
from clickmill.specs import WideDeepSpec
from clickmill.train.wide_deep.learner import Learner, Stepped
from clickmill.train.wide_deep.sparse import merged
from clickmill.train.wide_deep.team import Alone, BrokenTeamError, Team

INTERCEPT = -1.1


def learner(spec: WideDeepSpec, team: Team | None = None, *, threads: int = 1, keep_rate: float = 1.0) -> Learner:
    layout = layout_for(spec)
    net = net_of(spec, layout, standard_for(rows_of(layout, 500)), INTERCEPT, threads=threads)
    return Learner(net, spec, team or Alone(), keep_rate=keep_rate)


def batches(spec: WideDeepSpec, number: int, rows: int = 64) -> list[Rows]:
    return [rows_of(layout_for(spec), rows, seed=n) for n in range(number)]


# --- against torch ----------------------------------------------------------------------------


class Dense:
    """The same training, plainly: whole tables are parameters of torch's, all gradients are autograd's."""

    def __init__(self, net: Net, spec: WideDeepSpec) -> None:
        self.net, self.spec = net, spec
        self.tables = [net.embeddings.table(part).clone().requires_grad_() for part in net.layout.tables]
        self.wide = None if net.wide is None else net.wide.get_buffer("weight").clone().requires_grad_()
        self.dense = list(net.parameters())
        self.squares = [torch.zeros_like(one) for one in self.dense]
        self.row_squares = [torch.zeros(len(table)) for table in self.tables]
        self.z, self.n = (torch.zeros(1 << spec.wide_bits) for _ in range(2))

    def loss(self, rows: Rows) -> Tensor:
        """Σ w·loss."""
        whole, layout = torch.from_numpy(rows.whole).long(), self.net.layout
        x = self.net.inputs(torch.from_numpy(rows.whole), torch.from_numpy(rows.real)).x.clone()
        columns = list(x.split(1, dim=1))
        for part, table in zip(layout.tables, self.tables, strict=True):
            for slot, mask, offset, at in zip(part.slots, part.mask, part.offset, part.column, strict=True):
                columns[at : at + part.dim] = table[(whole[:, slot] & mask) + offset].split(1, dim=1)
        margins = self.net.margins(torch.cat(columns, dim=1))
        if self.wide is not None:
            margins = margins + self.wide[whole[:, list(layout.wide_places)] & (len(self.wide) - 1)].sum(dim=1)
        weight, label = torch.from_numpy(rows.weight), torch.from_numpy(rows.label)
        return functional.binary_cross_entropy_with_logits(margins, label, weight=weight, reduction="sum")

    def step(self, rows: Rows, rate: float) -> None:
        self.net.train()
        total = float(rows.weight.sum())
        every = [*self.dense, *self.tables, *([] if self.wide is None else [self.wide])]
        found = torch.autograd.grad(self.loss(rows), every)
        of_dense, of_tables = found[: len(self.dense)], found[len(self.dense) :][: len(self.tables)]
        scale = 1 / total
        if self.spec.clip_norm is not None:
            length = math.sqrt(sum(float((one / total).square().sum()) for one in (*of_dense, *of_tables)))
            scale *= min(1.0, self.spec.clip_norm / length)
        with torch.no_grad():
            for one, squares, g in zip(self.dense, self.squares, of_dense, strict=True):
                squares += (g * scale) ** 2
                one -= rate * g * scale / (squares.sqrt() + 1e-10)
            for table, own, g in zip(self.tables, self.row_squares, of_tables, strict=True):
                own += ((g * scale) ** 2).mean(dim=1)
                table -= rate * g * scale / (own.sqrt() + 1e-10)[:, None]
                self.net.embeddings.get_buffer(f"table_{table.shape[1]}").copy_(table)
            if self.wide is not None:
                self._ftrl(found[-1])

    def _ftrl(self, g: Tensor) -> None:
        assert self.wide is not None
        spec = self.spec.ftrl
        self.z += g - ((self.n + g * g).sqrt() - self.n.sqrt()) / spec.alpha * self.wide
        self.n += g * g
        shrunk = self.z - self.z.sign() * spec.l1
        weight = -shrunk / ((spec.beta + self.n.sqrt()) / spec.alpha + spec.l2)
        self.wide.copy_(torch.where(self.z.abs() <= spec.l1, 0.0, weight))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"arch": "deep", "layer_norm": True},
        {"arch": "dcn_v2"},
        {"arch": "dcn_v2", "cross_rank": 2},
        {"clip_norm": 0.01},
        {"warmup_steps": 4},
        {"hidden": []},
    ],
)
def test_steps_are_those_of_whole_tables_and_autograd(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    own, other = learner(spec, threads=2), learner(spec)
    dense = Dense(other.net, spec)
    for step, rows in enumerate(batches(spec, 6, 300)):  # (pieces of 128, 128 and 44 rows)
        before = float(dense.loss(rows).detach()) / rows.weight.sum()
        assert own.step(rows, step=step).loss == pytest.approx(before, rel=2e-5)
        dense.step(rows, own.rate(step))
    if dense.wide is not None:
        assert 0 < (dense.wide == 0).sum() < len(dense.wide)
        torch.testing.assert_close(own.net.tensors()["wide.weight"], dense.wide.detach(), rtol=1e-3, atol=1e-5)
    # Adagrad's first step is ± the rate, however small the gradient: rounding shows in a few weights.
    for name, tensor in dense.net.tensors().items():
        if name != "wide.weight":
            torch.testing.assert_close(own.net.tensors()[name], tensor, rtol=1e-2, atol=2e-4)


def test_the_learning_rate_rises_over_the_warm_up_and_with_the_ranks() -> None:
    spec = spec_of(warmup_steps=4, learning_rate=0.2)
    assert [learner(spec).rate(n) for n in (0, 1, 3, 9)] == pytest.approx([0.05, 0.1, 0.2, 0.2])
    for scaled, most in ((False, 0.2), (True, 0.6)):
        spec = spec_of(learning_rate=0.2, scale_learning_rate=scaled)
        assert learner(spec, Gathered(3, threading.Barrier(3), [None] * 3, 0)).rate(0) == pytest.approx(most)


# --- what every practitioner looks at ---------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"arch": "deep"}, {"arch": "dcn_v2"}, {"precision": "bf16"}])
def test_the_first_loss_is_the_entropy_of_the_base_rate(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    (rows,) = batches(spec, 1, 400)
    q = float(rows.weight @ rows.label / rows.weight.sum())
    net = net_of(spec, layout_for(spec), standard_for(rows), math.log(q / (1 - q)))
    found = Learner(net, spec, Alone()).step(rows, step=0)
    assert found.loss == pytest.approx(-q * math.log(q) - (1 - q) * math.log(1 - q), rel=1e-6)
    assert found.weight_sum == pytest.approx(rows.weight.sum())
    assert found.click_sum == rows.label.sum()


@pytest.mark.parametrize("keep_rate", [0.04, 1.0])
def test_a_step_tells_the_loss_of_p_with_rows_weighted_as_full_traffic_has_them(keep_rate: float) -> None:
    own = learner(spec_of(), keep_rate=keep_rate)
    for step, rows in enumerate(batches(spec_of(), 4)):
        margins = own.margins(rows.whole, rows.real).astype(np.float64)
        found = own.step(rows, step=step)
        p = 1 / (1 + np.exp(-margins) / keep_rate)
        full = rows.weight * np.where(rows.label == 1, 1, 1 / keep_rate)
        told = found.full_loss_sum / found.full_weight_sum
        assert told == pytest.approx(log_loss(rows.label, p, full), rel=2e-6)
        assert found.click_sum / found.full_weight_sum == pytest.approx(full @ rows.label / full.sum(), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
@pytest.mark.parametrize("arch", ["wide_deep", "deep", "dcn_v2"])
def test_a_few_rows_are_learned_by_heart(arch: str, optimizer: str) -> None:
    spec = spec_of(arch=arch, optimizer=optimizer, hidden=[32, 16], embedding={"dim": 8})
    (rows,) = batches(spec, 1, 32)
    losses = learner(spec).overfit(rows)
    assert len(losses) == 200
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("changes", [{}, {"arch": "dcn_v2", "layer_norm": True}])
def test_gradient_reaches_every_group(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    own = learner(spec)
    assert own.gradient_norms() == {}
    for step, rows in enumerate(batches(spec, 2)):
        own.step(rows, step=step)
    norms = own.gradient_norms()
    assert {"embeddings.table_2", "embeddings.table_4", "intercept", "head.weight"} <= norms.keys()
    assert ("wide" in norms) == (spec.arch == "wide_deep")
    assert all(norm > 0 for norm in norms.values())


def test_a_loss_that_is_not_finite_says_where_and_changes_nothing() -> None:
    spec = spec_of()
    own = learner(spec)
    (rows,) = batches(spec, 1)
    own.step(rows, step=0)
    own.net.tensors()["body.layers.0.weight"].fill_(1e30)
    own.net.tensors()["head.weight"].fill_(1e30)
    before = {name: tensor.clone() for name, tensor in own.state().items()}
    with pytest.raises(
        NonFiniteLossError, match=r"step 7: .*rank 0.*part-0.parquet, row group 1.*body.layers.0 .*e\+"
    ):
        own.step(rows, step=7)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state().items())


# --- ranks ------------------------------------------------------------------------------------


class Gathered:
    """A rank that lives in a thread, and takes what the others have left."""

    bytes_sent = 0

    def __init__(self, size: int, barrier: threading.Barrier, left: list[Any], rank: int) -> None:
        self.size, self.rank, self._barrier, self._left = size, rank, barrier, left

    def broadcast(self, tensor: Tensor) -> None:
        tensor.copy_(self._all(tensor)[0])

    def sum(self, tensor: Tensor) -> None:
        tensor.copy_(torch.stack(self._all(tensor.clone())).sum(dim=0))

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return merged(self._all((index.clone(), rows.clone())))

    def _all(self, own: Any) -> list[Any]:
        self._left[self.rank] = own
        self._barrier.wait(20)
        found = list(self._left)
        self._barrier.wait(20)
        return found


def on_ranks(size: int, work: Callable[[Team], Any]) -> list[Any]:
    barrier, left, found = threading.Barrier(size), [None] * size, [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = work(Gathered(size, barrier, left, rank))
        except Exception as error:  # noqa: BLE001
            found[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def trained(own: Learner, every: list[Rows]) -> tuple[list[Stepped], Learner]:
    return [own.step(rows, step=step) for step, rows in enumerate(every)], own


@pytest.mark.parametrize("changes", [{}, {"arch": "dcn_v2", "clip_norm": 0.02}, {"optimizer": "adam"}])
def test_ranks_of_b_rows_are_one_rank_of_all_their_rows(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    every = batches(spec, 20, 96)
    alone, one = trained(learner(spec, keep_rate=0.2), every)
    ends = [(0, 40), (40, 96), (96, 96)]  # (a rank's mean is not the mean, and one rank has no rows)

    def rank(team: Team) -> tuple[list[Stepped], Learner]:
        return trained(learner(spec, team, keep_rate=0.2), [rows.cut(*ends[team.rank]) for rows in every])

    found = on_ranks(3, rank)
    for losses, own in found:
        np.testing.assert_allclose(losses, alone, rtol=1e-5)  # (all that a step tells)
        for name, tensor in own.state().items():
            assert torch.equal(tensor, found[0][1].state()[name]), "ranks differ"
            torch.testing.assert_close(tensor, one.state()[name], rtol=1e-2, atol=1e-3)


def test_rows_of_weight_0_at_the_end_count_for_nothing() -> None:
    spec = spec_of()
    every = batches(spec, 5, 40)
    filled = [
        Rows(*(np.concatenate([part, np.zeros((9, *part.shape[1:]), part.dtype)]) for part in rows[:4]))
        for rows in every
    ]
    (_, own), (_, other) = trained(learner(spec), every), trained(learner(spec), filled)
    assert all(torch.equal(tensor, other.state()[name]) for name, tensor in own.state().items())


def test_a_loss_that_is_not_finite_stops_all_ranks_and_one_of_them_is_to_blame() -> None:
    spec = spec_of()
    (rows,) = batches(spec, 1)

    def rank(team: Team) -> Any:
        own = learner(spec, team)
        bad = rows._replace(weight=np.where(np.arange(64) == 3, np.inf, 1).astype(np.float32))
        with pytest.raises(NonFiniteLossError if team.rank else BrokenTeamError) as told:
            own.step(bad if team.rank else rows, step=0)
        return str(told.value)

    first, second = on_ranks(2, rank)
    assert "another rank" in first
    assert "on rank 1" in second


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"dropout": 0.3}, {"optimizer": "adam", "arch": "dcn_v2", "dropout": 0.5}])
def test_it_goes_on_from_its_state_as_if_nothing_had_been(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    every = batches(spec, 6)
    _, whole = trained(learner(spec), every)
    _, begun = trained(learner(spec), every[:3])
    kept = {name: tensor.clone() for name, tensor in begun.state().items()}
    later = learner(spec.model_copy(update={"seed": spec.seed}))
    later.load(kept)
    for step in range(3, 6):
        later.step(every[step], step=step)
    assert all(torch.equal(tensor, later.state()[name]) for name, tensor in whole.state().items())


def test_dropout_is_drawn_by_rank_and_step() -> None:
    spec = spec_of(dropout=0.5)
    (rows,) = batches(spec, 1)

    def after(step: int) -> Tensor:
        own = learner(spec)
        own.net.tensors()["head.weight"].fill_(1.0)
        own.step(rows, step=step)
        return own.net.tensors()["body.layers.0.weight"].clone()

    assert torch.equal(after(0), after(0))
    assert not torch.equal(after(0), after(1))
    kept = learner(spec).margins(rows.whole, rows.real)
    assert np.array_equal(kept, learner(spec).margins(rows.whole, rows.real))


def test_dropout_is_drawn_alike_however_many_threads_there_are() -> None:
    spec = spec_of(dropout=0.5)
    every = batches(spec, 3, 700)
    one, four = (trained(learner(spec, threads=threads), every)[1].state() for threads in (1, 4))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, four[name], rtol=1e-2, atol=2e-4)


def test_a_state_of_another_network_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"dense\.mean"):
        learner(spec_of()).load(learner(spec_of(optimizer="adam")).state())


def test_a_warm_start_has_the_weights_and_nothing_of_what_the_optimisers_knew() -> None:
    spec = spec_of()
    every = batches(spec, 12)
    _, first = trained(learner(spec), every)
    tensors = {name: tensor.clone() for name, tensor in first.net.tensors().items()}
    warm = learner(spec)
    warm.start(tensors)
    assert np.array_equal(warm.margins(*every[0][:2]), first.margins(*every[0][:2]))
    state = warm.state()
    assert not any(state[name].any() for name in state if name.endswith("squares"))
    moved = warm.net.tensors()["wide.weight"].clone()
    assert moved.any()
    warm.step(every[0], step=0)
    seen = warm.net.tensors()["wide.weight"]
    assert not torch.equal(seen, moved)
    assert torch.nonzero(seen).numel() >= 0.9 * torch.nonzero(moved).numel(), "the wide part was thrown away"
