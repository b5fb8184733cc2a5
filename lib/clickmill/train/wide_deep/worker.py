"""What one rank does: joins its team, trains, and leaves a word. No Spark.

python -m clickmill.train.wide_deep.worker TASK --team alone|horovod|torch
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

from clickmill.errors import PlatformError, WorldSizeError
from clickmill.train import gpu
from clickmill.train.wide_deep.bound import die_with
from clickmill.train.wide_deep.memory import require_memory_of_ranks
from clickmill.train.wide_deep.task import Task
from clickmill.train.wide_deep.team import BrokenTeamError, Kind, Team, joined, local_rank, local_size
from clickmill.train.wide_deep.words import Words


def main(place: str, kind: Kind) -> None:
    """Trains by the task in a file as one rank of a team. On an error it leaves its word and ends the process:
    a rank that waited for its neighbours' leave on the way out could wait for ever."""
    words: list[Words] = []
    die_with()
    try:
        task = Task.load(place)
        words.append(Words(task.folder, _own_rank(kind)))
        words[0].say("started")
        _stop_on_signal(words[0])
        require_memory_of_ranks(task.spec, task.layout, local_size())
        with joined(kind, meeting=task.folder, device=task.spec.device) as team:
            require_size(task, team)
            _fit(task, team)
        words[0].say("done")
    except BaseException as error:  # noqa: BLE001  (whatever it is, the others are told)
        traceback.print_exc()
        for word in words:
            with contextlib.suppress(OSError):  # (and is then missed: it ends all the same)
                word.say("broken" if isinstance(error, BrokenTeamError) else "failed", error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def main_with_horovod(place: str) -> None:
    """`main` as `horovod.spark.run` is handed it."""
    main(place, "horovod")


def require_size(task: Task, team: Team) -> None:
    """Raises WorldSizeError where other ranks than asked for have come."""
    if team.size != task.spec.ranks:
        raise WorldSizeError(
            f"wide_deep: the model is to be trained by {task.spec.ranks} ranks, and {team.size} were started: "
            "set `ranks` to the number that the launcher starts"
        )


def _fit(task: Task, team: Team) -> None:
    import torch

    from clickmill.train.wide_deep.loop import fit

    # (each of the network's own threads takes rows through all layers; torch's would meet after every product)
    torch.set_num_threads(1)
    threads = task.spec.threads or max(1, len(os.sched_getaffinity(0)) // local_size())
    device = "cpu"
    if task.spec.device == "cuda":
        device = gpu.device(local_rank(), [], gpu.present())
        if not torch.cuda.is_available():
            raise PlatformError("device cuda: torch sees no GPU here; set device: cpu")
        torch.cuda.set_device(device)
    fit(task, team, device, threads=threads)


def _own_rank(kind: Kind) -> int:
    """Known before the team comes together, so that a rank that never gets there is missed by its number."""
    known = {"alone": "", "horovod": "HOROVOD_RANK"}
    return int(os.environ.get(known.get(kind, "RANK"), "0"))


def _stop_on_signal(words: Words) -> None:
    """Told to end, a rank leaves its word and ends at once, also while it waits for neighbours outside Python."""
    if threading.current_thread() is not threading.main_thread():
        return
    inside, outside = socket.socketpair()
    outside.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(outside.fileno())

    def wait() -> None:
        while inside.recv(1) != bytes([signal.SIGTERM]):
            pass
        words.say("stopped", BrokenTeamError("told to end"))
        outside.close()
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("--team", choices=("alone", "horovod", "torch"), default="alone")
    given = parser.parse_args()
    main(str(given.task), given.team)
