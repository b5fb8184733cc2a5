"""The processes that train a network together, and what they say to each other. No Spark."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from clickmill.errors import RankError

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["alone", "horovod", "torch", "torch_afar"]
"""torch: on one machine, where its processes meet by a file; torch_afar: on several, where torchrun's meet."""
TIMEOUT = timedelta(minutes=30)
"""How long torch's processes wait for a neighbour that is alive (it may still be reading); the end of a dead one
breaks its connection, and is noticed at once."""
JOIN = timedelta(minutes=5)
"""How long those of one machine wait for the others to start."""
POLL_S = 5e-5


class BrokenTeamError(Exception):
    """A neighbour left the team: it has the error that matters, or was killed."""


class Team(Protocol):
    """One rank's end. Every method but the two numbers is called by all ranks alike, or all wait."""

    @property
    def rank(self) -> int:
        """From 0 to `size` - 1."""

    @property
    def size(self) -> int: ...

    @property
    def bytes_sent(self) -> int:
        """Of the tensors that this rank has handed over for others so far."""

    @property
    def seconds(self) -> float:
        """That it has spent handing over, and waiting for others."""

    def broadcast(self, tensor: Tensor) -> None:
        """Makes it rank 0's, in place."""

    def sum(self, tensor: Tensor) -> None:
        """Makes it the sum over ranks, in place; the same bits on every rank."""

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows by their index, summed over ranks: (k,) int64 rising without repeats and (k, d) in, (m,) rising and
        (m, d) out, the same bits on every rank. k may differ by rank, and be 0. Never a whole table."""


class Alone:
    """A team of one."""

    rank, size, bytes_sent, seconds = 0, 1, 0, 0.0

    def broadcast(self, tensor: Tensor) -> None:
        """Nothing: it is rank 0's."""

    def sum(self, tensor: Tensor) -> None:
        """Nothing: it is the sum."""

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """As they are."""
        return index, rows


class _Counting:
    """What teams of several processes count."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.bytes_sent, self.seconds = 0, 0.0

    @contextlib.contextmanager
    def _sends(self, *tensors: Tensor) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        except RuntimeError as error:  # (what both libraries raise, whatever it was)
            raise BrokenTeamError(f"rank {self.rank}: a neighbour left: {error}") from error
        self.bytes_sent += sum(one.nbytes for one in tensors)
        self.seconds += time.perf_counter() - start


class HorovodTeam(_Counting):
    """Horovod's processes: gloo for tensors in memory, NCCL for those on GPUs. `horovod.torch` is initialised."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        self._hvd = hvd
        super().__init__(hvd.rank(), hvd.size())

    def broadcast(self, tensor: Tensor) -> None:
        with self._sends(*([] if self.rank else [tensor])):
            self._wait(self._hvd.broadcast_async_(tensor, 0, name=f"broadcast {_like(tensor)}"))

    def sum(self, tensor: Tensor) -> None:
        with self._sends(tensor):
            self._wait(self._hvd.allreduce_async_(tensor, op=self._hvd.Sum, name=f"sum {_like(tensor)}"))

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        headed = torch.cat((index.new_tensor([len(index)]), index))
        named = {f"index {rows.shape[1]}": headed, f"rows {rows.shape[1]}": rows}
        with self._sends(headed, rows):  # (both are on their way before either is waited for)
            sent = [self._hvd.allgather_async(part, name=name) for name, part in named.items()]
            indices, all_rows = (self._wait(one) for one in sent)
        parts = _apart(indices)
        return _merged(parts, all_rows.split([len(part) for part in parts]))

    def _wait(self, handle: int) -> Any:
        # Horovod's own waiting keeps a core busy that the neighbour or the loader could have.
        while not self._hvd.poll(handle):
            time.sleep(POLL_S)
        return self._hvd.synchronize(handle)


class TorchTeam(_Counting):
    """Processes of `torch.distributed`: gloo for tensors in memory, NCCL for those on GPUs. The default process
    group is initialised."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self._dist = dist
        super().__init__(dist.get_rank(), dist.get_world_size())

    def broadcast(self, tensor: Tensor) -> None:
        with self._sends(*([] if self.rank else [tensor])):
            self._dist.broadcast(tensor, 0)

    def sum(self, tensor: Tensor) -> None:
        with self._sends(tensor):
            self._dist.all_reduce(tensor)

    def sum_sparse(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        lengths = [int(one) for one in self._gathered(index.new_tensor([len(index)]))]
        return _merged(self._uneven(index, lengths), self._uneven(rows, lengths))

    def _uneven(self, part: Tensor, lengths: list[int]) -> list[Tensor]:
        """Parts of unequal lengths travel as long as the longest."""
        padded = part.new_zeros((max(lengths), *part.shape[1:]))
        padded[: len(part)] = part
        return [one[:length] for one, length in zip(self._gathered(padded), lengths, strict=True)]

    def _gathered(self, tensor: Tensor) -> list[Tensor]:
        parts = [tensor.new_empty(tensor.shape) for _ in range(self.size)]
        with self._sends(tensor):
            self._dist.all_gather(parts, tensor)
        return parts


@contextlib.contextmanager
def joined(kind: Kind, *, meeting: str, device: str = "cpu") -> Iterator[Team]:
    """The team that this process was started for, left at the end where all went well.

    meeting: a folder that all ranks see, where torch's of one machine find each other. Raises BrokenTeamError
    where some do not come, RankError with their numbers where that is known.
    """
    if kind == "alone":
        yield Alone()
    elif kind == "horovod":
        yield from _of_horovod()
    else:
        yield from _of_torch(Path(meeting) if kind == "torch" else None, device)


def _of_horovod() -> Iterator[Team]:
    import horovod.torch as hvd

    try:
        hvd.init()
    except RuntimeError as error:
        raise BrokenTeamError(f"the team did not come together: {error}") from error
    yield HorovodTeam()
    hvd.shutdown()


def _of_torch(meeting: Path | None, device: str) -> Iterator[Team]:
    import torch.distributed as dist

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    # A file, since torch's own place to meet listens on every interface. Its name is this run's alone.
    store = meeting and dist.FileStore(str(meeting / f"met-{os.environ['TORCHELASTIC_RUN_ID']}"), size)
    if store:
        _meet(store, rank, size)
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except RuntimeError as error:
        raise BrokenTeamError(f"rank {rank}: the team did not come together: {error}") from error
    yield TorchTeam()
    dist.destroy_process_group()


def _meet(store: Any, rank: int, size: int) -> None:
    """Waits for all ranks. Raises RankError with those that do not come."""
    here = [f"here-{other}" for other in range(size)]
    store.set(here[rank], "")
    try:
        store.wait(here, JOIN)
    except RuntimeError as error:
        absent = ", ".join(str(other) for other, key in enumerate(here) if not store.check([key]))
        raise RankError(f"rank {absent} did not start within {JOIN}, for which rank {rank} waited") from error


def local_rank() -> int:
    """The number of this process among those of its machine."""
    return int(os.environ.get("HOROVOD_LOCAL_RANK") or os.environ.get("LOCAL_RANK") or 0)


def local_size() -> int:
    """How many ranks its machine has."""
    return int(os.environ.get("HOROVOD_LOCAL_SIZE") or os.environ.get("LOCAL_WORLD_SIZE") or 1)


def _like(tensor: Tensor) -> str:
    """A name that calls with tensors of its kind share, so that Horovod need agree on each but once."""
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def _apart(headed: Tensor) -> list[Tensor]:
    """The indices of each rank, before which their number stands."""
    parts, at = [], 0
    while at < len(headed):
        end = at + 1 + int(headed[at])
        parts.append(headed[at + 1 : end])
        at = end
    return parts


def _merged(indices: Sequence[Tensor], rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The sums of the ranks' rows."""
    from clickmill.train.wide_deep.sparse import merged

    return merged(list(zip(indices, rows, strict=True)))
