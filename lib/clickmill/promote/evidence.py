"""What the judge wrote of one model on a day, as the gate's rules ask for it. No Spark, no tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clickmill.bootstrap import Draws, interval
from clickmill.config import Config
from clickmill.errors import ArtifactError
from clickmill.gate import Bounds, Candidate, Rule, Worse, decide
from clickmill.models import artifact
from clickmill.schema import EVERYTHING
from clickmill.scoring import Contender

Row = Mapping[str, Any]


class Evidence(NamedTuple):
    """One model: its figures of p and its resampled sums, both by slice."""

    model: Contender
    metrics: Mapping[tuple[str, str], Row]
    draws: Mapping[str, Draws]
    units: Mapping[str, int]
    on: str
    """The rows and the draws of the bootstrap."""
    calibrated_on: str

    @classmethod
    def of(cls, model: Contender, metrics: Sequence[Row], replicates: Sequence[Row], calibration: Row) -> Evidence:
        """From its rows of `metrics` (at the last stage), `replicates` (at least one) and `calibrations`."""
        first = replicates[0]
        start, end = json.loads(calibration["stretch"])
        return cls(
            model,
            {(row["slice"], row["metric"]): row for row in metrics},
            {row["slice"]: Draws(*(np.array(row[name]) for name in Draws._fields)) for row in replicates},
            {row["slice"]: row["units"] for row in replicates},
            f"{first['judged']}, {len(first['weight'])} draws by {first['unit']}, seed {first['seed']}",
            f"{start} to {end}",
        )

    @property
    def ne(self) -> float:
        """NE of all test rows; infinite where there is none."""
        value = self.metrics[EVERYTHING, "ne"]["value"]
        return float("inf") if value is None else float(value)

    def bounds(self, metric: str) -> Bounds:
        """A metric of all test rows."""
        row = self.metrics[EVERYTHING, metric]
        return Bounds(row["value"], row["low"], row["high"], row["reason"])

    def candidate(self) -> Candidate:
        """The model as the rules see it."""
        one = self.model
        learned = [until for until in (one.trained_until, one.chosen_until) if until is not None]
        return Candidate(
            model_id=one.model_id,
            judged=self.on,
            trained_until=max(learned, default=None),
            calibrated_on=self.calibrated_on,
            keep_rate_known=one.correction == "weight" or one.keep_rate is not None,
            artifact_fault=_fault(one),
            ne=self.bounds("ne"),
            calibration=self.bounds("calibration_ratio"),
        )


def rules(best: Evidence, holder: Evidence | None, conf: Config, *, test_from: datetime) -> tuple[Rule, ...]:
    """The gate's verdict on `best` against the champion, if there is one. test_from: naive UTC."""
    return decide(
        best.candidate(),
        holder and holder.candidate(),
        difference=holder and difference(best, holder),
        slices=slice_losses(best, holder) if holder else (),
        test_from=test_from,
        conf=conf.gate,
        min_clicks=conf.judge.min_clicks,
    )


def _fault(one: Contender) -> str | None:
    try:
        artifact.load(Path(one.artifact))
    except ArtifactError as error:
        return str(error)
    return None


def difference(one: Evidence, other: Evidence) -> Bounds:
    """NE of the first less that of the other: paired where both were judged by the same draws, as a rule asks."""
    values = one.metrics[EVERYTHING, "ne"]["value"], other.metrics[EVERYTHING, "ne"]["value"]
    if values[0] is None or values[1] is None:
        return Bounds(None, None, None, one.bounds("ne").reason or other.bounds("ne").reason)
    mine, its = (judged.draws[EVERYTHING].figures()["ne"] for judged in (one, other))
    found = float(values[0] - values[1])
    if len(mine) != len(its):
        return Bounds(found, None, None, "they were judged by other numbers of draws")
    ends, reason = interval(mine - its, one.units[EVERYTHING])
    return Bounds(found, None, None, reason) if ends is None else Bounds(found, *ends)


def slice_losses(one: Evidence, other: Evidence) -> list[Worse]:
    """The relative NE loss of every slice that both have, with the standard error of its replicates."""
    found = []
    for name, draws in one.draws.items():
        if name == EVERYTHING or name not in other.draws:
            continue
        mine, its = one.metrics[name, "ne"], other.metrics[name, "ne"]
        if mine["low"] is None or its["low"] is None or len(draws.weight) != len(other.draws[name].weight):
            found.append(Worse(name, None, None, int(mine["clicks"])))
            continue
        drawn = draws.figures()["ne"] / other.draws[name].figures()["ne"] - 1
        loss = (mine["value"] - its["value"]) / its["value"]
        found.append(Worse(name, loss, float(np.nanstd(drawn)), int(mine["clicks"])))
    return found
