"""What a model's artifact says about itself: `model.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT: Literal[1] = 1


class Card(BaseModel):
    """Everything needed to use a model and to know where it came from, beside its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[1] = FORMAT
    model_id: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    name: str
    kind: str
    keep_rate: float | None
    """Share of non-clicks in the training sample, in (0, 1]; a model without one refuses to score."""
    correction: Literal["prior", "weight"]
    spec: dict[str, Any]
    dataset: dict[str, Any]
    """The data set's config: what is needed to hash raw rows."""
    edges: list[float]
    """Default bucket edges of numbers."""
    number_edges: dict[str, list[float]] = {}
    """Edges of single numbers, instead of `edges`."""
    seed: int
    """Of the sampling."""
    stretches: dict[str, list[str]]
    tables: dict[str, int]
    """Versions of the tables read, by name."""
    training: dict[str, Any]
    """Figures of the training: losses, iterations, seconds, rows."""
    encodings: dict[str, Any] | None = None
    """How values are encoded, of models that eat encodings: period, window, lag (in periods), strength, and
    `as_of`, the time before which the artifact's own counts were made."""
    layout: dict[str, Any] | None = None
    """Columns and tables of networks: what `nets.layout.Layout` is made of."""
    created_by: str
    """Version of the code."""
