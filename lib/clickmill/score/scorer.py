"""A model and its calibrator as one function: columns of the raw log → p. No Spark, no scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickmill.calibration import Calibrator, logistic, prior_correction
from clickmill.dataset import Dataset
from clickmill.errors import ArtifactError
from clickmill.features.worker import FeatureSpec, cross_column, hash_columns, number_column, slot_column
from clickmill.ingest import values
from clickmill.models import artifact
from clickmill.models.artifact import CALIBRATION, Model, calibration_of

Doubles = npt.NDArray[np.float64]
CARD = artifact.CARD
UNCALIBRATED = "none"
"""In place of a calibration file: p after the prior correction alone."""


class Scores(NamedTuple):
    """Of n rows: probabilities in [0, 1], NaN where a row is refused, and why it is."""

    p_sampled: Doubles
    p: Doubles
    reason: npt.NDArray[np.object_]
    """(n,) None, or `bad_number:<column>`."""


@dataclass(frozen=True)
class Scorer:
    """Scores rows of the raw log with one model, corrected for its sampling and calibrated."""

    model: Model
    calibrator: Calibrator | None

    @cached_property
    def dataset(self) -> Dataset:
        """The data set that the model was trained on."""
        return Dataset.model_validate(self.model.card.dataset)

    @cached_property
    def spec(self) -> FeatureSpec:
        """The slots, numbers and crosses that the model eats, alone, crossed or raw, in the data set's order."""
        card, dataset, columns = self.model.card, self.dataset, self.model.columns
        crosses = tuple(parts for parts in dataset.crosses if cross_column(parts) in columns)
        crossed = {part for parts in crosses for part in parts}
        eaten = [
            name
            for name in (*dataset.slots, *dataset.numbers)
            if name in crossed or slot_column(name) in columns or number_column(name) in columns
        ]
        numbers = tuple(name for name in dataset.numbers if name in eaten)
        edges = tuple(tuple(card.number_edges.get(name, card.edges)) for name in numbers)
        return FeatureSpec(tuple(name for name in dataset.slots if name in eaten), numbers, crosses, edges)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of the raw log that the model needs: slots, then numbers."""
        return (*self.spec.slots, *self.spec.numbers)

    def score(self, raw: Mapping[str, pa.Array]) -> Scores:
        """p of n rows from the columns `needed`, as text or typed. A number that is none refuses its row."""
        n = len(next(iter(raw.values())))
        reason, refused = np.full(n, None, object), np.zeros(n, bool)
        columns = {name: values.text(raw[name]) for name in self.spec.slots}
        for name in self.spec.numbers:
            number, valid = values.numbers(raw[name])
            if not valid.all():
                bad = ~valid & ~values.missing(raw[name])
                reason[bad & ~refused] = f"bad_number:{name}"
                refused |= bad
            columns[name] = pa.array(number, pa.float64(), mask=~valid)
        features = pa.RecordBatch.from_pydict(hash_columns(columns, self.spec))
        p_sampled = logistic(self.model.margins(features))
        p = self._recalibrated(p_sampled)
        p_sampled[refused] = p[refused] = np.nan
        return Scores(p_sampled, p, reason)

    def _recalibrated(self, p_sampled: Doubles) -> Doubles:
        card = self.model.card
        p = p_sampled.copy()
        if card.correction == "prior":
            assert card.keep_rate is not None
            p = prior_correction(p_sampled, card.keep_rate)
        return p if self.calibrator is None else self.calibrator.apply(p)


def load(model: Path, *, calibration: str | None = None) -> Scorer:
    """The model in a folder and the calibrator that belongs to it.

    model: `<artifacts>/<model_id>`, or a folder with the digest of an artifact in it.
    calibration: a file, `none`, or None for the one that `calibrate` wrote beside the artifact.
    Raises ArtifactError where either is missing or damaged or they do not belong together, KeepRateError
    for a model that does not know its keep rate.
    """
    folder, root = _artifact_folder(model)
    found = artifact.load(folder)
    if calibration == UNCALIBRATED:
        return Scorer(found, None)
    own = root / calibration_of(folder.name)
    place = Path(calibration) if calibration else own if own.is_file() else root / CALIBRATION
    written = _read(place)
    if written.get("artifact") not in (None, folder.name):
        raise ArtifactError(
            f"{place}: is of artifact {written['artifact']}, not of {folder.name}; calibrate this one, "
            "or give --calibration none"
        )
    return Scorer(found, Calibrator.from_dict(written["calibrator"]))


def _artifact_folder(model: Path) -> tuple[Path, Path]:
    """The artifact's folder, and the folder of its model id."""
    if (model / artifact.CARD).is_file():
        return model, model.parent
    found = sorted(path.parent for path in model.glob(f"*/{artifact.CARD}"))
    if len(found) > 1 and (model / CALIBRATION).is_file():
        calibrated = _read(model / CALIBRATION).get("artifact")
        found = [path for path in found if path.name == calibrated] or found
    if not found:
        raise ArtifactError(f"{model}: there is no model; name a folder such as <warehouse>/_models/<model_id>")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ArtifactError(f"{model}: has several artifacts, name one of its folders: {names}")
    return found[0], model


def _read(place: Path) -> dict[str, Any]:
    try:
        written = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{place}: there is no calibration; run `calibrate` for this model, name a file with --calibration, "
            "or give --calibration none for p without it"
        ) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{place}: cannot be read as a calibration: {error}") from error
    if not isinstance(written, dict) or "calibrator" not in written:
        raise ArtifactError(f"{place}: is no calibration: it has no `calibrator`")
    return written
