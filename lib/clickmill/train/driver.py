"""Barrier stages: so many tasks at once, a ring between them, and the right error when one fails. Spark."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from clickmill import session
from clickmill.errors import NotEnoughSlotsError, RankError
from clickmill.train import report, ring
from clickmill.train.report import RankFailedError, Row
from clickmill.train.ring import BrokenRingError, Ring

Work = Callable[[Iterator[pa.RecordBatch], Ring], Iterator[pa.RecordBatch]]
"""What a rank does with its batches (none, where it reads its own) and its end of the ring → report rows."""

_LOST = re.compile(r"barrier task ResultTask\(\d+, (\d+)\)")


def ranks_for(spark: SparkSession, asked: int | None) -> int:
    """How many ranks to start. Raises NotEnoughSlotsError: a barrier stage without its slots waits for ever."""
    slots = session.slots(spark)
    if asked is not None and asked > slots:
        raise NotEnoughSlotsError(
            f"{asked} ranks need {asked} slots, and Spark has {slots}: lower `ranks`, or give Spark more cores"
        )
    return slots if asked is None else asked


def run(spark: SparkSession, work: Work, *, ranks: int, frame: DataFrame | None = None) -> list[Row]:
    """Runs `work` on every rank of one barrier stage and returns what they report, by rank.

    frame: rows that Spark hands to the ranks; without it they get none and read their own. Raises the
    error of the rank that failed (see `report.raised_in`), RankError with the number of a rank that was killed.
    The stage is a result stage, which Spark does not try again.
    """
    ranks = ranks_for(spark, ranks)
    rows = spark.range(0, ranks, 1, ranks) if frame is None else frame.repartition(ranks)
    with tempfile.TemporaryDirectory(prefix="clickmill-ranks-") as folder:
        on_rank = partial(_on_rank, work=work, meeting=folder if session.is_local(spark) else None)
        try:
            told = rows.mapInArrow(on_rank, report.DDL, barrier=True).collect()
        except Exception as error:  # (Py4JJavaError here, PySparkException under Connect)
            failed, lost = report.raised_in(str(error)), _LOST.search(str(error))
            if failed is not None:
                raise failed from None
            if lost is None:
                raise
            raise RankError(f"rank {lost[1]} was killed or lost: {_cause(str(error))}") from None
    found = [Row(row.rank, row.kind, json.loads(row.value), row.data) for row in told]
    return report.checked(sorted(found, key=lambda row: row.rank))


def _on_rank(batches: Iterator[pa.RecordBatch], *, work: Work, meeting: str | None) -> Iterator[pa.RecordBatch]:
    """Joins the ring that rank 0 tells of and does the work. Its own error fails its task; a broken ring does not.

    meeting: a folder that all ranks see, on one machine.
    """
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    rank, hosts = context.partitionId(), [info.address for info in context.getTaskInfos()]
    size = len(hosts)
    tracker: Any = None
    address: dict[str, Any] = {}
    if rank == 0 and size > 1:
        tracker, address = ring.start_tracker(size, "127.0.0.1" if meeting else hosts[0].rpartition(":")[0])
    if meeting is None:
        address = json.loads(context.allGather(json.dumps(address))[0])
    elif size > 1:  # (Spark would take a second)
        address = ring.met(Path(meeting, "tracker"), address)
    told: list[pa.RecordBatch] = []
    try:
        with ring.join(rank, size, address) as joined:
            try:
                told = list(work(batches, joined))
            except BrokenRingError as error:
                told = [report.broken(rank, error)]
            except Exception as error:
                raise RankFailedError.of(rank, error) from error
    except RankFailedError:
        raise
    except Exception as error:  # noqa: BLE001  (joining or leaving failed: a neighbour is gone)
        told = told or [report.broken(rank, error)]
    if tracker is not None:
        ring.stop_tracker(tracker)
    for _ in batches:  # Spark ends a Python worker that leaves rows unread, and all that it had loaded
        pass
    yield from told


def host_of(spark: SparkSession) -> str | None:
    """The address that ranks reach the driver at; None where Spark does not say."""
    return "127.0.0.1" if session.is_local(spark) else spark.conf.get("spark.driver.host", None)


def _cause(text: str) -> str:
    """The line of a Spark error that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "crashed" in line or "exited" in line or "lost" in line.lower()]
    return (telling or lines)[0][:300]
