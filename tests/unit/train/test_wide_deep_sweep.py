"""Trainings that no run goes on from any more are removed; one that may still run is left alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from clickmill.train.wide_deep import driver
from clickmill.train.wide_deep.driver import STALE_S, sweep


def training(root: Path, name: str, *, age: float, newest: float | None = None) -> Path:
    """A folder with a checkpoint, all written so many seconds ago, its pointer `newest` ago."""
    folder = root / name
    (folder / "checkpoints" / "0000000005").mkdir(parents=True)
    for place in ("task.json", "checkpoints/0000000005/state.json", "checkpoints/latest"):
        (folder / place).write_text("5")
    for place in (*folder.rglob("*"), folder):
        os.utime(place, (time.time() - age,) * 2)
    if newest is not None:
        os.utime(folder / "checkpoints" / "latest", (time.time() - newest,) * 2)
    return folder


def test_what_nobody_wrote_to_for_long_goes_and_nothing_else(tmp_path: Path) -> None:
    old = training(tmp_path, "old", age=STALE_S + 60)
    own = training(tmp_path, "own", age=STALE_S + 60)
    beside = training(tmp_path, "beside", age=2 * STALE_S, newest=STALE_S - 60)  # (long under way, and alive)
    training(tmp_path, ".half-abcd", age=STALE_S + 60)  # (a removal that was cut short)
    sweep(tmp_path, but=own)
    assert not old.exists()
    assert {place.name for place in tmp_path.iterdir()} == {own.name, beside.name}
    assert (own / "checkpoints" / "latest").read_text() == "5"


def test_where_nothing_was_trained_there_is_nothing_to_remove(tmp_path: Path) -> None:
    sweep(tmp_path / "not there", but=tmp_path)
    assert not (tmp_path / "not there").exists()


def test_a_removal_that_is_cut_short_leaves_nothing_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = training(tmp_path, "old", age=STALE_S + 60)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, but=tmp_path / "own")
    assert not old.exists()
    monkeypatch.undo()
    sweep(tmp_path, but=tmp_path / "own")
    assert not list(tmp_path.iterdir())


def test_two_runs_may_sweep_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = training(tmp_path, "old", age=STALE_S + 60)
    touched = driver._touched

    def other_was_first(folder: Path) -> float:
        found = touched(folder)
        old.rename(tmp_path.parent / "gone")
        return found

    monkeypatch.setattr(driver, "_touched", other_was_first)
    sweep(tmp_path, but=tmp_path / "own")
    assert touched(old) == float("inf")
