"""Makes the archive of loaded classes with which Spark's JVM starts in half the time.

Set-up ends with `python -m clickmill.class_archive`; `session` uses the archive where it finds it. Java
checks that it fits the Java and the jars, and does without where it does not (JEP 350).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa

from clickmill.session import class_archive, get_spark

_DAY = date(2026, 1, 1)


def make() -> Path | None:
    """The archive's path; None where this Java cannot make one, which costs time and nothing else."""
    target = class_archive()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    aside = target.with_suffix(".part")
    # The JVM writes the archive when it exits, after Python: the pipe is closed only then.
    done = subprocess.run(
        [sys.executable, "-m", "clickmill.class_archive", str(aside)], capture_output=True, check=False
    )
    if done.returncode or not aside.is_file():
        aside.unlink(missing_ok=True)
        return None
    return aside.rename(target)


def load_classes(archive: str) -> None:
    """Does a little of all that jobs do, in a JVM that writes what it loaded to `archive` when it exits."""
    from clickmill.config import SparkConf
    from clickmill.tables import Tables

    options = f'-Xlog:disable -XX:ArchiveClassesAtExit="{archive}"'
    spark = get_spark(
        SparkConf(master="local[2]", settings={"spark.driver.extraJavaOptions": options}), app="class archive"
    )
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(spark, folder, run_id="class-archive")
        numbers = spark.range(0, 100, 1, 2).mapInArrow(_impressions, "event_id string, label tinyint, ds date")
        rows = numbers.selectExpr("event_id", "timestamp '2026-01-01' AS event_time", "label", "ds")
        for _ in range(2):
            tables.write("click_log", rows, replace={"ds": _DAY})
        tables.read("click_log", days=[_DAY]).groupBy("label").count().collect()
    spark.stop()


def _impressions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        n = batch.num_rows
        columns = [batch["id"].cast(pa.string()), pa.array([0] * n, pa.int8()), pa.array([_DAY] * n)]
        yield pa.RecordBatch.from_arrays(columns, names=["event_id", "label", "ds"])


if __name__ == "__main__":
    if sys.argv[1:]:
        load_classes(sys.argv[1])
    elif make() is None:
        print("set-up: this Java makes no class archive; Spark starts somewhat later")
