"""Where a training starts from: the base rate, an earlier model that the spec names, or the champion."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, NamedTuple

from clickmill.champion import champion
from clickmill.errors import ConfigError
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.models.logreg import LogregModel
from clickmill.specs import LogregSpec
from clickmill.split import Stretch
from clickmill.tables import Tables
from clickmill.train.earlier import earlier, require_earlier
from clickmill.train.logreg.worker import WarmStart

CHAMPION = "champion"


class Start(NamedTuple):
    """The weights to start from (None: the base rate alone), what the card says of it, and the same as a line."""

    weights: WarmStart | None
    figures: dict[str, Any]
    line: str


def start_of(tables: Tables, spec: LogregSpec, *, name: str, ds: date, train: Stretch) -> Start | None:
    """What the spec's `warm_start` comes to for the model `name` of `ds`; None where it asks for nothing.

    A model named by its id must serve: MissingTableError where it is not there, ConfigError where it does
    not fit. The champion is that of the day before `ds`, so that a rerun after a promotion starts from the same
    weights; where there is none, or none that fits, training starts from the base rate and says why.
    """
    if spec.warm_start is None:
        return None
    if spec.warm_start == CHAMPION:
        return _from_champion(tables, spec, name, ds - timedelta(days=1), train)
    model, digest = earlier(tables, spec.warm_start)
    return _from_model(_fitting(model, spec, train), digest)


def _from_champion(tables: Tables, spec: LogregSpec, name: str, day: date, train: Stretch) -> Start:
    holder = champion(tables, day)
    if holder is None:
        return _from_nothing(f"there is no champion as of {day}")
    if holder.name != name:
        return _from_nothing(f"the champion as of {day}, {holder.model_id}, is no {name}")
    try:
        model = _fitting(artifact.load(holder.artifact), spec, train)
    except ConfigError as error:
        return _from_nothing(str(error))
    return _from_model(model, holder.digest)


def _fitting(model: Model, spec: LogregSpec, train: Stretch) -> LogregModel:
    """The model, if we can start from it. Raises ConfigError where it has other indices, or knows later rows."""
    said = f"warm_start: {model.card.model_id}"
    if not isinstance(model, LogregModel):
        raise ConfigError(f"{said} is a {model.card.kind}, no logreg")
    if model.spec.bits != spec.bits:
        raise ConfigError(f"{said} has {model.spec.bits} bits, this model {spec.bits}")
    require_earlier(model.card, train)
    return model


def _from_model(model: LogregModel, digest: str) -> Start:
    card = model.card
    assert card.keep_rate is not None  # (a model without it does not load)
    keep_rate = 1.0 if card.correction == "weight" else card.keep_rate
    weights = WarmStart(*model.by_index(), model.intercept, keep_rate)
    figures = {"model_id": card.model_id, "digest": digest, "reason": None}
    return Start(weights, figures, f"starts from the weights of {card.model_id}")


def _from_nothing(reason: str) -> Start:
    return Start(
        None, {"model_id": None, "digest": None, "reason": reason}, f"starts from the base rate: {reason}"
    )
