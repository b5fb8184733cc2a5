"""Sums across the ranks of a training. Ranks see only `Ring`; how the sums travel is this file's business."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clickmill.models.trees import import_xgboost

TIMEOUT_S = 1800
"""How long a rank waits for a neighbour that is alive (it may still be reading); a dead one is noticed at once."""


LEAVE_S = 5
"""How long the tracker waits for the other ranks to leave after its own."""


class Ring(Protocol):
    """One rank's end of the ring. All ranks must call in the same order with arrays of equal shape and type."""

    rank: int
    size: int

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The element-wise sum over all ranks, added in an order that hangs on `size` only. Same shape."""


class BrokenRingError(Exception):
    """A neighbour left the ring: it has the error that matters."""


class SoloRing:
    """One process that is all ranks."""

    rank = 0
    size = 1

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        return values


class CollectiveRing:
    """A ring of `xgboost.collective`."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        from xgboost import collective
        from xgboost.core import XGBoostError

        try:
            return np.asarray(collective.allreduce(values, collective.Op.SUM)).reshape(values.shape)
        except XGBoostError as error:
            raise BrokenRingError(f"rank {self.rank}: a neighbour left the ring") from error


@contextlib.contextmanager
def join(rank: int, size: int, address: Mapping[str, Any]) -> Iterator[Ring]:
    """The ring whose tracker is at `address` (its `worker_args`); leaving it breaks it for whoever is inside."""
    if size == 1:
        yield SoloRing()
        return
    import_xgboost()
    from xgboost import collective
    from xgboost.core import XGBoostError

    try:
        collective.init(**address, dmlc_task_id=f"{rank:06d}", dmlc_timeout=TIMEOUT_S, dmlc_retry=3)
    except XGBoostError as error:
        raise BrokenRingError(f"rank {rank}: the ring did not close") from error
    try:
        if collective.get_rank() != rank:
            raise RuntimeError(f"rank {rank} became {collective.get_rank()} in the ring")
        yield CollectiveRing(rank, size)
    finally:
        with contextlib.suppress(XGBoostError):  # the others are gone: there is nobody to take leave of
            collective.finalize()


def met(place: Path, address: dict[str, Any]) -> dict[str, Any]:
    """The tracker's address by way of a file: rank 0, who has it, writes it, and all others wait for it."""
    if address:
        aside = place.with_suffix(".part")
        aside.write_text(json.dumps(address), encoding="utf-8")
        aside.rename(place)
        return address
    end = time.monotonic() + TIMEOUT_S
    while not place.exists():  # (Spark ends this process if rank 0 fails before)
        if time.monotonic() > end:
            raise BrokenRingError("rank 0 told no address")
        time.sleep(0.005)
    return dict(json.loads(place.read_text(encoding="utf-8")))


def start_tracker(size: int, host: str) -> tuple[Any, dict[str, Any]]:
    """A tracker for `size` ranks bound to `host`, and the address to join at. Keep it until all have left."""
    import_xgboost()
    from xgboost.tracker import RabitTracker

    tracker = RabitTracker(n_workers=size, host_ip=host, sortby="task")
    tracker.start()
    return tracker, dict(tracker.worker_args())


def stop_tracker(tracker: Any) -> None:
    """Lets go of a tracker once its own rank has left; a ring that broke makes it complain, to nobody's use."""
    from xgboost.core import XGBoostError

    with contextlib.suppress(XGBoostError, ValueError):
        tracker.wait_for(LEAVE_S)
    with contextlib.suppress(XGBoostError):
        tracker.free()


def gather(ring: Ring, part: NDArray[Any], start: int, length: int) -> NDArray[Any]:
    """The whole array of `length` of which each rank has the part that begins at its `start`."""
    if ring.size == 1:
        return part
    padded = np.zeros(length, part.dtype)
    padded[start : start + len(part)] = part
    return ring.sum(padded)


def gather_uneven(ring: Ring, part: NDArray[Any]) -> NDArray[Any]:
    """The parts of all ranks one after the other; a part may be empty."""
    sizes = np.zeros(ring.size, np.int64)
    sizes[ring.rank] = len(part)
    sizes = ring.sum(sizes)
    return gather(ring, part, int(sizes[: ring.rank].sum()), int(sizes.sum()))
