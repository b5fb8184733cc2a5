"""The Spark session: made here and nowhere else, on the driver only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf as Submitted
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from clickmill import jars
from clickmill.config import FROM_ENVIRONMENT, SparkConf
from clickmill.errors import ConfigError, NoSparkError, PlatformError

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    "spark.sql.execution.arrow.maxBytesPerBatch": "8m",  # a parcel of the judge is a row of megabytes
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.ui.showConsoleProgress": "false",
}
CLUSTER_TASKS = 64
CONTACT_S = 5.0
STANDALONE = "spark://"
UNTOLD = "local[*]"
EMPTY = ("WARNING: Using incubator", "Error: Could not create the Java", "Error: A fatal exception")
"""How lines of a JVM's log begin that say nothing of why it ended."""
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_SUBMITTED = "PYSPARK_GATEWAY_PORT"
"""Set where spark-submit has started the JVM."""


def get_spark(conf: SparkConf, *, app: str) -> SparkSession:
    """The session that is there, or a new one made from `conf`.

    On Databricks nothing of ours brings jars or extensions. Elsewhere our two Delta jars go along, unless Spark is
    given others; under spark-submit Delta must be on the class path already, and a master that it was told counts
    before the config's. Raises PlatformError where Java or Delta is missing, on an executor, or where the JVM does
    not start, NoSparkError where no session comes up. (`local[*]` is what spark-submit says that is told none.)
    """
    if _on_executor():
        raise PlatformError("a Spark session was asked for on an executor: workers get rows, not sessions")
    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app)
    settings: dict[str, str | None] = dict(ALWAYS)
    is_databricks = "DATABRICKS_RUNTIME_VERSION" in os.environ
    submitted = {} if is_databricks else _submitted()
    master = _told(submitted) or conf.master
    if not is_databricks:
        settings |= DELTA
    if master:
        if _SUBMITTED not in os.environ:
            require_java()
        why = unreachable(master)
        if why:
            raise NoSparkError(f"spark.master {master}: {why}")
    if master and master.startswith("local"):
        settings |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": str(local_slots(master)),
            "spark.sql.warehouse.dir": f"{tempfile.gettempdir()}/clickmill-spark-warehouse",
        }
    settings |= {key: _from_environment(key, value) for key, value in conf.settings.items()}
    if not is_databricks:
        settings["spark.jars"] = _jars(submitted | settings)
    if master and master.startswith("local"):
        settings[_JAVA_OPTIONS] = f"{settings.get(_JAVA_OPTIONS) or ''} {_archive_options()}".strip() or None
    for key, value in settings.items():
        if value is not None:
            builder = builder.config(key, value)
    if master:
        builder = builder.master(master)
    with _spark_log():
        try:
            spark = builder.getOrCreate()
        except (Py4JError, PySparkException) as error:
            raise _failed(f"spark.master {master}" if master else "Spark's default master", error) from error
    if not is_databricks and (_SUBMITTED in os.environ or not jars.named(settings["spark.jars"] or "")):
        _require_delta(spark)
    return spark


def _submitted() -> dict[str, str | None]:
    """What spark-submit, or the file of defaults that it reads, has told the JVM that is there; else nothing."""
    if _SUBMITTED not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # (or SparkConf would know nothing of the JVM)
    return dict(Submitted().getAll())


def _told(submitted: Mapping[str, str | None]) -> str | None:
    """The master that spark-submit was told; not what it takes where it is told none."""
    master = submitted.get("spark.master")
    return None if master == UNTOLD else master


def _jars(given: Mapping[str, str | None]) -> str | None:
    """`spark.jars` with our two; as it is where Delta is among what Spark is given, or in Spark and not in our
    folder. Raises PlatformError where it is nowhere.

    given: settings. Ours go along to executors even if the driver's Spark has Delta: theirs may not.
    """
    own = given.get("spark.jars")
    told = (own or "", given.get("spark.jars.packages") or "", os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    if any(map(jars.named, told)):
        return own
    try:
        ours = jars.jar_paths()
    except PlatformError:
        if jars.in_spark() is None:
            raise
        return own
    return ",".join([*([own] if own else []), *map(str, ours)])


def _require_delta(spark: SparkSession) -> None:
    """Raises PlatformError where the JVM came up without Delta: its class path is settled by then."""
    try:
        spark.catalog.currentDatabase()
    except Py4JJavaError as error:
        if "DeltaCatalog" not in str(error):
            raise
        spark.stop()
        raise PlatformError(f"this Spark does not know Delta; {jars.ways()}") from None


def unreachable(master: str) -> str | None:
    """Why nobody answers at spark://host:port, or at none of several; None at other masters. (Spark itself would
    try for a minute.)"""
    why = None
    for address in master.removeprefix(STANDALONE).split(",") if master.startswith(STANDALONE) else ():
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            why = f"{address} names no port: write {STANDALONE}HOST:PORT"
            continue
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONTACT_S).close()
        except (OSError, ValueError, OverflowError) as error:  # (a name that is none, a port that cannot be)
            said = getattr(error, "strerror", None) or error
            why = f"{said}; start it (here: make cluster-up), or name the right host and port"
        else:
            return None
    return why


def _failed(place: str, error: Exception) -> PlatformError | NoSparkError:
    """A JVM that did not start will not the next time: its log says why. Else the cause that lies deepest."""
    log = spark_log_file()
    if "JAVA_GATEWAY_EXITED" in str(error):
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else str(error)
        lines = "\n".join(line for line in said.splitlines() if not line.startswith(EMPTY))
        return PlatformError(f"{place}: {telling_line(lines)}")
    start = "Caused by: "
    causes = [line.removeprefix(start) for line in str(error).splitlines() if line.startswith(start)]
    return NoSparkError(f"{place}: no session came up: {telling_line(causes[-1] if causes else str(error))}")


def telling_line(text: str) -> str:
    """The first line of a Java exception that names an error, else the first; at most 300 characters."""
    lines = [line.strip().removeprefix(": ") for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "Error: " in line or "Exception: " in line]
    return (telling or lines or [""])[0][:300]


def spark_log_file() -> Path:
    """Where the standard error of the JVM that this process starts goes."""
    return Path(tempfile.gettempdir()) / f"clickmill-spark-{os.getuid()}-{os.getpid()}.log"


@contextmanager
def _spark_log() -> Iterator[None]:
    """Lends the JVM that starts inside a file as its standard error, so that only we speak to the user.

    CLICKMILL_SPARK_LOG=stderr lets Spark speak; under spark-submit the JVM is there already.
    """
    if os.environ.get("CLICKMILL_SPARK_LOG") == "stderr" or _SUBMITTED in os.environ:
        yield
        return
    sys.stderr.flush()
    own = os.dup(2)
    log = os.open(spark_log_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(log, 2)
        yield
    finally:
        os.dup2(own, 2)
        os.close(log)
        os.close(own)


def class_archive() -> Path:
    """Where set-up puts the JVM's class archive (see `class_archive.py`)."""
    return Path(sys.prefix) / "share" / "clickmill" / "spark-classes.jsa"


def _archive_options() -> str:
    """An archive that does not fit is left out; without the second option Java would say so on standard output."""
    return f'-XX:SharedArchiveFile="{class_archive()}" -Xlog:disable' if class_archive().is_file() else ""


def is_local(spark: SparkSession) -> bool:
    """Whether driver and workers are on one machine."""
    return (spark.conf.get("spark.master", "") or "").startswith("local")


def slots(spark: SparkSession) -> int:
    """How many tasks run at once: what a barrier stage may use."""
    master = spark.conf.get("spark.master", "") or ""
    if master.startswith("local["):
        return local_slots(master)
    instances = int(spark.conf.get("spark.executor.instances", "0") or 0)
    cores = int(spark.conf.get("spark.executor.cores", "0") or 0)
    if instances and cores:
        return instances * cores
    per_task = int(spark.conf.get("spark.task.cpus", "1") or 1)
    total = int(spark.conf.get("spark.cores.max", "0") or 0)
    return max(total // per_task, 1)


def tasks(spark: SparkSession) -> int:
    """Into how many tasks work is best cut: a cluster may have more slots than its settings tell."""
    return slots(spark) if is_local(spark) else max(slots(spark), CLUSTER_TASKS)


def local_slots(master: str) -> int:
    """Slots of `local`, `local[n]`, `local[*]` or `local-cluster[n,c,m]`."""
    inside = master.partition("[")[2].rstrip("]").split(",")
    if master.startswith("local-cluster"):
        return int(inside[0]) * int(inside[1])
    if not inside[0]:
        return 1
    return len(os.sched_getaffinity(0)) if inside[0] == "*" else int(inside[0])


def require_java() -> None:
    """Raises PlatformError, with the command that helps, where Java is missing (Spark says 'gateway exited')."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else "java"
    try:
        subprocess.run([java, "-version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise PlatformError(
            f"Java was not found ({java}): install it, on Debian or Ubuntu with "
            "`apt-get install openjdk-17-jre-headless`, then run `clickmill doctor`"
        ) from None


def _on_executor() -> bool:
    from pyspark import TaskContext

    return TaskContext.get() is not None


def _from_environment(key: str, value: str | None) -> str | None:
    found = FROM_ENVIRONMENT.match(value) if value else None
    if not found:
        return value
    if found[1] not in os.environ:
        raise ConfigError(f"spark.settings.{key}: the environment has no variable {found[1]}")
    return os.environ[found[1]]
