"""A trained model as its card, its artifact and its row of `models`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from numpy.typing import NDArray

from clickmill import __version__
from clickmill.config import Config, digest
from clickmill.models import artifact
from clickmill.models.card import Card
from clickmill.split import Stretches
from clickmill.tables import Tables


@dataclass(frozen=True)
class Outcome:
    """What a training came to."""

    keep_rate: float
    figures: dict[str, Any]
    """Losses, iterations, rows, clicks, seconds by phase."""
    arrays: Mapping[str, NDArray[Any]]
    status: str
    further: bytes | None = None
    """What the artifact has beside its arrays: trees, a network."""
    tables: tuple[str, ...] = ("sample", "features")
    """What was read."""
    encodings: dict[str, Any] | None = None
    """How values are encoded, see `Card.encodings`."""
    layout: dict[str, Any] | None = None
    """Where a network's values lie, see `Card.layout`."""
    absent: frozenset[str] = field(default=frozenset({"seconds"}))
    """Figures that the card leaves out: it is to be the same on a rerun."""


def keep(
    tables: Tables,
    cfg: Config,
    found: Outcome,
    *,
    name: str,
    ds: date,
    stretches: Stretches,
    seconds: float,
    dry_run: bool,
) -> dict[str, Any]:
    """Saves the model's artifact (a dry run does not) and returns its row of `models`."""
    card = _card(tables, cfg, found, name, ds, stretches)
    saved = artifact.Saved("", "", 0)
    if not dry_run:
        saved = artifact.save(cfg.artifact_root, card, found.arrays, further=found.further)
    return {
        "model_id": card.model_id,
        "name": name,
        "kind": card.kind,
        "spec": json.dumps(card.spec),
        "stretches": json.dumps(card.stretches),
        "keep_rate": card.keep_rate,
        "correction": card.correction,
        "versions": json.dumps(card.tables),
        "artifact": saved.path,
        "digest": saved.digest,
        "bytes": saved.bytes,
        "rows": found.figures["rows"],
        "clicks": found.figures["clicks"],
        "training": json.dumps(found.figures),
        "status": found.status,
        "seconds": seconds,
        "run_id": tables.run_id,
        "ds": ds,
    }


def _card(tables: Tables, cfg: Config, found: Outcome, name: str, ds: date, stretches: Stretches) -> Card:
    spec = cfg.models[name].model_dump(mode="json")
    return Card(
        model_id=f"{name}-{ds}-{digest(spec)[:8]}",
        name=name,
        kind=cfg.models[name].kind,
        keep_rate=found.keep_rate,
        correction=cfg.models[name].correction,
        spec=spec,
        dataset=cfg.dataset.model_dump(mode="json"),
        edges=list(cfg.features.edges),
        number_edges={key: list(edges) for key, edges in cfg.features.number_edges.items()},
        seed=cfg.sampling.seed,
        stretches=stretches.to_dict(),
        tables={table: tables.version(table) for table in found.tables},
        training={key: value for key, value in found.figures.items() if key not in found.absent},
        encodings=found.encodings,
        layout=found.layout,
        created_by=__version__,
    )
