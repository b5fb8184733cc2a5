"""Trees as an artifact: what was grown is what is loaded and scores, or it is said what is missing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill.encoding import Counts, History, Snapshot
from clickmill.errors import ArtifactError, MissingColumnsError
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.models.card import Card
from clickmill.models.encoded import Encoder
from clickmill.models.trees import booster_from
from clickmill.models.xgboost import Inputs

ROWS = 400
COUNTED = {"columns": ["s_site"], "period": "day", "window": 7, "strength": 5.0, "lag": 0}
DATASET = {
    "name": "d",
    "source": {"path": "x", "format": "parquet"},
    "label": "y",
    "event_time": {"kind": "column", "column": "t"},
    "slots": ["site"],
    "numbers": ["price"],
}


def rows() -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    sites = rng.integers(-(2**31), 2**31, 12).astype(np.int32)
    columns = {"s_site": sites[rng.integers(0, 12, ROWS)], "n_price": rng.normal(size=ROWS).astype(np.float32)}
    return pa.RecordBatch.from_pydict(columns)


def inputs() -> Inputs:
    own = rows()["s_site"].to_numpy()
    counts = Counts.of(own[:300], np.full(300, 20_000, np.int32), (own[:300] % 3 == 0).astype(np.int8))
    known = {"s_site": Snapshot.of(History.of(counts), 20_001, 7)}
    return Inputs(("n_price",), encoder=Encoder(("s_site",), "day", 7, 5.0, snapshots=known))


def card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "model_id": "trees-2026-01-10-0123abcd",
        "name": "trees",
        "kind": "xgboost",
        "keep_rate": 0.5,
        "correction": "prior",
        "spec": {"kind": "xgboost", "rounds": 4},
        "dataset": DATASET,
        "edges": [],
        "seed": 42,
        "stretches": {},
        "tables": {},
        "training": {},
        "encodings": COUNTED,
        "created_by": "test",
    }
    return Card.model_validate(values | changes)


def grown(names: tuple[str, ...] | None = None) -> bytes:
    """Trees that eat the columns of `inputs`, by names of their own."""
    import xgboost

    eaten = inputs()
    label = (rows()["n_price"].to_numpy() > 0).astype(np.float32)
    matrix = xgboost.DMatrix(eaten.matrix(rows()), label, feature_names=list(names or eaten.names))
    return bytes(xgboost.train({"objective": "binary:logistic"}, matrix, num_boost_round=4).save_raw("ubj"))


def arrays() -> dict[str, np.ndarray]:
    encoder = inputs().encoder
    assert encoder is not None
    return {f"s_site.{name}": array for name, array in encoder.snapshots["s_site"]._asdict().items()}


def loaded(folder: Path, one: Card, found: dict[str, np.ndarray], booster: bytes | None) -> Model:
    return artifact.load(artifact.save(str(folder), one, found, further=booster).path)


def test_what_was_grown_is_what_scores_here_and_on_a_worker(tmp_path: Path) -> None:
    trees = grown()
    model = loaded(tmp_path, card(), arrays(), trees)
    assert model.columns == ("n_price", "s_site")
    expected = booster_from(trees).inplace_predict(inputs().matrix(rows()), predict_type="margin")
    np.testing.assert_array_equal(model.margins(rows()), expected.astype(np.float64))
    sent = pickle.loads(pickle.dumps(model))  # noqa: S301  (how Spark sends it to workers)
    np.testing.assert_array_equal(sent.margins(rows()), model.margins(rows()))
    assert model.margins(rows().slice(0, 0)).shape == (0,)


def test_trees_or_counts_that_are_missing_or_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has trees, and there are none"):
        loaded(tmp_path, card(), arrays(), None)
    with pytest.raises(ArtifactError, match="the trees cannot be read"):
        loaded(tmp_path, card(), arrays(), b"no trees")
    less = {name: array for name, array in arrays().items() if name != "s_site.clicks"}
    with pytest.raises(ArtifactError, match=r"no array 's_site\.clicks'"):
        loaded(tmp_path, card(), less, grown())
    names = ("n_price", "e_shop_impressions", "e_shop_clicks", "e_shop_rate")
    with pytest.raises(ArtifactError, match=r"the trees eat .*e_shop_rate.*, its card says .*e_site_rate"):
        loaded(tmp_path, card(), arrays(), grown(names))


@pytest.mark.parametrize("column", ["n_price", "s_site"])
def test_a_column_that_is_not_there_is_named(tmp_path: Path, column: str) -> None:
    model = loaded(tmp_path, card(), arrays(), grown())
    with pytest.raises(MissingColumnsError, match=column):
        model.margins(rows().drop_columns([column]))
