"""Starts ranks by `TorchDistributor`, Spark's own launcher of torch's processes. The driver's side."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from clickmill import session
from clickmill.errors import PlatformError
from clickmill.specs import WideDeepSpec
from clickmill.train.driver import ranks_for
from clickmill.train.wide_deep.worker import main

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GPUS_A_TASK = "spark.task.resource.gpu.amount"


def require(spark: SparkSession | None, spec: WideDeepSpec) -> None:
    """Raises PlatformError where there is no session, or its tasks lack a GPU that they need; NotEnoughSlotsError
    where it has too few slots."""
    if spark is None:
        raise PlatformError("launcher torch_distributor starts processes by Spark, and there is no session")
    if session.is_local(spark):
        return
    ranks_for(spark, spec.ranks)
    if spec.device == "cuda" and not int(spark.conf.get(GPUS_A_TASK, "0") or 0):
        raise PlatformError(f"device cuda: launcher torch_distributor needs {GPUS_A_TASK}, which is not set")


def threads(spark: SparkSession) -> int | None:
    """Of a rank's arithmetic where Spark's tasks start them: as many as a task's cores. None where they do not."""
    return None if session.is_local(spark) else int(spark.conf.get("spark.task.cpus", "1") or 1)


def run(
    spark: SparkSession,
    place: Path,
    spec: WideDeepSpec,
    log: TextIO,
    *,
    meeting: Sequence[str],
    environment: Mapping[str, str],
) -> int:
    """Trains by the task in a file; 1 where a rank failed.

    Where Spark is this machine alone its driver starts all ranks: with `environment`, and `meeting` in place of
    torchrun's own arguments for that. On a cluster the tasks of a barrier stage start one each.
    """
    from pyspark.ml.torch.distributor import TorchDistributor

    near = session.is_local(spark)
    # Near, ranks take the GPUs that there are by their number; Spark would ask for some of the driver's own.
    ranks = TorchDistributor(spec.ranks, local_mode=near, use_gpu=spec.device == "cuda" and not near)
    ranks.logger.setLevel(logging.WARNING)
    lent = _lent(environment, TorchDistributor, meeting) if near else contextlib.nullcontext()
    # It repeats what ranks say on the driver's standard output (near) or error.
    with lent, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            ranks.run(main, str(place), "torch" if near else "torch_afar")
        except Exception as error:  # noqa: BLE001  (the ranks' own words say more)
            log.write(f"\n{error}\n")
            return 1
    return 0


@contextlib.contextmanager
def _lent(environment: Mapping[str, str], distributor: Any, meeting: Sequence[str]) -> Iterator[None]:
    """Lends the processes that are started meanwhile their environment, and the place where they meet: its own is
    a server that listens on every interface."""

    def to_meet(*, num_processes: int, **_: Any) -> tuple[list[str], int]:
        return [*meeting], num_processes

    before, arguments = dict(os.environ), distributor._get_torchrun_args
    distributor._get_torchrun_args = staticmethod(to_meet)
    os.environ.update(environment)
    try:
        yield
    finally:
        distributor._get_torchrun_args = staticmethod(arguments)
        os.environ.clear()
        os.environ.update(before)
