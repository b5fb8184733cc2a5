"""Model artifacts: `<root>/<model_id>/<digest of content>/` with `model.json`, plain arrays in `weights.npz`, and
what its kind adds: of trees XGBoost's own `trees.ubj`, of networks `network.safetensors`. No pickle.

Written aside and renamed, so that a folder is whole or not there; a folder that is there is never
overwritten, since its name is its content.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pydantic
from numpy.typing import NDArray

from clickmill.errors import ArtifactError, KeepRateError
from clickmill.models.card import Card
from clickmill.models.logreg import LogregModel
from clickmill.models.trees_logreg import TreesLogregModel
from clickmill.models.wide_deep import WideDeepModel
from clickmill.models.xgboost import XgboostModel

CARD = "model.json"
WEIGHTS = "weights.npz"
TREES = "trees.ubj"
NETWORK = "network.safetensors"
CALIBRATION = "calibration.json"
"""File beside the artifacts of a model that `calibrate` writes: of the one that was calibrated last."""


class Model(Protocol):
    """What every kind of model can do."""

    @property
    def card(self) -> Card: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `features` that it needs, in order."""

    @property
    def encoded(self) -> tuple[str, ...]:
        """Those of them whose values it eats encoded; none, of most kinds."""

    def looking_up(self, folder: str) -> Model:
        """The same model where rows are encoded by what the histories in a folder say was known before each; a
        model that eats no encodings is itself."""

    def margins(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """(n,) logit of p_sampled (of p where `card.correction` is `weight`)."""


class Saved(NamedTuple):
    """Folder of an artifact, the digest of its content, its size in bytes."""

    path: str
    digest: str
    bytes: int


Arrays = Mapping[str, NDArray[Any]]
KINDS: dict[str, Callable[[Card, Arrays, bytes | None], Model]] = {
    "logreg": LogregModel.from_files,
    "xgboost": XgboostModel.from_files,
    "trees_logreg": TreesLogregModel.from_files,
    "wide_deep": WideDeepModel.from_files,
}
FURTHER = {"xgboost": TREES, "trees_logreg": TREES, "wide_deep": NETWORK}
"""The file beside the arrays that a kind of model has."""


def save(root: str, card: Card, arrays: Arrays, *, further: bytes | None = None) -> Saved:
    """Writes card, arrays and the content of the kind's `FURTHER` file under `<root>/<card.model_id>/<digest>/`.

    Raises ArtifactError outside the root.
    """
    said = card.model_dump(mode="json", exclude={"layout"} if card.layout is None else None)
    text = json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"
    files = {CARD: text, WEIGHTS: _npz(arrays)}
    if further is not None:
        files[FURTHER[card.kind]] = further
    digest = _digest(files)
    base = Path(root)
    folder = base / card.model_id / digest
    if not folder.resolve().is_relative_to(base.resolve()):
        raise ArtifactError(f"{folder}: lies outside the artifacts' folder {root}")
    size = sum(len(content) for content in files.values())
    if not folder.is_dir():
        _write(folder, files)
    return Saved(str(folder), digest, size)


def calibration_of(digest: str) -> str:
    """The file beside the artifacts of a model that has the calibration of this one."""
    return f"calibration-{digest}.json"


def put_beside(path: str | Path, name: str, text: str) -> None:
    """Writes a file beside the artifacts of a model, of which `path` is one: aside first, then renamed."""
    place = Path(path).parent / name
    aside = place.with_name(f".{name}-{secrets.token_hex(4)}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(place)


def load(path: str | Path) -> Model:
    """The model in an artifact's folder.

    Raises ArtifactError where it is missing, of an unknown format or kind, or its content does not
    match the digest that its folder is called by; KeepRateError where it does not know its keep rate.
    """
    folder = Path(path)
    try:
        files = {name: (folder / name).read_bytes() for name in (CARD, WEIGHTS)}
        files |= {name: (folder / name).read_bytes() for name in (TREES, NETWORK) if (folder / name).exists()}
    except OSError as error:
        raise ArtifactError(f"{folder}: there is no artifact: {error}") from None
    if _digest(files) != folder.name:
        raise ArtifactError(f"{folder}: damaged: its content has the digest {_digest(files)}")
    try:
        card = Card.model_validate_json(files[CARD])
    except pydantic.ValidationError as error:
        raise ArtifactError(f"{folder / CARD}: not a card that this version reads: {error}") from None
    if card.keep_rate is None:
        raise KeepRateError(f"{folder}: the model does not know its keep rate, so that its p cannot be corrected")
    if card.kind not in KINDS:
        raise ArtifactError(f"{folder / CARD}: kind {card.kind!r} is not known; known are {sorted(KINDS)}")
    return KINDS[card.kind](card, _arrays(folder, files[WEIGHTS]), files.get(FURTHER.get(card.kind, "")))


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as `.npz`, the same bytes for the same arrays (numpy would stamp the time)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getbuffer())
    return out.getvalue()


def _arrays(folder: Path, content: bytes) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder / WEIGHTS}: cannot be read as plain arrays: {error}") from None


def _digest(files: Mapping[str, bytes]) -> str:
    """Of the weights and of the card, but for the versions of the tables read: the same rows give the same model
    whichever version they stand in."""
    files = {**files, CARD: _without_versions(files[CARD])}
    found = hashlib.sha256()
    for name in sorted(files):
        found.update(f"{name}\0{len(files[name])}\0".encode())
        found.update(files[name])
    return found.hexdigest()[:32]


def _without_versions(card: bytes) -> bytes:
    try:
        values = json.loads(card)
    except ValueError:
        return card
    if isinstance(values, dict):
        values.pop("tables", None)
    return json.dumps(values, sort_keys=True).encode()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    aside.mkdir()
    try:
        for name, content in files.items():
            with (aside / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run wrote the same content first
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
