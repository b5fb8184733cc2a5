"""Two processes with half of each batch learn what one learns with all of it, and send what a batch uses alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import feeder
import pytest

FEEDER = Path(feeder.__file__)


def by_torch(folder: Path) -> dict[str, Any]:
    place = folder / "found.json"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(FEEDER), "torch", str(folder), str(place)],
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "fed"},
        )
        for rank in range(2)
    ]
    assert [one.wait() for one in ranks] == [0, 0]
    return dict(json.loads(place.read_text()))


def by_horovod(folder: Path) -> dict[str, Any]:
    place = folder / "found.json"
    start = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2"]
    rank = [sys.executable, str(FEEDER), "horovod", str(folder), str(place)]
    subprocess.run([*start, "--network-interface", "lo", *rank], check=True)
    return dict(json.loads(place.read_text()))


NEEDS_HOROVOD = pytest.mark.skipif(find_spec("horovod") is None, reason="horovod is not installed (make deep)")


@pytest.fixture(scope="module", params=["torch", pytest.param("horovod", marks=NEEDS_HOROVOD)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    return by_torch(folder) if request.param == "torch" else by_horovod(folder)


def test_sums_are_those_of_all_ranks_also_where_one_has_no_rows(found: dict[str, Any]) -> None:
    assert found["checked"] == [[3.0, 3.0, 3.0], [0], [5], [[1.0, 1.0]]]


def test_two_ranks_with_half_a_batch_have_the_losses_of_one_with_all(found: dict[str, Any]) -> None:
    alone = feeder.alone(200)
    assert found["losses"] == pytest.approx(alone, abs=1e-5)
    assert alone[-1] < 0.9 * alone[0]


def test_so_they_have_under_adam_with_clipped_gradients(found: dict[str, Any]) -> None:
    assert found["adam"] == pytest.approx(feeder.alone(50, optimizer="adam", clip_norm=0.5), abs=1e-5)


def test_bytes_grow_with_the_values_of_a_batch_and_not_with_the_table(found: dict[str, Any]) -> None:
    small, large, more = found["bytes"]
    assert small == large
    assert more > 1.2 * large
