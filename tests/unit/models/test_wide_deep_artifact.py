"""Networks as artifacts: what was trained is what is loaded and scores, or it is said what is missing."""

from __future__ import annotations

import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill.dataset import Dataset
from clickmill.errors import ArtifactError, MissingColumnsError, PlatformError
from clickmill.models import artifact, wide_deep
from clickmill.models.card import Card
from clickmill.models.wide_deep import WideDeepModel, parts_in, put_whole
from clickmill.nets.layout import Layout, layout_of
from clickmill.specs import WideDeepSpec

torch = pytest.importorskip("torch", reason="networks need `make deep`")

ROWS = 9000
"""More than go through a network at once."""
DATASET = {
    "name": "d",
    "source": {"path": "x", "format": "parquet"},
    "label": "y",
    "event_time": {"kind": "column", "column": "t"},
    "slots": ["site", "ad"],
    "numbers": ["price"],
    "crosses": [["site", "ad"]],
}
COLUMNS = ("s_site", "s_ad", "s_price", "x_site_ad")


def spec(**changes: Any) -> WideDeepSpec:
    embedding = {"dim": 4, "dims": {"ad": 8}}
    return WideDeepSpec.model_validate({"wide_bits": 12, "embedding": embedding, "hidden": [8, 4]} | changes)


def layout(one: WideDeepSpec) -> Layout:
    return layout_of(one, Dataset.model_validate(DATASET), {"site": 6, "ad": 9})


def trained(one: WideDeepSpec) -> Any:
    """A network whose weights are not those that it began with; half of its wide part is 0."""
    from clickmill.nets.net import net_of
    from clickmill.nets.standard import standard_of

    net = net_of(one, layout(one), standard_of([[10, 20.0, 50.0]]), -1.0)
    generator = torch.Generator().manual_seed(3)
    for name, tensor in net.tensors().items():
        if tensor.is_floating_point() and name != "numbers.scale":
            tensor.add_(torch.empty_like(tensor).normal_(0, 0.3, generator=generator))
    if net.wide is not None:
        net.tensors()["wide.weight"][::2] = 0
    return net


def parts(folder: Path, net: Any) -> tuple[dict[str, Any], bytes]:
    from safetensors.torch import save_file

    place = folder / "network.safetensors"
    save_file(net.tensors(), place)
    return parts_in(place)


def rows(count: int = ROWS) -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    hashed = {name: rng.integers(-(2**31), 2**31, count).astype(np.int32) for name in COLUMNS}
    price = pa.array(rng.lognormal(size=count).astype(np.float32), mask=rng.random(count) < 0.2)
    return pa.RecordBatch.from_pydict({**hashed, "n_price": price})


def margins(net: Any, batch: pa.RecordBatch) -> np.ndarray:
    """By the network as it is trained."""
    whole = np.stack([batch[name].to_numpy() for name in net.layout.whole], axis=1)
    real = batch["n_price"].to_numpy(zero_copy_only=False).astype(np.float32)[:, None]
    with torch.no_grad():
        found: np.ndarray = net.eval()(torch.from_numpy(whole), torch.from_numpy(real)).numpy()
    return found


def card(one: WideDeepSpec, **changes: Any) -> Card:
    values: dict[str, Any] = {
        "model_id": "deep-2026-01-10-0123abcd",
        "name": "deep",
        "kind": "wide_deep",
        "keep_rate": 0.5,
        "correction": "prior",
        "spec": one.model_dump(mode="json"),
        "dataset": DATASET,
        "edges": [0.0, 1.0],
        "seed": 42,
        "stretches": {},
        "tables": {},
        "training": {},
        "layout": asdict(layout(one)),
        "created_by": "test",
    }
    return Card.model_validate(values | changes)


def saved(root: Path, one: WideDeepSpec, **changes: Any) -> str:
    arrays, network = parts(root, trained(one))
    return artifact.save(str(root), card(one, **changes), arrays, further=network).path


@pytest.mark.parametrize("arch", ["wide_deep", "dcn_v2", "deep"])
def test_margins_are_those_of_the_network_that_was_trained(tmp_path: Path, arch: str) -> None:
    one, batch = spec(arch=arch, layer_norm=arch == "deep"), rows()
    model = artifact.load(saved(tmp_path, one))
    assert isinstance(model, WideDeepModel)
    expected = margins(trained(one), batch)
    assert expected.std() > 0.1
    np.testing.assert_allclose(model.margins(batch), expected, rtol=0, atol=2e-6)
    assert model.columns == ((*COLUMNS, "n_price") if arch == "wide_deep" else ("s_site", "s_ad", "n_price"))
    assert model.encoded == ()
    assert model.looking_up("nowhere") is model
    for count in (0, 1):
        np.testing.assert_allclose(model.margins(batch.slice(0, count)), expected[:count], rtol=0, atol=2e-6)


def test_a_sent_model_scores_the_same_and_takes_nothing_along_that_is_made_from_it(tmp_path: Path) -> None:
    model, batch = artifact.load(saved(tmp_path, spec())), rows(50)
    before = pickle.dumps(model)
    found = model.margins(batch)
    assert len(pickle.dumps(model)) == len(before)
    np.testing.assert_array_equal(pickle.loads(before).margins(batch), found)  # noqa: S301


def test_what_training_went_on_from_is_what_was_trained(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model, place = artifact.load(saved(tmp_path, spec())), tmp_path / "whole.safetensors"
    assert isinstance(model, WideDeepModel)
    put_whole(model, place)
    again, wanted = load_file(place), trained(spec()).tensors()
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)
    assert len(model.wide_index) == 2**11  # those that are 0 are left out
    arrays, network = parts_in(place)
    assert network == model.network
    np.testing.assert_array_equal(arrays["wide_index"], model.wide_index)
    np.testing.assert_array_equal(arrays["wide_weight"], model.wide_weight)


def test_missing_hashes_are_refused_and_missing_numbers_are_not(tmp_path: Path) -> None:
    model, batch = artifact.load(saved(tmp_path, spec())), rows(20)
    with pytest.raises(MissingColumnsError, match="missing column s_ad"):
        model.margins(batch.drop_columns(["s_ad"]))
    with pytest.raises(MissingColumnsError, match="missing column n_price"):
        model.margins(batch.drop_columns(["n_price"]))
    place = batch.schema.get_field_index("n_price")
    none = batch.set_column(place, "n_price", pa.nulls(20, pa.float32()))
    assert np.isfinite(model.margins(none)).all()
    largest = batch.set_column(place, "n_price", pa.array([1e300] * 20))
    assert np.isfinite(model.margins(largest)).all()


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    one = spec()
    arrays, network = parts(tmp_path, trained(one))
    falling = {name: array[::-1] for name, array in arrays.items()}
    for own, further, changes, says in (
        (arrays, None, {}, "a network and its layout, and one is missing"),
        (arrays, network, {"layout": None}, "a network and its layout, and one is missing"),
        ({}, network, {}, "such a model has the arrays"),
        (falling, network, {}, "do not rise"),
    ):
        with pytest.raises(ArtifactError, match=says):
            artifact.load(artifact.save(str(tmp_path), card(one, **changes), own, further=further).path)
    for wrong, says in (
        (network[:-20], "cannot be read"),
        (parts(tmp_path, trained(spec(hidden=[8])))[1], "do not fit"),
    ):
        model = artifact.load(artifact.save(str(tmp_path), card(one), arrays, further=wrong).path)
        with pytest.raises(ArtifactError, match=says):
            model.margins(rows(5))
    lost = artifact.load(artifact.save(str(tmp_path), card(one), arrays, further=network).path)
    assert isinstance(lost, WideDeepModel)
    with pytest.raises(ArtifactError, match="do not fit"):
        replace(lost, layout=replace(lost.layout, bits=(6, 10))).margins(rows(5))


def test_without_torch_it_loads_and_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = saved(tmp_path, spec())
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "safetensors")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "clickmill.nets.net")
    wide_deep._built.cache_clear()
    model = artifact.load(place)
    with pytest.raises(PlatformError, match="make deep"):
        model.margins(rows(5))
