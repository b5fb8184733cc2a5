"""The GPU that a rank trains on. No Spark."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from clickmill.errors import PlatformError

DRIVER = "libcuda.so.1"


def present() -> int:
    """How many GPUs this process sees. Raises PlatformError where there is no driver, or it knows of none."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        raise PlatformError(
            f"device cuda: there is no NVIDIA driver ({DRIVER}) here; set device: cpu, or run on a machine that "
            "has one"
        ) from None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise PlatformError("device cuda: the NVIDIA driver here knows of no GPU; set device: cpu")
    return count.value


def device(rank: int, addresses: Sequence[str], found: int) -> str:
    """`cuda:2`, say: the GPU that Spark gave the rank's task, else the one of the rank's own number.

    addresses: what Spark says of the task's resource `gpu`, empty where it hands out none. found: how many GPUs
    this process sees. Raises PlatformError where the rank has none of its own (two would share its memory).
    """
    asked = addresses[0] if addresses else str(rank)
    if not asked.isdigit():
        raise PlatformError(
            f"device cuda: Spark gave rank {rank} the GPU {asked!r}, and XGBoost knows them by number"
        )
    if int(asked) >= found:
        said = f"Spark gave it GPU {asked}" if addresses else "Spark hands out no GPUs"
        raise PlatformError(
            f"device cuda: rank {rank} sees {found} of them, and {said}: set spark.task.resource.gpu.amount=1 and "
            "spark.executor.resource.gpu.amount, or lower `ranks` to the number of GPUs"
        )
    return f"cuda:{int(asked)}"
