"""The linear part on leaves, without Spark: the weight of every leaf is that of its hash."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import trees
from trees import NAMES, Held, log

from clickmill.errors import ArtifactError, MissingColumnsError
from clickmill.hashing import hash_slot, to_index
from clickmill.metrics import log_loss
from clickmill.models import artifact
from clickmill.models.card import Card
from clickmill.models.leaves import Leaves
from clickmill.models.trees import booster_from
from clickmill.models.trees_logreg import TreesLogregModel
from clickmill.models.xgboost import Inputs
from clickmill.specs import LogregSpec, TreesLogregSpec, XgboostSpec
from clickmill.train.logreg import worker as linear
from clickmill.train.ring import SoloRing
from clickmill.train.trees_logreg.worker import Task, fit
from clickmill.train.xgboost import worker as grow

BITS = 18
DATASET = {
    "name": "d",
    "source": {"path": "x", "format": "parquet"},
    "label": "y",
    "event_time": {"kind": "column", "column": "t"},
    "slots": ["site"],
    "numbers": [name.removeprefix("n_") for name in NAMES],
}


def rows(count: int, seed: int) -> pa.RecordBatch:
    batch = log(count, seed=seed)
    site = np.random.default_rng(seed).integers(0, 5, batch.num_rows)
    hashes = hash_slot("site", [f"s{value}" for value in site.tolist()])
    return batch.append_column("s_site", pa.array(hashes, pa.int32()))


class WithSite(Held):
    def validation(self) -> list[pa.RecordBatch]:
        return [batch.select([*NAMES, "s_site", "label"]) for batch in self._validation]


EARLY, LATE, VALIDATION, TEST = (rows(4000, seed) for seed in range(4))
GROWN = grow.fit(Held([EARLY], [VALIDATION]), SoloRing(), trees.task(rounds=7, max_depth=3))
LEAVES = Leaves(GROWN.booster, Inputs(NAMES))


def trained(**changes: Any) -> linear.Fitted:
    spec = LogregSpec(bits=BITS, l2=1e-3, columns={"slots": ["site"], "numbers": []}, **changes)
    columns = ("s_site", *LEAVES.names)
    task = Task(LEAVES, linear.Task(spec, columns, ("site", *LEAVES.names)))
    return fit(WithSite([LATE], [VALIDATION]), SoloRing(), task)


def saved(root: Path, fitted: linear.Fitted, *, booster: bytes | None = GROWN.booster, **changes: Any) -> str:
    spec = TreesLogregSpec(
        trees=XgboostSpec(values="hashes", columns={"slots": [], "crosses": []}),
        linear=LogregSpec(bits=BITS, columns={"slots": ["site"], "numbers": []}),
    )
    values: dict[str, Any] = {
        "model_id": "hybrid-2026-01-10-0123abcd",
        "name": "hybrid",
        "kind": "trees_logreg",
        "keep_rate": 1.0,
        "correction": "prior",
        "spec": spec.model_dump(mode="json"),
        "dataset": DATASET,
        "edges": [],
        "seed": 42,
        "stretches": {},
        "tables": {},
        "training": {},
        "created_by": "test",
    }
    card = Card.model_validate(values | changes)
    return artifact.save(str(root), card, linear.arrays_of(fitted, spec.linear), further=booster).path


def test_a_leaf_is_hashed_like_any_value() -> None:
    from xgboost import DMatrix

    matrix = DMatrix(Inputs(NAMES).matrix(TEST), feature_names=list(NAMES))
    nodes = booster_from(GROWN.booster).predict(matrix, pred_leaf=True).astype(int)
    beside = LEAVES.beside(TEST)
    assert LEAVES.names == ("t0", "t1", "t2", "t3", "t4", "t5", "t6")
    for tree in (0, 6):
        expected = hash_slot(f"t{tree}", [f"leaf{node}" for node in nodes[:, tree]])
        np.testing.assert_array_equal(beside[f"t{tree}"].to_numpy(), expected)
    assert LEAVES.beside(TEST.slice(0, 0)).schema == beside.schema
    with pytest.raises(MissingColumnsError, match="n_3"):
        LEAVES.beside(TEST.drop_columns(["n_3"]))


def test_the_model_weighs_the_hashes_of_values_and_leaves(tmp_path: Path) -> None:
    fitted = trained()
    model = artifact.load(saved(tmp_path, fitted))
    assert isinstance(model, TreesLogregModel)
    assert model.columns == ("s_site", *NAMES)
    weight = dict(zip(fitted.keys.tolist(), fitted.weight.tolist(), strict=True))
    expected = np.full(TEST.num_rows, fitted.intercept)
    for column in ("s_site", *LEAVES.names):
        index = to_index(LEAVES.beside(TEST)[column].to_numpy(), BITS).view(np.uint32)
        expected += [weight.get(key, 0.0) for key in index.tolist()]
    np.testing.assert_allclose(model.margins(TEST), expected, rtol=0, atol=1e-12)
    sent = pickle.loads(pickle.dumps(model))  # noqa: S301  (how Spark sends it to workers)
    np.testing.assert_array_equal(sent.margins(TEST), model.margins(TEST))
    assert model.margins(TEST.slice(0, 0)).shape == (0,)


def test_leaves_say_more_than_the_slot_alone(tmp_path: Path) -> None:
    p = 1 / (1 + np.exp(-artifact.load(saved(tmp_path, trained())).margins(TEST)))
    label = TEST["label"].to_numpy()
    base = np.full(len(label), LATE["label"].to_numpy().mean())
    assert log_loss(label, p) < log_loss(label, base) - 0.02


def test_leaves_grown_on_the_labels_they_are_weighed_by_look_surer_than_they_are() -> None:
    """Why the two parts have times of their own: leaves of small trees on few rows know these rows' labels."""
    few = [rows(600, seed) for seed in (11, 12)]
    deep = trees.task(rounds=30, max_depth=6, min_child_weight=0.0, eta=0.5)
    grown = grow.fit(Held([few[0]], [VALIDATION]), SoloRing(), deep)
    leaves = Leaves(grown.booster, Inputs(NAMES))
    losses = []
    for own in few:
        spec = LogregSpec(bits=BITS, l2=1e-3)
        task = Task(leaves, linear.Task(spec, leaves.names, leaves.names))
        figures = fit(WithSite([own], [VALIDATION]), SoloRing(), task).figures
        losses.append((figures["train_log_loss"], figures["validation_log_loss"]))
    (dishonest, worse), (_, better) = losses
    assert dishonest < 0.1
    assert better < worse - 0.1


def test_an_artifact_that_lacks_a_part_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there are none"):
        artifact.load(saved(tmp_path, trained(), booster=None))
    with pytest.raises(ArtifactError, match="no spec of linear"):
        artifact.load(saved(tmp_path, trained(), spec={"kind": "trees_logreg", "trees": {}}))
    other = grow.fit(Held([EARLY], [VALIDATION]), SoloRing(), trees.task(rounds=3, max_depth=2)).booster
    with pytest.raises(ArtifactError, match="columns with 8 weights"):
        artifact.load(saved(tmp_path, trained(), booster=other))
