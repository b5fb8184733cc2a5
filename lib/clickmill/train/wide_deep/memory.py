"""Whether a network fits the memory of where it is trained, told before training begins."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil

from clickmill.errors import NotEnoughMemoryError
from clickmill.nets.layout import Layout
from clickmill.specs import WideDeepSpec
from clickmill.train import gpu
from clickmill.train.wide_deep.bits import LEAST

SHARE = 0.9
"""Of the free memory that tables and their state may take; rows and activations have the rest."""
GIB = 2**30
PROCESS = 3 * GIB // 4
"""That a rank takes whatever its tables: Python, torch, compiled loops; measured with tables of 2^10 rows."""


class _Limit(NamedTuple):
    """What tables may take somewhere."""

    need: Callable[[Layout], int]
    most: int
    """Bytes."""
    said: str


def require_memory(where: str, spec: WideDeepSpec, layout: Layout, *, here: bool) -> None:
    """Raises NotEnoughMemoryError where a rank's tables and their state are larger than what it may use, or what
    the driver needs to make an artifact of them is larger than what it has when the ranks have ended.

    where: the model's key in the config. here: the ranks run on this machine, whose memory is known; elsewhere
    `memory_mb` alone tells, and then each rank itself. The message says at which bits they would fit.
    """
    _require(where, layout, _limits(spec, here=here))


def require_memory_of_ranks(spec: WideDeepSpec, layout: Layout, beside: int) -> None:
    """The same, on a rank's machine, which may be another than the driver's, before any rank there has tables.

    beside: ranks on this machine. It is the last look, and refuses what cannot be; `memory_mb` is not heard again.
    """
    most = gpu.memory() if spec.device == "cuda" else free() // beside
    said = f"on {socket.gethostname()}, where each of {beside} ranks may use"
    _require("wide_deep", layout, [_Limit(lambda some: some.bytes(spec.optimizer), most, said)])


def _require(where: str, layout: Layout, limits: Sequence[_Limit]) -> None:
    broken = next((limit for limit in limits if limit.need(layout) > limit.most), None)
    if broken is None:
        return
    highest = max([*layout.bits, *([layout.wide_bits] if layout.wide else [])])
    caps = ((cap, _capped(layout, cap)) for cap in range(highest - 1, LEAST - 1, -1))
    fitting = next((cap for cap, some in caps if all(limit.need(some) <= limit.most for limit in limits)), None)
    told = (
        f"with no table above {fitting} bits they would fit (embedding.max_bits, embedding.bits, wide_bits)"
        if fitting is not None
        else "no number of bits would do: leave slots out (columns.slots), or lower embedding.dim"
    )
    need, most = broken.need(layout) / GIB, broken.most / GIB
    raise NotEnoughMemoryError(
        f"{where}: tables of up to {highest} bits and their state take {need:.2f} GiB {broken.said} "
        f"{most:.2f} GiB; {told}"
    )


def _limits(spec: WideDeepSpec, *, here: bool) -> list[_Limit]:
    """A rank writes checkpoints from where its tensors lie and keeps the best weights in a file: neither needs
    memory, but that rank 0 of a GPU has all of it outside the GPU as well while it writes."""
    outside = int(SHARE * free())
    found = [_Limit(Layout.packed, outside, "in the driver as it saves the weights, which may use")]

    def of_rank(layout: Layout) -> int:
        return layout.bytes(spec.optimizer)

    if here and spec.device == "cuda":
        found.insert(0, _Limit(of_rank, outside, "outside the GPU as a checkpoint is written, where there are"))
    if here or spec.memory_mb is not None:
        found.insert(0, _Limit(of_rank, allowed(spec), f"a rank, and each of {spec.ranks} may use"))
    return found


def allowed(spec: WideDeepSpec) -> int:
    """Bytes that tables and state of a rank on this machine may take: `memory_mb`, or its part of a share of what
    is free, less what any rank takes."""
    if spec.memory_mb is not None:
        return spec.memory_mb * 2**20
    if spec.device == "cuda":
        return int(SHARE * gpu.memory())
    return max(int(SHARE * free()) // spec.ranks - PROCESS, 0)


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
