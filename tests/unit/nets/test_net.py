"""Networks against their formulas, written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make deep)")

from numpy.typing import NDArray
from unit.nets.networks import Rows, layout_for, rows_of, spec_of, standard_for

from clickmill.errors import ArtifactError
from clickmill.nets.dcn_v2 import Crosses
from clickmill.nets.embedding import Embeddings
from clickmill.nets.hands import Hands
from clickmill.nets.net import Net, net_of
from clickmill.nets.numbers import Numbers
from clickmill.specs import WideDeepSpec

Doubles = NDArray[np.float64]


def made(spec: WideDeepSpec, n: int = 50, *, threads: int = 1) -> tuple[Net, Rows]:
    """A network none of whose weights is 0, and rows."""
    layout = layout_for(spec)
    rows = rows_of(layout, n)
    net = net_of(spec, layout, standard_for(rows_of(layout, 50)), -1.5, threads=threads)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in net.tensors().items():
            if not name.startswith("numbers"):
                tensor.normal_(0, 0.3, generator=generator)
    return net, rows


def said(net: Net, rows: Rows) -> NDArray[np.float32]:
    with torch.no_grad():
        out: NDArray[np.float32] = net(torch.from_numpy(rows.whole), torch.from_numpy(rows.real)).numpy()
    return out


def remixed(h: int) -> int:
    """MurmurHash3's finalizer of the hash with another start."""
    h = (h & 0xFFFFFFFF) ^ 0x9E3779B9
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


def input_of(net: Net, rows: Rows) -> Doubles:
    """What the deep part eats, row by row."""
    layout, tensors = net.layout, {name: t.numpy().astype(np.float64) for name, t in net.tensors().items()}
    begin: dict[int, int] = {}
    parts = []
    for dim in sorted(set(layout.dims)):
        at = 0
        for place, own in enumerate(layout.dims):
            if own == dim:
                begin[place] = at
                at += 1 << layout.bits[place]
    for place, (dim, bits) in enumerate(zip(layout.dims, layout.bits, strict=True)):
        table, mask = tensors[f"embeddings.table_{dim}"], (1 << bits) - 1
        hashes = [int(h) for h in rows.whole[:, place]]
        found = table[[begin[place] + (h & mask) for h in hashes]]
        if layout.rows_per_value == 2:
            found = found + table[[begin[place] + (remixed(h) & mask) for h in hashes]]
        parts.append(found)
    x = np.sign(rows.real) * np.log1p(np.abs(rows.real, dtype=np.float64))
    missing = np.isnan(x)
    parts.append(np.where(missing, 0, (x - tensors["numbers.mean"]) * tensors["numbers.scale"]))
    return np.concatenate([*parts, missing.astype(np.float64)], axis=1)


def hidden(tensors: dict[str, Doubles], x: Doubles, prefix: str, *, layer_norm: bool = False) -> Doubles:
    places = sorted({int(name.split(".")[-2]) for name in tensors if name.startswith(prefix)})
    for place in places:
        weight, bias = tensors[f"{prefix}{place}.weight"], tensors[f"{prefix}{place}.bias"]
        if weight.ndim == 1:
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * weight + bias
        else:
            x = x @ weight.T + bias
        if weight.ndim == 1 or not layer_norm:
            x = np.maximum(x, 0)
    return x


def expected(net: Net, rows: Rows, *, layer_norm: bool = False) -> Doubles:
    tensors = {name: t.numpy().astype(np.float64) for name, t in net.tensors().items()}
    first = input_of(net, rows)
    crosses = [name for name in tensors if name.startswith("body.crosses")]
    if crosses:
        x = first
        for layer in range(3):
            own = f"body.crosses.layers.{layer}"
            if f"{own}.weight" in tensors:
                inner = x @ tensors[f"{own}.weight"].T
                bias = tensors[f"{own}.bias"]
            else:
                inner = x @ tensors[f"{own}.0.weight"].T @ tensors[f"{own}.1.weight"].T
                bias = tensors[f"{own}.1.bias"]
            x = first * (inner + bias) + x
        body = np.concatenate([x, hidden(tensors, first, "body.deep.layers.")], axis=1)
    else:
        body = hidden(tensors, first, "body.layers.", layer_norm=layer_norm)
    out = body @ tensors["head.weight"][0] + tensors["intercept"]
    if "wide.weight" in tensors:
        at = rows.whole[:, list(net.layout.wide_places)] & (len(tensors["wide.weight"]) - 1)
        out = out + tensors["wide.weight"][at].sum(axis=1)
    return np.asarray(out)


SPECS: dict[str, dict[str, Any]] = {
    "wide_deep": {},
    "deep": {"arch": "deep"},
    "no hidden layer": {"hidden": []},
    "layer norm": {"arch": "deep", "layer_norm": True},
    "dcn_v2": {"arch": "dcn_v2"},
    "dcn_v2 of rank 3": {"arch": "dcn_v2", "cross_rank": 3},
    "shared": {"embedding": {"dim": 4, "share": [["a", "d"]]}},
    "two rows a value": {"embedding": {"dim": 4, "rows_per_value": 2}},
}


@pytest.mark.parametrize("name", [name for name in SPECS if name != "shared"])
def test_margins_are_those_of_the_formula(name: str) -> None:
    net, rows = made(spec_of(**SPECS[name]))
    want = expected(net, rows, layer_norm=name == "layer norm")
    np.testing.assert_allclose(said(net, rows), want, rtol=2e-4, atol=2e-5)


def test_dropout_changes_no_tensor_s_name() -> None:
    """So that a network goes on from one that was trained without it."""
    without, _ = made(spec_of())
    with_it, rows = made(spec_of(dropout=0.5))
    with_it.load(without.tensors())
    assert np.array_equal(said(with_it.eval(), rows), said(without, rows))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n", [0, 1, 1300])
def test_rows_have_their_own_margins_whatever_piece_and_thread_they_fall_to(n: int, threads: int) -> None:
    net, rows = made(spec_of(arch="dcn_v2"), n, threads=threads)
    np.testing.assert_allclose(said(net, rows), expected(net, rows), rtol=2e-4, atol=2e-5)


def test_slots_that_share_find_equal_rows_by_equal_hashes() -> None:
    net, rows = made(spec_of(**SPECS["shared"]))
    whole = rows.whole.copy()
    whole[:, 3] = whole[:, 0]
    x = net.inputs(torch.from_numpy(whole), torch.from_numpy(rows.real)).x
    assert torch.equal(x[:, 0:4], x[:, 12:16])
    assert not torch.equal(x[:, 0:4], x[:, 4:8])


@pytest.mark.parametrize("name", SPECS)
def test_every_margin_begins_at_the_intercept(name: str) -> None:
    spec = spec_of(**SPECS[name])
    layout = layout_for(spec)
    rows = rows_of(layout, 20)
    assert said(net_of(spec, layout, standard_for(rows), -1.25), rows).tolist() == [-1.25] * 20


def test_threads_change_no_bit() -> None:
    one, rows = made(spec_of(), 301)
    two, _ = made(spec_of(), 301, threads=3)
    assert np.array_equal(said(one, rows), said(two, rows))


@pytest.mark.parametrize("rows_per_value", [1, 2])
def test_tensors_find_what_loops_find(rows_per_value: int) -> None:
    """The way of a GPU, taken on the CPU."""
    spec = spec_of(embedding={"dim": 4, "dims": {"b": 2}, "rows_per_value": rows_per_value})
    layout = layout_for(spec)
    whole = torch.from_numpy(rows_of(layout, 30).whole)
    tables = Embeddings(layout, torch.Generator().manual_seed(1))
    for place in range(len(layout.tables)):
        outs = torch.zeros(2, 30, layout.width)
        loops = tables._put_by_loops(whole, outs[0], Hands(), place)
        tensors = tables._put_by_tensors(whole, outs[1], Hands(), place)
        assert torch.equal(loops.long(), tensors)
        assert torch.equal(outs[0], outs[1])
        assert outs.any()


def test_numbers_are_squeezed_and_missing_ones_flagged() -> None:
    real = torch.tensor([[float("nan"), -(np.e - 1)], [np.e - 1, 0.0]], dtype=torch.float32)
    standard = standard_for(Rows(*[np.array([[1.0, 1.0]], np.float32)] * 4))._replace(
        mean=np.array([0.5, 0.0], np.float32), scale=np.array([2.0, 1.0], np.float32)
    )
    out = torch.full((2, 5), 9.0)
    Numbers(standard).put(real, out, 1, Hands())
    np.testing.assert_allclose(out, [[9, 0, -1, 1, 0], [9, 1, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("arch", ["wide_deep", "dcn_v2"])
def test_bf16_is_of_the_layers_alone(arch: str) -> None:
    fp32, rows = made(spec_of(arch=arch))
    bf16, _ = made(spec_of(arch=arch, precision="bf16"))
    assert {t.dtype for t in bf16.tensors().values()} == {torch.float32}
    gap = np.abs(said(fp32, rows) - said(bf16, rows)).max()
    assert 0 < gap < 0.05
    assert np.array_equal(said(fp32.eval(), rows), said(bf16.eval(), rows)), "scores are those of fp32"


def test_tensors_are_taken_over_and_others_refused() -> None:
    net, rows = made(spec_of())
    other = net_of(spec_of(seed=9), net.layout, standard_for(rows_of(net.layout, 9, seed=4)), 0.0)
    other.load({name: tensor.clone() for name, tensor in net.tensors().items()})
    assert np.array_equal(said(other, rows), said(net, rows))
    with pytest.raises(ArtifactError, match=r"'head.weight'\]"):
        other.load(net.tensors() | {"head.weight": torch.zeros(1, 3)})
    with pytest.raises(ArtifactError, match=r"body\.layers"):
        other.load(made(spec_of(arch="dcn_v2"))[0].tensors())


def test_a_seed_is_a_beginning() -> None:
    first, again, other = (made_new(seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def made_new(seed: int) -> list[Any]:
    spec = spec_of(seed=seed)
    layout = layout_for(spec)
    return list(net_of(spec, layout, standard_for(rows_of(layout, 9)), 0.0).tensors().values())


@pytest.mark.parametrize(("width", "rank", "parts"), [(128, 64, 1), (130, 64, 2), (130, None, 1)])
def test_a_rank_parts_a_matrix_where_that_makes_it_smaller(width: int, rank: int | None, parts: int) -> None:
    (layer,) = Crosses(width, 1, rank, None).layers
    assert sum(weight.ndim == 2 for weight in layer.parameters()) == parts
