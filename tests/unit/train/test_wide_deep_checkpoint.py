"""Checkpoints: whole or not there, the newest that was pointed to, the last few kept, the best weights as well."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make deep)")

from clickmill.train.wide_deep.checkpoint import LATEST, Checkpoints


def save(some: Checkpoints, steps: int, best: int | None = None) -> None:
    some.save({"weight": torch.full((3,), float(steps))}, {"steps": steps}, steps=steps, best=best)


def steps_of(some: Checkpoints) -> int:
    found = some.latest()
    assert found is not None
    tensors, state = found
    assert tensors["weight"].tolist() == [float(state["steps"])] * 3
    return int(state["steps"])


def test_there_is_none_before_the_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "not there", 2).latest() is None


def test_the_newest_comes_back_and_so_many_are_kept(tmp_path: Path) -> None:
    some = Checkpoints(tmp_path, 2)
    for steps in (5, 10, 15):
        save(some, steps)
    assert steps_of(some) == 15
    assert sorted(place.name for place in tmp_path.glob("[0-9]*")) == ["0000000010", "0000000015"]


def test_what_a_killed_run_left_half_written_is_not_gone_on_from(tmp_path: Path) -> None:
    some = Checkpoints(tmp_path, 2)
    save(some, 5)
    (tmp_path / ".0000000010-abcd").mkdir()
    (tmp_path / ".0000000010-abcd" / "state.safetensors").write_bytes(b"half")
    (tmp_path / f"{LATEST}.part").write_text("00000000")
    assert steps_of(some) == 5
    (tmp_path / ".0000000010-abcd").rename(tmp_path / "0000000010")  # (renamed, but not yet pointed to)
    assert steps_of(some) == 5
    save(some, 10)
    assert steps_of(some) == 10
    assert not list(tmp_path.glob(".*"))


def test_the_best_weights_stay_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    some = Checkpoints(tmp_path, 2)
    for steps, best in ((5, 5), (10, 5), (15, 15), (20, 15)):
        if best == steps:
            some.save_best({"weight": torch.zeros(1)}, steps=steps)
        save(some, steps, best)
        assert some.best(best).exists()
    assert [place.name for place in tmp_path.glob("best-*")] == [some.best(15).name]


def test_who_looks_between_any_two_steps_of_a_save_finds_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, seen = Checkpoints(tmp_path, 1), []
    save(some, 5)

    def watched(owner: Any, name: str) -> None:
        done = getattr(owner, name)

        def wrapped(*given: Any, **further: Any) -> Any:
            seen.append(steps_of(some))
            found = done(*given, **further)
            seen.append(steps_of(some))
            return found

        monkeypatch.setattr(owner, name, wrapped)

    for owner, name in ((Path, "rename"), (Path, "replace"), (shutil, "rmtree")):
        watched(owner, name)
    save(some, 10)
    assert seen == [5, 5, 5, 10, 10, 10]  # folder renamed, pointer replaced, the one before removed


@pytest.mark.parametrize("name", ["rename", "replace"])
def test_a_save_that_fails_midway_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    some = Checkpoints(tmp_path, 1)
    save(some, 5)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, full)
        with pytest.raises(OSError, match="no space"):
            save(some, 10)
    assert steps_of(some) == 5
    save(some, 10)
    assert steps_of(some) == 10


def test_a_damaged_newest_one_is_got_past(tmp_path: Path) -> None:
    some = Checkpoints(tmp_path, 3)
    some.save_best({"weight": torch.zeros(1)}, steps=5)
    for steps in (5, 10, 15):
        save(some, steps, best=5)
    newest = tmp_path / "0000000015" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    assert steps_of(some) == 10
    (tmp_path / "0000000010" / "state.json").write_text("")
    assert steps_of(some) == 5
    for pointer in (b"", b"\0" * 10, b"\xff\xfe"):
        (tmp_path / LATEST).write_bytes(pointer)
        assert steps_of(some) == 5
    save(some, 10, best=5)
    assert steps_of(some) == 10
    some.best(5).write_bytes(b"")
    assert some.latest() is None, "without the weights that were best it is not whole"


def test_of_a_full_disk_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = Checkpoints(tmp_path, 2)
    save(some, 5)

    def full(_: Any, place: Path) -> None:
        place.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save(some, 10)
    with pytest.raises(OSError, match="No space left"):
        some.save_best({"weight": torch.zeros(1)}, steps=10)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["0000000005", LATEST]
    assert steps_of(some) == 5
