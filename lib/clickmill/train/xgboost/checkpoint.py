"""How far a training got: trees and losses, in a folder of its own, whole or not there."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

TREES, STATE = "trees.ubj", "state.json"


class Checkpoint(NamedTuple):
    """What a training goes on from. The empty one: from nothing."""

    trees: bytes | None = None
    losses: tuple[tuple[float, float], ...] = ()
    """After each round of this training, of p on training and validation rows."""
    before: int = 0
    """Rounds of the trees that a warm start brought."""

    def save(self, folder: Path) -> None:
        """Leaves it in `folder`, named by its rounds: written aside and renamed."""
        assert self.trees is not None
        place = folder / f"{len(self.losses):06d}"
        aside = folder / f".{place.name}-{secrets.token_hex(4)}"
        aside.mkdir(parents=True)
        (aside / TREES).write_bytes(self.trees)
        (aside / STATE).write_text(json.dumps({"losses": self.losses, "before": self.before}), encoding="utf-8")
        if place.is_dir():
            shutil.rmtree(aside)
        else:
            aside.rename(place)

    @classmethod
    def latest(cls, folder: Path) -> Checkpoint | None:
        """The one with most rounds in a folder; None where there is none."""
        places = sorted(place for place in folder.glob("[0-9]*") if place.is_dir())
        if not places:
            return None
        state = json.loads((places[-1] / STATE).read_text(encoding="utf-8"))
        losses = tuple((float(a), float(b)) for a, b in state["losses"])
        return cls((places[-1] / TREES).read_bytes(), losses, int(state["before"]))
