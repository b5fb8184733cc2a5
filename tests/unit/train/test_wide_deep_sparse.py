"""Gradients summed by row, and what optimisers make of them, against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make deep)")

from numpy.typing import NDArray
from unit.nets.networks import layout_for, rows_of, spec_of

from clickmill.nets.embedding import Embeddings
from clickmill.nets.hands import Hands
from clickmill.nets.wide import Wide
from clickmill.specs import Ftrl as FtrlSpec
from clickmill.train.wide_deep.optim.dense import Adagrad, Adam
from clickmill.train.wide_deep.optim.ftrl import Ftrl
from clickmill.train.wide_deep.optim.rows import RowAdagrad, RowAdam
from clickmill.train.wide_deep.sparse import TableSums, WideSums, merged, summed

CPU = torch.device("cpu")
Doubles = NDArray[np.float64]


def by_row(index: NDArray[np.int64], rows: Doubles) -> tuple[NDArray[np.int64], Doubles]:
    """Plainly: a dictionary of sums."""
    found: dict[int, Doubles] = {}
    for at, row in zip(index.tolist(), rows, strict=True):
        found[at] = found.get(at, np.zeros(rows.shape[1])) + row
    order = sorted(found)
    return np.array(order), np.array([found[at] for at in order])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows_per_value", [1, 2])
@pytest.mark.parametrize("share", [[], [["a", "d"]]])
def test_a_table_s_gradients_are_summed_by_row(threads: int, rows_per_value: int, share: list[list[str]]) -> None:
    dims = {"b": 2} if not share else {}
    spec = spec_of(embedding={"dim": 4, "dims": dims, "share": share, "rows_per_value": rows_per_value})
    layout, hands = layout_for(spec), Hands(threads)
    batch = rows_of(layout, 77)
    out = torch.empty(77, layout.width)
    found = Embeddings(layout, torch.Generator()).put(torch.from_numpy(batch.whole), out, hands)
    gradient = torch.randn(77, layout.width, generator=torch.Generator().manual_seed(1))
    for part, index in zip(layout.tables, found, strict=True):
        sums = TableSums(part, hands, CPU)
        columns = [gradient[:, at : at + part.dim] for at in part.column] * rows_per_value
        plain = by_row(index.reshape(-1).numpy(), torch.cat(columns).numpy().astype(np.float64))
        for _ in range(2):  # (marks are taken away again)
            rows, total = sums(index, gradient)
            assert rows.dtype == torch.int64
            assert np.array_equal(rows.numpy(), plain[0])
            np.testing.assert_allclose(total.numpy(), plain[1], rtol=1e-4, atol=1e-5)
        small = sums(index[:, :3].contiguous(), gradient[:3])
        assert len(small[0]) <= 3 * len(index)
        by_tensors = summed(index.reshape(-1), torch.cat(columns))
        assert torch.equal(by_tensors[0], rows)
        torch.testing.assert_close(by_tensors[1], sums(index, gradient)[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_wide_part_s_gradients_are_summed_by_weight(threads: int) -> None:
    layout, hands = layout_for(spec_of()), Hands(threads)
    batch = rows_of(layout, 60)
    _, index = Wide(layout)(torch.from_numpy(batch.whole), hands)
    gradient = torch.randn(60, generator=torch.Generator().manual_seed(2))
    plain = by_row(index.reshape(-1).numpy(), np.tile(gradient.numpy().astype(np.float64), len(index))[:, None])
    rows, total = WideSums(2**10, hands, CPU)(index, gradient)
    assert np.array_equal(rows.numpy(), plain[0])
    np.testing.assert_allclose(total.numpy(), plain[1], rtol=1e-4, atol=1e-5)


def test_no_rows_sum_to_nothing() -> None:
    layout, hands = layout_for(spec_of()), Hands(2)
    (part, *_) = layout.tables
    index = torch.empty((len(part.slots), 0), dtype=torch.int32)
    rows, total = TableSums(part, hands, CPU)(index, torch.empty(0, layout.width))
    assert rows.shape == (0,)
    assert total.shape == (0, part.dim)


def test_sums_of_ranks_are_merged() -> None:
    one = torch.tensor([1, 4, 7]), torch.tensor([[1.0], [2.0], [3.0]])
    two = torch.tensor([0, 4]), torch.tensor([[10.0], [20.0]])
    none = torch.empty(0, dtype=torch.int64), torch.empty(0, 1)
    rows, total = merged([one, none, two])
    assert rows.tolist() == [0, 1, 4, 7]
    assert total[:, 0].tolist() == [10, 1, 22, 3]
    assert merged([none, none])[0].tolist() == []


def steps(rows: int, dim: int, number: int) -> list[tuple[NDArray[np.int64], Doubles]]:
    """Made-up steps: some rows each, and their gradients."""
    rng = np.random.default_rng(6)
    return [
        (used := np.sort(rng.choice(rows, 5, replace=False)), rng.normal(size=(len(used), dim)) * 10.0**-n)
        for n in range(number)
    ]


def test_rows_have_one_step_size_by_adagrad() -> None:
    table = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    plain, squares = table.numpy().astype(np.float64), np.zeros(20)
    optimizer = RowAdagrad(table, Hands(2))
    for used, g in steps(20, 4, 5):
        optimizer.apply(torch.from_numpy(used), torch.from_numpy(g).float(), scale=0.25, rate=0.1)
        for at, row in zip(used, 0.25 * g, strict=True):
            squares[at] += (row**2).mean()
            plain[at] -= 0.1 * row / (np.sqrt(squares[at]) + 1e-10)
    np.testing.assert_allclose(table.numpy(), plain, rtol=1e-5, atol=1e-6)


def test_rows_have_one_step_size_by_adam_and_move_only_when_used() -> None:
    table = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    plain, mean, squares = table.numpy().astype(np.float64), np.zeros((20, 4)), np.zeros(20)
    optimizer = RowAdam(table, Hands(2))
    for n, (used, g) in enumerate(steps(20, 4, 5), start=1):
        optimizer.apply(torch.from_numpy(used), torch.from_numpy(g).float(), scale=0.25, rate=0.1)
        for at, row in zip(used, 0.25 * g, strict=True):
            mean[at] = 0.9 * mean[at] + 0.1 * row
            squares[at] = 0.999 * squares[at] + 0.001 * (row**2).mean()
            step = np.sqrt(squares[at] / (1 - 0.999**n)) + 1e-8
            plain[at] -= 0.1 * mean[at] / (1 - 0.9**n) / step
    np.testing.assert_allclose(table.numpy(), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("own", "peer"), [(Adagrad, torch.optim.Adagrad), (Adam, torch.optim.Adam)])
def test_dense_weights_move_as_torch_moves_them(own: type, peer: type) -> None:
    weights = torch.randn(30, generator=torch.Generator().manual_seed(1))
    theirs = torch.nn.Parameter(weights.clone())
    optimizer, other = own(weights), peer([theirs], lr=0.05)
    for n in range(6):
        theirs.grad = torch.randn(30, generator=torch.Generator().manual_seed(n)) * 10.0**-n
        optimizer.apply(theirs.grad, 0.05)
        other.step()
    torch.testing.assert_close(weights, theirs.detach(), rtol=1e-5, atol=1e-6)


class Paper:
    """FTRL-proximal, algorithm 1 of McMahan et al. 2013, a weight at a time."""

    def __init__(self, spec: FtrlSpec) -> None:
        self.spec, self.z, self.n = spec, 0.0, 0.0

    @property
    def weight(self) -> float:
        if abs(self.z) <= self.spec.l1:
            return 0.0
        shrunk = self.z - np.sign(self.z) * self.spec.l1
        return float(-shrunk / ((self.spec.beta + np.sqrt(self.n)) / self.spec.alpha + self.spec.l2))

    def see(self, g: float) -> None:
        sigma = (np.sqrt(self.n + g * g) - np.sqrt(self.n)) / self.spec.alpha
        self.z += g - sigma * self.weight
        self.n += g * g


def test_ftrl_is_the_paper_s_and_l1_keeps_weights_at_exactly_0() -> None:
    spec = FtrlSpec(alpha=0.1, beta=0.5, l1=2.0, l2=0.3)
    weight = torch.zeros(16)
    optimizer, papers = Ftrl(weight, spec, Hands(2)), [Paper(spec) for _ in range(16)]
    rng = np.random.default_rng(3)
    zeros = 0
    for _ in range(40):
        used = np.sort(rng.choice(16, 6, replace=False))
        g = rng.normal(size=6) * np.where(used < 8, 0.2, 2.0)
        optimizer.apply(torch.from_numpy(used), torch.from_numpy(g).float()[:, None])
        for at, one in zip(used, g, strict=True):
            papers[at].see(float(np.float32(one)))
        want = np.array([paper.weight for paper in papers])
        np.testing.assert_allclose(weight.numpy(), want, rtol=2e-3, atol=1e-6)
        zeros += int(((weight.numpy() == 0) & np.array([paper.n > 0 for paper in papers])).sum())
    assert zeros
    assert (weight[8:] != 0).any()


def test_ftrl_goes_on_from_weights_that_it_did_not_make() -> None:
    """Without anything new they stay as they are; a weight of 0 has L1's whole breadth to leave it."""
    spec = FtrlSpec(alpha=0.1, beta=0.5, l1=2.0, l2=0.3)
    weight = torch.tensor([0.4, -0.7, 0.0])
    optimizer = Ftrl(weight, spec, Hands())
    every = torch.arange(3)
    optimizer.apply(every, torch.zeros(3, 1))
    torch.testing.assert_close(weight, torch.tensor([0.4, -0.7, 0.0]))
    optimizer.apply(every, torch.tensor([[0.1], [0.1], [1.9]]))
    assert weight[0] < 0.4
    assert weight[1] < -0.7
    assert weight[2] == 0
