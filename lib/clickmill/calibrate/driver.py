"""features of validation time → a calibrator for every model, in one pass on Spark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from pyspark.sql import functions as F

from clickmill.calibrate import worker
from clickmill.calibrate.fit import Choice, choose
from clickmill.champion import needed_columns
from clickmill.config import Calibration, digest
from clickmill.errors import NoRowsError
from clickmill.models import artifact
from clickmill.models.artifact import CALIBRATION, calibration_of
from clickmill.scoring import Contender
from clickmill.split import Stretch
from clickmill.tables import Tables


class Calibrated(NamedTuple):
    """A contender, the calibrator chosen for it, and what it was chosen from."""

    contender: Contender
    choice: Choice
    stretch: Stretch
    rows: int
    clicks: int

    @property
    def calibration_id(self) -> str:
        """16 hex digits that name model, stretch and calibrator."""
        return digest([self.contender.digest, str(self.stretch), self.choice.calibrator.to_dict()])

    def row(self, ds: date, run_id: str) -> dict[str, Any]:
        """The row of `calibrations`."""
        return {
            "ds": ds,
            "model_id": self.contender.model_id,
            "run_id": run_id,
            "calibration_id": self.calibration_id,
            "artifact": self.contender.digest,
            "method": self.choice.calibrator.method,
            "parameters": json.dumps(self.choice.calibrator.to_dict()),
            "stretch": json.dumps([self.stretch.start.isoformat(), self.stretch.end.isoformat()]),
            "candidates": json.dumps(self.choice.log_loss),
            "rows": self.rows,
            "clicks": self.clicks,
        }

    def write(self) -> None:
        """Puts the calibration beside the artifact, for scoring without Spark: aside first, then renamed.

        Once under the artifact's own name, since artifacts of one model id may both be in use, and once as
        `calibration.json`, which says which of them the model's folder stands for. One of the same artifact that
        was fitted on later time stays: a backfill does not turn back what serves.
        """
        content: dict[str, Any] = {
            "calibration_id": self.calibration_id,
            "artifact": self.contender.digest,
            "calibrator": self.choice.calibrator.to_dict(),
            "stretch": [self.stretch.start.isoformat(), self.stretch.end.isoformat()],
            "log_loss": self.choice.log_loss,
            "rows": self.rows,
            "clicks": self.clicks,
        }
        for name in (calibration_of(self.contender.digest), CALIBRATION):
            place = Path(self.contender.artifact).parent / name
            there = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
            if there.get("artifact") != self.contender.digest or there["stretch"][1] <= content["stretch"][1]:
                artifact.put_beside(self.contender.artifact, name, json.dumps(content, indent=1) + "\n")


def calibrate(
    tables: Tables, contenders: Sequence[Contender], *, stretch: Stretch, conf: Calibration
) -> tuple[Calibrated, ...]:
    """A calibrator for each contender, fitted on the rows of `features` in this stretch (validation time).

    The driver receives at most models × folds × 2^14 cells of whole numbers, so that the result does
    not hang on the partitioning. Raises NoRowsError for an empty stretch, MissingColumnsError, OverlapError
    for a model that was trained on rows of it.
    """
    for contender in contenders:
        contender.require_unseen(stretch, "validation time", learned_until=contender.trained_until)
    needed = needed_columns(tables.columns("features"), contenders)
    rows = tables.scan("features", ["event_id", "label", *needed], stretch=stretch)
    count = partial(worker.count, contenders=tuple(contenders), folds=conf.folds, seed=conf.seed)
    counted = rows.through(count, worker.CELLS).rows().groupBy("model_id", "cell")
    cells = counted.agg(*(F.sum(name).alias(name) for name in ("rows", "clicks", "logits"))).toArrow()
    if not cells.num_rows:
        raise NoRowsError(f"features: no rows in validation time, {stretch}")
    found = []
    for contender in contenders:
        own = cells.filter(pc.equal(cells.column("model_id"), contender.model_id))
        histogram = worker.histogram_of(own, conf.folds)
        totals = int(histogram.rows.sum()), int(histogram.clicks.sum())
        found.append(Calibrated(contender, choose(histogram, conf), stretch, *totals))
    return tuple(found)
