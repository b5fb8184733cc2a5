"""Artifacts: what is saved is what is loaded, whole, by its own name, and never by pickle."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill import hashing
from clickmill.errors import ArtifactError, KeepRateError, MissingColumnsError
from clickmill.models import artifact
from clickmill.models.card import Card

DATASET = {
    "name": "d",
    "source": {"path": "x", "format": "parquet"},
    "label": "y",
    "event_time": {"kind": "column", "column": "t"},
    "slots": ["a", "b"],
    "numbers": ["n"],
    "crosses": [["a", "b"]],
}


def card(bits: int = 22, **changes: Any) -> Card:
    values: dict[str, Any] = {
        "model_id": "lr-2026-01-10-0123abcd",
        "name": "lr",
        "kind": "logreg",
        "keep_rate": 0.5,
        "correction": "prior",
        "spec": {"kind": "logreg", "bits": bits},
        "dataset": DATASET,
        "edges": [0.0, 1.0],
        "seed": 42,
        "stretches": {},
        "tables": {"sample": 3},
        "training": {"loss": 0.1},
        "created_by": "test",
    }
    return Card.model_validate(values | changes)


def arrays(index: list[int], weight: list[float]) -> dict[str, np.ndarray]:
    return {
        "index": np.array(index, np.uint32),
        "weight": np.array(weight),
        "unseen": np.array([0.5, 0.25, 0.125, 0.0625]),
        "intercept": np.array([-2.0]),
    }


@pytest.mark.parametrize("bits", [18, 22, 27, 32])
def test_margins_are_those_of_a_dictionary(tmp_path: Path, bits: int) -> None:
    rng = np.random.default_rng(bits)
    columns = {
        name: rng.integers(-(2**31), 2**31, 500).astype(np.int32) for name in ("s_a", "s_b", "s_n", "x_a_b")
    }
    indices = {name: hashing.to_index(values, bits).view(np.uint32) for name, values in columns.items()}
    kept = np.unique(np.concatenate([values[:400] for values in indices.values()]))
    weights = rng.normal(size=len(kept))
    saved = artifact.save(str(tmp_path), card(bits), arrays(kept.tolist(), weights.tolist()))
    model = artifact.load(saved.path)
    assert model.columns == ("s_a", "s_b", "s_n", "x_a_b")
    table = dict(zip(kept.tolist(), weights.tolist(), strict=True))
    unseen = dict(zip(columns, (0.5, 0.25, 0.125, 0.0625), strict=True))
    expected = [-2.0 + sum(table.get(int(indices[c][i]), unseen[c]) for c in columns) for i in range(500)]
    batch = pa.RecordBatch.from_pydict(columns)
    np.testing.assert_allclose(model.margins(batch), expected, rtol=0, atol=1e-12)
    sent = pickle.loads(pickle.dumps(model))  # noqa: S301  (how Spark sends it to workers)
    np.testing.assert_array_equal(sent.margins(batch), model.margins(batch))


def test_a_model_without_weights_says_its_intercept_and_unseen_values(tmp_path: Path) -> None:
    model = artifact.load(artifact.save(str(tmp_path), card(), arrays([], [])).path)
    batch = pa.RecordBatch.from_pydict({name: np.array([7, -7], np.int32) for name in model.columns})
    assert model.margins(batch).tolist() == [-2.0 + 0.9375] * 2
    assert len(model.margins(batch.slice(0, 0))) == 0


def test_equal_content_has_an_equal_digest_and_is_written_once(tmp_path: Path) -> None:
    first = artifact.save(str(tmp_path), card(), arrays([3], [1.0]))
    again = artifact.save(str(tmp_path), card(), arrays([3], [1.0]))
    other = artifact.save(str(tmp_path), card(), arrays([3], [1.5]))
    assert first == again
    assert other.digest != first.digest
    assert sorted(path.name for path in (tmp_path / card().model_id).iterdir()) == sorted(
        (first.digest, other.digest)
    )
    assert sorted(path.name for path in Path(first.path).iterdir()) == ["model.json", "weights.npz"]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    saved = artifact.save(str(tmp_path), card(), arrays([3], [1.0]))
    file = Path(saved.path) / "model.json"
    file.write_text(file.read_text().replace("0.5", "0.6"))
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.load(saved.path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    files = {"model.json": json.dumps(card().model_dump(mode="json")).encode()}
    np.savez(tmp_path / "evil.npz", index=np.array([{}], dtype=object), allow_pickle=True)
    files["weights.npz"] = (tmp_path / "evil.npz").read_bytes()
    folder = tmp_path / artifact._digest(files)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights\.npz"):
        artifact.load(folder)


def test_what_is_not_there_or_not_known_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact"):
        artifact.load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="kind 'oracle'"):
        artifact.load(artifact.save(str(tmp_path), card(kind="oracle"), arrays([], [])).path)
    with pytest.raises(KeepRateError, match="keep rate"):
        artifact.load(artifact.save(str(tmp_path), card(keep_rate=None), arrays([], [])).path)
    with pytest.raises(ArtifactError, match="do not rise"):
        artifact.load(artifact.save(str(tmp_path), card(), arrays([4, 3], [1.0, 1.0])).path)
    with pytest.raises(ArtifactError, match="arrays"):
        artifact.load(artifact.save(str(tmp_path), card(), {"index": np.zeros(1, np.uint32)}).path)


def test_a_model_id_cannot_leave_the_folder_of_artifacts(tmp_path: Path) -> None:
    for wrong in ("../up", "a/b", "..", ""):
        with pytest.raises(ValueError, match="model_id"):
            card(model_id=wrong)
    (tmp_path / "out").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / card().model_id).symlink_to(tmp_path / "out")
    with pytest.raises(ArtifactError, match="outside"):
        artifact.save(str(tmp_path / "root"), card(), arrays([], []))


def test_a_missing_or_null_column_is_named(tmp_path: Path) -> None:
    model = artifact.load(artifact.save(str(tmp_path), card(), arrays([], [])).path)
    batch = pa.RecordBatch.from_pydict({name: np.zeros(2, np.int32) for name in model.columns[:-1]})
    with pytest.raises(MissingColumnsError, match="x_a_b"):
        model.margins(batch)
    with pytest.raises(MissingColumnsError, match="null in 1 of 2"):
        model.margins(batch.append_column("x_a_b", pa.array([None, 1], pa.int32())))
