"""What judge and calibrator ask of a model on a worker: its probabilities for a batch of rows. No Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickmill.calibration import logistic, prior_correction
from clickmill.errors import KeepRateError, OverlapError
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.split import Stretch

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A trained model that is judged: a row of `models`, as much of it as scoring needs."""

    model_id: str
    name: str
    kind: str
    artifact: str
    """Folder of the artifact."""
    digest: str
    correction: str
    """`prior`: p_sampled is corrected by the keep rate; `weight`: it is p already."""
    keep_rate: float | None
    seconds: float | None = None
    """Training took so long."""
    trained_until: datetime | None = None
    """The end of its train stretch, naive UTC; None: not known."""
    chosen_until: datetime | None = None
    """The end of its validation stretch, on which its settings were chosen."""
    histories: str = ""
    """Folder of what was known of values before each row, for models that eat encodings; else the artifact's own
    counts are taken."""

    def __post_init__(self) -> None:
        if self.correction == "prior" and self.keep_rate is None:
            raise KeepRateError(
                f"{self.model_id}: the model does not say at which keep rate it was trained: it cannot score"
            )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Contender:
        """From a row of `models`."""
        stretches = json.loads(row.get("stretches") or "{}")
        ends = {name: datetime.fromisoformat(end) for name, (_, end) in stretches.items()}
        own = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        return cls(**own, trained_until=ends.get("train"), chosen_until=ends.get("validation"))

    def to_json(self) -> str:
        """What `from_json` reads."""
        own = {name: value for name, value in asdict(self).items() if name != "histories"}
        return json.dumps(own, default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Contender:
        """What `to_json` wrote; members that a later version adds keep their defaults."""
        own = json.loads(text)
        for name in ("trained_until", "chosen_until"):
            own[name] = datetime.fromisoformat(own[name]) if own.get(name) else None
        return cls(**own)

    def require_unseen(self, stretch: Stretch, what: str, *, learned_until: datetime | None) -> None:
        """Raises OverlapError where something of it was learned from the time that is to judge it."""
        if learned_until is not None and learned_until > stretch.start:
            raise OverlapError(
                f"{self.model_id} learned from data until {learned_until:%Y-%m-%d %H:%M}, and {what} is "
                f"{stretch}: train and calibrate again with this split"
            )

    def model(self) -> Model:
        """The model, loaded once in a worker's life."""
        return _load(self.artifact, self.histories)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the judged rows that `p_sampled` needs. Raises ArtifactError."""
        return self.model().columns

    def p_sampled(self, batch: pa.RecordBatch) -> Array:
        """What the model says of each row, (n,)."""
        return logistic(self.model().margins(batch))

    def prior_corrected(self, p_sampled: Array) -> Array:
        """p at full traffic before recalibration, (n,); where nothing is to be corrected, the very array."""
        if self.correction != "prior" or self.keep_rate is None or self.keep_rate == 1:
            return p_sampled
        return prior_correction(p_sampled, self.keep_rate)


P_OUTSIDE = "p_outside"
"""The column of an outside system's p beside the judged rows."""


@dataclass(frozen=True)
class Outside(Contender):
    """A system that is not ours: its p, at full traffic, comes with the rows."""

    @classmethod
    def called(cls, name: str) -> Outside:
        """The system by this name."""
        return cls(name, name, "outside", artifact="", digest="", correction="weight", keep_rate=None)

    @property
    def columns(self) -> tuple[str, ...]:
        return (P_OUTSIDE,)

    def p_sampled(self, batch: pa.RecordBatch) -> Array:
        return np.asarray(batch.column(P_OUTSIDE).to_numpy())


@lru_cache(maxsize=16)
def _load(folder: str, histories: str) -> Model:
    model = artifact.load(Path(folder))
    return model.looking_up(histories) if histories else model
