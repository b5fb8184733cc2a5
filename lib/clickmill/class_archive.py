"""Makes the archive of loaded classes with which Spark's JVM starts in half the time.

Set-up ends with `python -m clickmill.class_archive`; `session` uses the archive where it finds it. Java
checks that it fits the Java and the jars, and does without where it does not (JEP 350).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from clickmill.config import SparkConf
from clickmill.session import class_archive, get_spark


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
    """Starts a session and runs a worker, in a JVM that writes what it loaded to `archive` when it exits."""
    options = f'-XX:TieredStopAtLevel=1 -Xlog:disable -XX:ArchiveClassesAtExit="{archive}"'
    spark = get_spark(
        SparkConf(master="local[2]", settings={"spark.driver.extraJavaOptions": options}), app="class archive"
    )
    spark.range(0, 100, 1, 2).mapInArrow(_as_they_are, "id long").count()
    spark.stop()


def _as_they_are(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


if __name__ == "__main__":
    if sys.argv[1:]:
        load_classes(sys.argv[1])
    elif make() is None:
        print("set-up: this Java makes no class archive; Spark starts somewhat later")
