"""How far a training got: tensors and numbers, each checkpoint whole or not there. Rank 0's affair alone.

checkpoints/<steps>/state.safetensors, state.json    weights, optimisers; position, losses so far
checkpoints/latest                                   the name of the newest; replaced when that is whole
checkpoints/best-<steps>.safetensors                 the best weights so far
"""

from __future__ import annotations

import json
import os
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
        try:
            save_file(dict(tensors), aside / TENSORS)
            (aside / STATE).write_text(json.dumps({**state, "best": best}), encoding="utf-8")
        except BaseException:  # (a full disk: what is half there would keep it full)
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _sync(aside / TENSORS, aside / STATE)
        place = self._folder / name
        if place.exists():  # (left by a run that ended before it could point to it)
            shutil.rmtree(place)
        aside.rename(place)
        _put(self._folder / LATEST, name.encode())
        self._forget()

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What the pointer points to or, where that is damaged, the newest before it that is whole; None where
        nothing was saved, or nothing is whole."""
        try:
            newest = (self._folder / LATEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        names = sorted((place.name for place in self._folder.glob("[0-9]*")), reverse=True)
        found = (self._whole(name) for name in names if name <= newest or not newest)
        return next((one for one in found if one is not None), None)

    def _whole(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A checkpoint, None where it is damaged: a machine that lost its power may leave such files."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = json.loads((self._folder / name / STATE).read_text(encoding="utf-8"))
            tensors = load_file(self._folder / name / TENSORS)
        except (OSError, ValueError, SafetensorError):
            return None
        best = state["best"]
        return (tensors, state) if best is None or self.best(best).exists() else None

    def save_best(self, tensors: Mapping[str, Tensor], *, steps: int) -> None:
        """Leaves the weights that are best so far; those before stay until no checkpoint names them."""
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        place = self.best(steps)
        aside = _aside(place)
        save_file(dict(tensors), aside)  # (from where they lie; `save` would copy them twice)
        _sync(aside)
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
    _sync(aside)
    aside.replace(place)


def _sync(*places: Path) -> None:
    """Has the disk hold files before they get their names."""
    for place in places:
        with place.open("rb") as file:
            os.fsync(file.fileno())


def _aside(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")
