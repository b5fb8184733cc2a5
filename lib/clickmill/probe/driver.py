"""Starts a session on the master, asks its executors, and says what of a day's jobs would fail there."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import time
from typing import TypeVar

from pyspark.sql import SparkSession

from clickmill import reader, session
from clickmill.config import Config, SparkConf
from clickmill.doctor import Check
from clickmill.errors import ClickmillError
from clickmill.probe import checks, launchers, worker
from clickmill.probe.worker import Seen
from clickmill.specs import duration
from clickmill.tables import Tables

PACKAGES = ("clickmill", "deltalake", "mmh3", "numba", "numpy", "pandas", "psutil", "pyarrow", "xgboost")
"""Those that tasks import."""
NEAR = f"local[{launchers.RANKS}]"
"""Where launchers are tried unless a master is named."""
PATIENCE_S = 120.0
"""How long executors may take to come and to unpack what is sent to them."""
GROWTH = 0.7
"""Heaps' exponent of values by days: ten days have five times the different values of one."""
PATIENT = {
    "spark.scheduler.minRegisteredResourcesRatio": "1",
    "spark.scheduler.maxRegisteredResourcesWaitingTime": "20s",
}
"""That tasks do not all go to the executor that comes first."""
Answer = TypeVar("Answer")


def check(cfg: Config, master: str, *, launching: bool = False) -> list[Check]:
    """What there is to say of the cluster at `master`; the first check that fails may be the last.

    A session is started with the settings of `cfg` and stopped. Nothing stays in the warehouse, but a small table
    `_doctor` where that is an address. launching: each launcher of networks is tried too.
    """
    conf = SparkConf(master=master, settings={**PATIENT, **cfg.spark.settings})
    try:
        spark = session.get_spark(conf, app="clickmill doctor")
    except Exception as error:  # noqa: BLE001  (of whatever kind, it is what is to be told)
        log = session.spark_log_file()
        return [_failed("master", _first_line(error), f"Spark's own log is {log}" if log.exists() else "")]
    try:
        found = _checks(spark, cfg)
        if launching:
            found += launchers.tried(spark, cfg.warehouse_path)
    finally:
        spark.stop()
    made = [Check("master", True, master), *found]
    return [one._replace(advice="") if one.ok else one for one in made]


def _checks(spark: SparkSession, cfg: Config) -> list[Check]:
    told, asked = session.slots(spark), checks.asked_ranks(cfg)
    asked_for = (spark.conf.get("spark.dynamicAllocation.enabled", "false") or "").lower() == "true"
    dynamic = asked_for and not session.is_local(spark)
    found = [checks.dynamic_allocation(dynamic)]
    tasks = max(8, 2 * max([told, *(ranks or 0 for ranks in asked.values())]))
    try:
        with _marked(cfg.warehouse_path) as mark:
            seen, clocks = _asked(partial(_ask, spark, tasks, mark))
            arrived = 0 if mark is None else len(list(Path(mark).parent.glob(f"{Path(mark).name}-*")))
    except TimeoutError:
        advice = (
            "no executor started: are there workers with so many cores and so much memory free "
            "(spark.executor.memory, spark.executor.cores)? The master's UI and the workers' logs say"
        )
        return [*found, _failed("executors", f"none in {PATIENCE_S:.0f} s", advice)]
    except Exception as error:  # noqa: BLE001  (as above)
        return [*found, _failed("executors", _first_line(error), checks.SEND)]
    found += [
        checks.executors(seen),
        checks.slots(seen, told=told, asked=asked),
        checks.pythons(seen, own=worker.own_python()),
        checks.packages(seen, own=worker.versions(PACKAGES)),
        clocks,
    ]
    if mark is None:
        found.append(_address(spark, cfg.warehouse_path))
    else:
        found.append(checks.write_access(seen, folder=str(Path(mark).parent), arrived=arrived))
    rows, values = _train_time(spark, cfg)
    validation = _validation_time(spark, cfg)
    needs = checks.estimated(cfg, rows=rows, told=told, values=values, validation=validation) if rows else {}
    found.append(checks.memory(seen, needs=needs))
    return found


def _asked(ask: Callable[[], list[Seen]]) -> tuple[list[Seen], Check]:
    """What the tasks say, and what their clocks do.

    Clocks are read in a second round: in the first one executors may be as late as clocks are wrong.
    """
    seen = _within(PATIENCE_S, ask)
    began = time()
    again = _within(PATIENCE_S, ask)
    return seen, checks.clocks(again, began=began, ended=time())


def _ask(spark: SparkSession, tasks: int, mark: str | None) -> list[Seen]:
    look = partial(worker.look, packages=PACKAGES, mark=mark)
    told = spark.range(0, tasks, 1, tasks).mapInArrow(look, "seen string").collect()
    return [Seen(*json.loads(row.seen)) for row in told]


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` gives. Raises TimeoutError: a job that gets no executor waits until its session is stopped."""
    answers: list[Answer] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001  (raised again below)
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]


@contextlib.contextmanager
def _marked(warehouse: str) -> Iterator[str | None]:
    """A file in the warehouse, or in the nearest folder above it that there is; None where it is no folder.

    It and those beside it that executors write, whose names begin with its own, go in the end.
    """
    if "/" not in warehouse or "://" in warehouse:
        yield None
        return
    path = Path(warehouse)
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    mark = there / f".clickmill-doctor-{secrets.token_hex(8)}"
    mark.touch()
    try:
        yield str(mark)
    finally:
        for one in there.glob(f"{mark.name}*"):
            with contextlib.suppress(OSError):
                one.unlink()


def _address(spark: SparkSession, warehouse: str) -> Check:
    """An address is written through Spark's connector and read through Arrow's, each with settings of its own."""
    name = "warehouse of executors"
    if "://" not in warehouse:
        return Check(name, True, f"{warehouse}: a catalogue, not tried")
    path = f"{warehouse.rstrip('/')}/_doctor"
    try:
        spark.range(0, 2, 1, 2).write.format("delta").mode("overwrite").save(path)
    except Exception as error:  # noqa: BLE001  (as above)
        advice = "Spark needs the connector's jars and the credentials: docs/clusters.md, Object stores"
        return _failed(name, f"{path} is not written: {_first_line(error)}", advice)
    try:
        _read_by_executors(spark, path)
    except Exception as error:  # noqa: BLE001  (as above)
        advice = (
            "Python on driver and executors needs the credentials too, as environment variables: docs/clusters.md"
        )
        return _failed(name, f"{path} is written, and not read by Python: {_first_line(error)}", advice)
    return Check(name, True, f"{path}: written by Spark, read by Python")


def _read_by_executors(spark: SparkSession, path: str) -> None:
    from deltalake import DeltaTable

    version = DeltaTable(path).version()
    shards = reader.plan(path, version=version, shards=2)
    read = partial(reader.shard_rows, shards=shards, schema=reader.schema(path, version, None), stretch=None)
    spark.range(0, 2, 1, 2).mapInArrow(read, "id long").collect()


def _train_time(spark: SparkSession, cfg: Config) -> tuple[int, int | None]:
    """About how many rows of `sample` train time has, 0 where there is none yet or it cannot be told; and about
    how many different values, None where `feature_audit` does not say.
    """
    tables = Tables(spark, cfg.warehouse_path, run_id="doctor")
    try:
        days = len(tables.days("sample"))
        (whole,) = tables.shards("sample", days=None, number=1) if days else (None,)
        audits = tables.rows_if_any("feature_audit", columns=("ds", "slot", "distinct"))
    except ClickmillError:
        return 0, None
    train = duration(cfg.split.train).total_seconds() / 86_400
    rows = int(whole.rows * min(train / days, 1)) if whole is not None else 0
    a_day = {(row["ds"], row["slot"]): row["distinct"] for row in audits}  # (a row for each number of bits)
    if not a_day:
        return rows, None
    mean = sum(a_day.values()) / len({ds for ds, _ in a_day})
    return rows, int(mean * max(train, 1) ** GROWTH)


def _validation_time(spark: SparkSession, cfg: Config) -> int:
    """About how many rows validation time has, by a day's mean in `features`; 0 where it cannot be told."""
    tables = Tables(spark, cfg.warehouse_path, run_id="doctor")
    try:
        days = len(tables.days("features"))
        (whole,) = tables.shards("features", days=None, number=1) if days else (None,)
    except ClickmillError:
        return 0
    if whole is None:
        return 0
    return int(whole.rows / days * duration(cfg.split.validation).total_seconds() / 86_400)


def _failed(name: str, found: str, advice: str) -> Check:
    return Check(name, False, found, advice)


def _first_line(error: Exception) -> str:
    return session.telling_line(str(error)) or type(error).__name__
