"""One GPU for each rank: the one that Spark names, else that of its own number, and never another's."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from clickmill.errors import PlatformError
from clickmill.train import gpu


class Driver:
    """What ctypes makes of a driver's library that knows so many GPUs."""

    def __init__(self, count: int, code: int = 0) -> None:
        self.count, self.code = count, code

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = self.count
        return self.code


def test_spark_s_address_comes_before_the_rank_s_number() -> None:
    assert gpu.device(0, ["3"], 4) == "cuda:3"
    assert [gpu.device(rank, [], 2) for rank in (0, 1)] == ["cuda:0", "cuda:1"]


def test_a_rank_without_a_gpu_of_its_own_is_told_what_to_set() -> None:
    with pytest.raises(
        PlatformError, match=r"rank 2 sees 2 of them, and Spark hands out no GPUs: set spark\.task"
    ):
        gpu.device(2, [], 2)
    with pytest.raises(PlatformError, match="rank 0 sees 1 of them, and Spark gave it GPU 1"):
        gpu.device(0, ["1"], 1)
    with pytest.raises(PlatformError, match="Spark gave rank 0 the GPU 'MIG-7'"):
        gpu.device(0, ["MIG-7"], 1)


def test_a_machine_says_how_many_gpus_it_has_or_that_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for driver, said in ((Driver(0), "knows of no GPU"), (Driver(1, code=100), "knows of no GPU")):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, driver=driver: driver)
        with pytest.raises(PlatformError, match=said):
            gpu.present()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(2))
    assert gpu.present() == 2
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "DRIVER", "libnothing.so.9")
    with pytest.raises(PlatformError, match=r"no NVIDIA driver \(libnothing.so.9\) here; set device: cpu"):
        gpu.present()
