"""The GPU that a rank trains on. No Spark."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from clickmill.errors import PlatformError

DRIVER = "libcuda.so.1"


def present() -> int:
    """How many GPUs this process sees. Raises PlatformError where there is no driver, or it knows of none."""
    driver, count = _driver(), ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise PlatformError("device cuda: the NVIDIA driver here knows of no GPU; set device: cpu")
    return count.value


def memory() -> int:
    """Bytes of the smallest GPU that this process sees. Raises PlatformError as `present` does."""
    found = []
    for place in range(present()):
        device, size = ctypes.c_int(0), ctypes.c_size_t(0)
        if _driver().cuDeviceGet(ctypes.byref(device), place) or _driver().cuDeviceTotalMem_v2(
            ctypes.byref(size), device
        ):
            raise PlatformError(f"device cuda: the NVIDIA driver does not say how much memory GPU {place} has")
        found.append(size.value)
    return min(found)


def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        raise PlatformError(
            f"device cuda: there is no NVIDIA driver ({DRIVER}) here; set device: cpu, or run on a machine that "
            "has one"
        ) from None


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
