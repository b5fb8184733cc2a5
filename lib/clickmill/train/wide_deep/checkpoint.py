"""How far a training got: tensors and numbers, each checkpoint whole or not there. Rank 0's affair alone.

checkpoints/<steps>/state.safetensors, state.json    weights, optimisers; position, losses so far
checkpoints/latest                                   the name of the newest; replaced when that is whole
checkpoints/best-<steps>.safetensors                 the best weights so far
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LATEST, TENSORS, STATE = "latest", "state.safetensors", "state.json"


class Checkpoints:
    """Those of one training, in a folder of its own; the last `kept` are kept."""

    def __init__(self, folder: Path, kept: int) -> None:
        self._folder, self._kept = folder, kept

    def save(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, steps: int, best: int | None
    ) -> None:
        """Leaves what training goes on from after so many steps. best: after which weights were best so far."""
        from safetensors.torch import save_file

        name = f"{steps:010d}"
        aside = self._folder / f".{name}-{secrets.token_hex(4)}"
        aside.mkdir(parents=True)
        save_file(dict(tensors), aside / TENSORS)
        (aside / STATE).write_text(json.dumps({**state, "best": best}), encoding="utf-8")
        place = self._folder / name
        if place.exists():  # (left by a run that ended before it could point to it)
            shutil.rmtree(place)
        aside.rename(place)
        _put(self._folder / LATEST, name.encode())
        self._forget()

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What the pointer points to; None where nothing was saved."""
        from safetensors.torch import load_file

        try:
            place = self._folder / (self._folder / LATEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return load_file(place / TENSORS), json.loads((place / STATE).read_text(encoding="utf-8"))

    def save_best(self, tensors: Mapping[str, Tensor], *, steps: int) -> None:
        """Leaves the weights that are best so far; those before stay until no checkpoint names them."""
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        place = self.best(steps)
        aside = _aside(place)
        save_file(dict(tensors), aside)  # (from where they lie; `save` would copy them twice)
        aside.replace(place)

    def best(self, steps: int) -> Path:
        """The file of the weights that were best after so many steps."""
        return self._folder / f"best-{steps:010d}.safetensors"

    def _forget(self) -> None:
        places = sorted(place for place in self._folder.glob("[0-9]*") if place.is_dir())
        for place in places[: -self._kept]:
            shutil.rmtree(place)
        named = {
            json.loads((place / STATE).read_text(encoding="utf-8"))["best"] for place in places[-self._kept :]
        }
        wanted = {self.best(steps) for steps in named if steps is not None}
        for place in self._folder.glob("best-*.safetensors"):
            if place not in wanted:
                place.unlink()
        for place in self._folder.glob(".*-*"):  # (of runs that were killed while they wrote)
            shutil.rmtree(place, ignore_errors=True)


def _put(place: Path, content: bytes) -> None:
    """Writes a file aside and renames it."""
    aside = _aside(place)
    aside.write_bytes(content)
    aside.replace(place)


def _aside(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")
