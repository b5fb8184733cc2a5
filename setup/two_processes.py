"""Two processes add up a vector by Horovod: the end of `make deep`. One line says what Horovod was built with.

`python setup/two_processes.py [NCCL]` starts both; with NCCL, it must have been built in. Exit 0: they agree.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROCESSES = 2
SECONDS = 240
"""For start-up, mostly: importing torch for the first time compiles it."""


def launch(wanted: list[str]) -> int:
    """Run this file in two processes; what they say is shown if one of them fails."""
    horovodrun = Path(sys.executable).with_name("horovodrun")
    command = [horovodrun, "--gloo", "-np", PROCESSES, "-H", f"localhost:{PROCESSES}", sys.executable, __file__]
    ring = subprocess.Popen(
        [*map(str, command), *wanted],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = ring.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(ring.pid, signal.SIGKILL)
        said, _ = ring.communicate()
        said += f"no answer within {SECONDS} s\n"
    built = [line.partition("built: ")[2] for line in said.splitlines() if "built: " in line]
    if ring.returncode or len(built) != 1:
        print(said, file=sys.stderr)
        return 1
    print(f"Horovod has {built[0]}; {PROCESSES} processes added up a vector")
    return 0


def take_part(wanted: list[str]) -> None:
    """One rank: its vector holds 1 for rank 0, 2 for rank 1; both must get 3."""
    import horovod.torch as hvd
    import torch

    hvd.init()
    summed = hvd.allreduce(torch.full((1000,), float(hvd.rank() + 1)), op=hvd.Sum, name="check")
    if hvd.size() != PROCESSES or not bool((summed == 3).all()):
        raise SystemExit(f"rank {hvd.rank()} of {hvd.size()} got {summed}")
    nccl = hvd.nccl_built()
    if "NCCL" in wanted and not (nccl and hvd.cuda_built()):
        raise SystemExit("Horovod was built without NCCL")
    if hvd.rank() == 0:
        version = f"{nccl // 10_000}.{nccl // 100 % 100}.{nccl % 100}"
        print(f"built: gloo{f', NCCL {version}, CUDA {torch.version.cuda}' if nccl else ''}")
    hvd.shutdown()


if __name__ == "__main__":
    if "HOROVOD_RANK" in os.environ:
        take_part(sys.argv[1:])
    else:
        sys.exit(launch(sys.argv[1:]))
