"""Whether a network fits the memory of where it is trained, told before training begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil

from clickmill.errors import NotEnoughMemoryError
from clickmill.nets.layout import Layout
from clickmill.specs import WideDeepSpec
from clickmill.train import gpu
from clickmill.train.wide_deep.bits import LEAST

SHARE = 0.9
"""Of the free memory that tables and their state may take; rows and activations have the rest."""
GIB = 2**30


def require_memory(where: str, spec: WideDeepSpec, layout: Layout, *, here: bool) -> None:
    """Raises NotEnoughMemoryError where a rank's tables and their state are larger than what it may use.

    where: the model's key in the config. here: the ranks run on this machine, whose memory is known; elsewhere
    `memory_mb` alone tells. The message says at which bits they would fit.
    """
    if not here and spec.memory_mb is None:
        return
    most, need = allowed(spec), layout.bytes(spec.optimizer)
    if need <= most:
        return
    highest = max([*layout.bits, *([layout.wide_bits] if layout.wide else [])])
    caps = range(highest - 1, LEAST - 1, -1)
    fitting = next((cap for cap in caps if _capped(layout, cap).bytes(spec.optimizer) <= most), None)
    told = (
        f"with no table above {fitting} bits they would fit (embedding.max_bits, embedding.bits, wide_bits)"
        if fitting is not None
        else "no number of bits would do: leave slots out (columns.slots), or lower embedding.dim"
    )
    raise NotEnoughMemoryError(
        f"{where}: tables of up to {highest} bits and their state take {need / GIB:.2f} GiB a rank, and each of "
        f"{spec.ranks} may use {most / GIB:.2f} GiB; {told}"
    )


def allowed(spec: WideDeepSpec) -> int:
    """Bytes that tables and state of a rank on this machine may take: `memory_mb`, or a share of what is free."""
    if spec.memory_mb is not None:
        return spec.memory_mb * 2**20
    if spec.device == "cuda":
        return int(SHARE * gpu.memory())
    return int(SHARE * free()) // spec.ranks


def free() -> int:
    """Bytes that this machine has left, or its container may have."""
    left = psutil.virtual_memory().available
    try:
        return min(left, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # (no control group, or one without a limit)
        return left


def _capped(layout: Layout, bits: int) -> Layout:
    lower = tuple(min(own, bits) for own in layout.bits)
    return replace(layout, bits=lower, wide_bits=min(layout.wide_bits, bits))
