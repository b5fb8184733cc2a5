"""How far a training got: tensors and numbers, each checkpoint whole or not there. Rank 0's affair alone.

checkpoints/<steps>/state.safetensors, state.json    weights, optimisers; position, losses so far
checkpoints/latest                                   the name of the newest; replaced when that is whole
checkpoints/best-<steps>.safetensors                 the best weights so far
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
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
            _sync(aside / TENSORS, aside / STATE)
        except BaseException:  # (a full disk: what is half there would keep it full)
            shutil.rmtree(aside, ignore_errors=True)
            raise
        place = self._folder / name
        if place.exists():  # (left by a run that ended before it could point to it)
            shutil.rmtree(place)
        aside.rename(place)
        _put(self._folder / LATEST, lambda aside: aside.write_text(name, encoding="ascii"))
        self._forget()

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What the pointer points to or, where that is damaged, the newest before it that is whole; None where
        nothing was saved, or nothing is whole."""
        try:
            newest = (self._folder / LATEST).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        names = sorted((place.name for place in self._folder.glob("[0-9]*")), reverse=True)
        found = (self._whole(name) for name in names if name <= newest or not newest.isdigit())
        return next((one for one in found if one is not None), None)

    def _whole(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A checkpoint, None where it is damaged: a machine that lost its power may leave such files."""
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file

        state = _state(self._folder / name)
        if state is None:
            return None
        try:
            if state["best"] is not None:
                with safe_open(self.best(state["best"]), framework="pt"):
                    pass
            return load_file(self._folder / name / TENSORS), state
        except (OSError, SafetensorError):
            return None

    def save_best(self, tensors: Mapping[str, Tensor], *, steps: int) -> None:
        """Leaves the weights that are best so far; those before stay until no checkpoint names them."""
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        # (from where they lie; `save` would copy them twice)
        _put(self.best(steps), lambda aside: save_file(dict(tensors), aside))

    def best(self, steps: int) -> Path:
        """The file of the weights that were best after so many steps."""
        return self._folder / f"best-{steps:010d}.safetensors"

    def _forget(self) -> None:
        places = sorted(place for place in self._folder.glob("[0-9]*") if place.is_dir())
        states = {place: state for place in places if (state := _state(place)) is not None}
        kept = list(states)[-self._kept :]
        for place in places:
            if place not in kept:
                shutil.rmtree(place)
        named = {states[place]["best"] for place in kept}
        wanted = {self.best(steps) for steps in named if steps is not None}
        for place in self._folder.glob("best-*.safetensors"):
            if place not in wanted:
                place.unlink()
        for place in self._folder.glob(".*-*"):  # (of runs that were killed while they wrote)
            shutil.rmtree(place, ignore_errors=True)


def _state(place: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None where that is damaged."""
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _put(place: Path, write: Callable[[Path], object]) -> None:
    """Has a file written aside, and renames it; of a full disk nothing is left."""
    aside = place.with_name(f"{place.name}.part")
    try:
        write(aside)
        _sync(aside)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(place)


def _sync(*places: Path) -> None:
    """Has the disk hold files before they get their names."""
    for place in places:
        with place.open("rb") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # (stores that know no such thing)
                    raise
