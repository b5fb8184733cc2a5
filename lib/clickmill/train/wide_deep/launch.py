"""Starts the ranks of a training, waits, and tells what they made or which went wrong. The driver's side."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import psutil

from clickmill.errors import PlatformError, RankError
from clickmill.train.wide_deep import distributor, words
from clickmill.train.wide_deep.bound import LOOPBACK, ON_LOOPBACK
from clickmill.train.wide_deep.task import FIGURES, RESULT, Task

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

WORKER = "clickmill.train.wide_deep.worker"
BOUND = "clickmill.train.wide_deep.bound"
LOG = "ranks.log"
START_S = 120
"""How long Spark's tasks may take to come together."""
LEAVE_S = 10
"""How long a launcher that is told to end has for its ranks."""
HOROVOD = {"HOROVOD_CYCLE_TIME": "0.5", "HOROVOD_GLOO_TIMEOUT_SECONDS": "30"}
"""Half a millisecond between Horovod's looks for tensors to send; a neighbour that does not answer for 30 s is
gone (one that only reads still answers)."""


def launch(task: Task, *, spark: SparkSession | None = None) -> dict[str, Any]:
    """Trains on the ranks that the spec asks for, by its launcher, and returns the figures of the result.

    spark: with it Horovod's processes are started by Spark's tasks, unless the spec names hosts; TorchDistributor
    needs it. Raises the error of the first rank that failed, by its class where it is one of ours; RankError with
    the number of a rank that was killed; PlatformError where a launcher is not there, NotEnoughSlotsError. No rank
    outlives this.
    """
    folder = Path(task.folder)
    if task.spec.launcher == "torch_distributor":
        distributor.require(spark, task.spec)
        task = _with_threads(task, distributor.threads(cast("SparkSession", spark)))
    place = task.save()
    shutil.rmtree(folder / RESULT, ignore_errors=True)
    words.clear(folder)
    ranks = task.spec.ranks
    with (folder / LOG).open("w", encoding="utf-8") as log:
        try:
            if task.spec.launcher == "horovod" and spark is not None and task.spec.hosts is None:
                code = _in_spark(spark, place, ranks, log)
            elif task.spec.launcher == "torch_distributor":
                code = _by_distributor(cast("SparkSession", spark), task, place, log)
            else:
                code = _waited(_command(task, place), _environment(task), log)
        finally:
            words.end(folder)
    reason = words.verdict(folder, ranks)
    if reason is None and (code or not (folder / RESULT).is_dir()):
        reason = _unknown(task, code)
    if reason is not None:
        raise reason
    return dict(json.loads((folder / RESULT / FIGURES).read_text(encoding="utf-8")))


def _command(task: Task, place: Path) -> list[str]:
    """What starts the ranks on this machine or on hosts, and ends when this process does."""
    ranks, python = str(task.spec.ranks), sys.executable
    worker = [WORKER, str(place), "--team"]
    begin = [python, "-m", BOUND, str(os.getpid())]
    if task.spec.launcher == "horovod":
        _require("horovod")
        hosts = filled(task.spec.hosts or f"localhost:{ranks}", task.spec.ranks)
        near = ["--network-interface", loopback()] if is_here(hosts) else []
        run = ["horovod.runner.launch", "--gloo", "-np", ranks, "-H", hosts, *near, python, "-m"]
        return [*begin, *run, *worker, "horovod"]
    _require("torch")
    if task.spec.launcher == "torchrun":
        run = ["torch.distributed.run", "--nproc-per-node", ranks, *_meeting(place), "-m"]
        return [*begin, *run, *worker, "torch"]
    return [*begin, *worker, "alone"]


def filled(hosts: str, ranks: int) -> str:
    """Of `a:2,b:2` the slots that so many ranks take, the first hosts' first (Horovod fills all)."""
    held: dict[str, int] = {}
    for one in hosts.split(","):
        host, _, slots = one.strip().rpartition(":")
        taken = min(int(slots), ranks - sum(held.values()))
        if taken:
            held[host] = held.get(host, 0) + taken
    return ",".join(f"{host}:{slots}" for host, slots in held.items())


def _meeting(place: Path) -> list[str]:
    """Where torchrun's processes on one machine find each other: a file, since torch's own server for that listens
    on every interface."""
    name = secrets.token_hex(8)
    by_file = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file"]
    by_file += ["--rdzv-endpoint", str(place.parent / f"meeting-{name}"), "--rdzv-id", name]
    return ["--nnodes", "1", *by_file, "--local-addr", LOOPBACK]


def _environment(task: Task) -> dict[str, str]:
    own = dict(os.environ) | HOROVOD
    if task.spec.launcher != "horovod" or is_here(task.spec.hosts or "localhost"):
        own |= {ON_LOOPBACK: "1", "GLOO_SOCKET_IFNAME": loopback(), "NCCL_SOCKET_IFNAME": loopback()}
    own.setdefault("OMP_NUM_THREADS", "1")  # (torchrun would warn that it sets it)
    return own


def _waited(command: Sequence[str], environment: Mapping[str, str], log: TextIO) -> int:
    """The exit code. Told to end while it waits, it ends the launcher with its ranks."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE_S)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _by_distributor(spark: SparkSession, task: Task, place: Path, log: TextIO) -> int:
    """torch's processes by Spark's own launcher; 1 where one failed."""
    _require("torch")
    meeting, environment = _meeting(place), _environment(task)
    return distributor.run(spark, place, task.spec, log, meeting=meeting, environment=environment)


def _with_threads(task: Task, number: int | None) -> Task:
    """The task with so many threads a rank, unless it says its own."""
    if number is None or task.spec.threads is not None:
        return task
    return replace(task, spec=task.spec.model_copy(update={"threads": number}))


def _in_spark(spark: SparkSession, place: Path, ranks: int, log: TextIO) -> int:
    """Horovod's processes by Spark's tasks; 1 where one failed."""
    _require("horovod")
    import horovod.spark

    from clickmill import session
    from clickmill.train.driver import ranks_for
    from clickmill.train.wide_deep.bound import horovod_on_loopback
    from clickmill.train.wide_deep.worker import main_with_horovod

    ranks_for(spark, ranks)
    near = session.is_local(spark)
    with horovod_on_loopback() if near else contextlib.nullcontext(), _own_signals():
        try:
            horovod.spark.run(
                main_with_horovod,
                args=(str(place),),
                num_proc=ranks,
                start_timeout=START_S,
                use_gloo=True,
                env=HOROVOD,
                stdout=log,
                stderr=log,
                verbose=0,
                nics={loopback()} if near else None,
            )
        except Exception as error:  # noqa: BLE001  (the ranks' own words say more)
            log.write(f"\n{error}\n")
            return 1
    return 0


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Gives back what happens on signals: Horovod takes them for good."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)


def is_here(hosts: str) -> bool:
    """Whether `a:2,b:2` names this machine alone."""
    names = {one.rpartition(":")[0] or one for one in hosts.split(",")}
    return names <= {"localhost", LOOPBACK, socket.gethostname()}


def loopback() -> str:
    """The name of the interface that only this machine reaches."""
    found = (
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(one.family == socket.AF_INET and one.address == LOOPBACK for one in addresses)
    )
    name = next(found, None)
    if name is None:
        raise PlatformError(
            f"this machine has no interface with the address {LOOPBACK}, where ranks find each other"
        )
    return name


def _require(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise PlatformError(f"wide_deep: {package} is not installed: `make deep` does that")


def _unknown(task: Task, code: int) -> RankError:
    """Where no rank told of an error of its own: what there is in the launcher's log."""
    log = Path(task.folder) / LOG
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    telling = [line for line in lines if "Error" in line] or [line for line in lines if line]
    ranks, missing = task.spec.ranks, words.missing(words.heard(task.folder), task.spec.ranks)
    without = f" (not rank {', '.join(map(str, missing))})" if missing else ""
    return RankError(
        f"launcher {task.spec.launcher} ended with {code}, and {ranks - len(missing)} of {ranks} ranks had come"
        f"{without}: {telling[-1][:300] if telling else 'it said nothing'} ({log} has all of it)"
    )
