"""The trained model that a warm start names by its id."""

from __future__ import annotations

from datetime import datetime

from clickmill.errors import ConfigError, MissingTableError
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.models.card import Card
from clickmill.split import Stretch
from clickmill.tables import Tables


def earlier(tables: Tables, model_id: str) -> tuple[Model, str]:
    """The model and its digest. Raises MissingTableError where there is none, ArtifactError."""
    rows = tables.rows("models", where={"model_id": [model_id]})
    if not rows:
        raise MissingTableError(f"models: there is no model {model_id!r} to start from")
    return artifact.load(rows[0]["artifact"]), str(rows[0]["digest"])


def require_earlier(card: Card, train: Stretch) -> None:
    """Raises ConfigError where the model knows rows later than train time."""
    end = datetime.fromisoformat(card.stretches["train"][1])
    if end > train.end:
        raise ConfigError(
            f"warm_start: {card.model_id} was trained on rows up to {end}, "
            f"this model may know those up to {train.end}"
        )
