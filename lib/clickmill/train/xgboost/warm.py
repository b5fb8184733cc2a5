"""The trees that a training goes on from: those of an earlier model that the spec names."""

from __future__ import annotations

from typing import Any, NamedTuple

from clickmill.errors import ConfigError
from clickmill.models.xgboost import Inputs, XgboostModel
from clickmill.specs import XgboostSpec
from clickmill.split import Stretch
from clickmill.tables import Tables
from clickmill.train.earlier import earlier, require_earlier
from clickmill.train.xgboost.checkpoint import Checkpoint


class Start(NamedTuple):
    """The trees to start from, and what the card says of them; empty: from the base rate."""

    checkpoint: Checkpoint
    figures: dict[str, Any]
    keep_rate: float | None = None
    """That the trees' margins are at."""


def start_of(tables: Tables, spec: XgboostSpec, inputs: Inputs, *, train: Stretch) -> Start:
    """What the spec's `warm_start` comes to.

    Raises MissingTableError where there is no such model, ConfigError where it eats other columns, has another
    kind, or knows rows later than train time.
    """
    if spec.warm_start is None:
        return Start(Checkpoint(), {})
    model, digest = earlier(tables, spec.warm_start)
    said = f"warm_start: {spec.warm_start}"
    if not isinstance(model, XgboostModel):
        raise ConfigError(f"{said} is a {model.card.kind}, no xgboost")
    if model.inputs.names != inputs.names:
        raise ConfigError(f"{said} eats {', '.join(model.inputs.names)}; this model {', '.join(inputs.names)}")
    require_earlier(model.card, train)
    rounds = model.booster.num_boosted_rounds()
    trees = bytes(model.booster.save_raw("ubj"))
    figures = {"model_id": spec.warm_start, "digest": digest, "rounds": rounds}
    keep_rate = 1.0 if model.card.correction == "weight" else model.card.keep_rate
    return Start(Checkpoint(trees, before=rounds), figures, keep_rate)
