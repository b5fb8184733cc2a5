"""All that a rank must know, in a file that the driver writes and every rank reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pydantic

from clickmill.loader import Counted
from clickmill.nets.layout import Layout
from clickmill.specs import WideDeepSpec
from clickmill.train.watch import Address

TASK = "task.json"
RESULT = "result"
"""The folder that appears when training has ended."""
NETWORK, FIGURES = "network.safetensors", "figures.json"
"""What lies in it: the best weights (no optimiser), and what is to be told of them."""
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Task:
    """A training: the network, its rows, its folder."""

    spec: WideDeepSpec
    layout: Layout
    training: tuple[Counted, ...]
    """Of `sample`."""
    validation: tuple[Counted, ...]
    """Of `features`: full traffic. May be none where nothing stops early."""
    folder: str
    """Checkpoints, words of failed ranks and the result lie there; one that is there already is gone on from."""
    address: Address | None = None
    """Who is told how far the training is."""
    start: str | None = None
    """Warm start: a file of tensors as a network's own (`NETWORK` of its artifact), by the same layout."""
    start_keep_rate: float | None = None
    """That the margins of the warm start are at; 1 where they were never corrected."""
    overfit_check: bool = False
    """Only that: a few rows are learned by heart, to see that every part of the network learns."""

    def save(self) -> Path:
        """Writes it into its folder, aside first, and returns the file."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / TASK
        aside = place.with_suffix(".part")
        aside.write_bytes(_adapter().dump_json(self))
        aside.replace(place)
        return place

    @classmethod
    def load(cls, place: str | Path) -> Task:
        """The task in a file."""
        return _adapter().validate_json(Path(place).read_bytes())


@cache
def _adapter() -> pydantic.TypeAdapter[Task]:
    return pydantic.TypeAdapter(Task)
