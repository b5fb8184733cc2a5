"""One Spark session for all tests that need one, and a fresh warehouse for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickmill.tables import Tables

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No deadline: the first call of a kernel compiles it, and machines are shared.
hypothesis_settings.register_profile("clickmill", deadline=None)
hypothesis_settings.load_profile("clickmill")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """local[4]: barrier stages of up to four ranks."""
    from clickmill.config import SparkConf
    from clickmill.session import get_spark

    settings: dict[str, str | None] = {
        "spark.driver.memory": "3g",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.adaptive.enabled": "false",
        # A third less work where tasks are many and rows few: most of it was making code for each task.
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        # Many short jobs: compile quickly, and never run out of room for what is compiled.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m",
    }
    session = get_spark(SparkConf(master="local[4]", settings=settings), app="clickmill-tests")
    yield session
    session.stop()


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    """A folder with a space in its name: nothing may mind."""
    folder = tmp_path / "ware house"
    folder.mkdir()
    return str(folder)


@pytest.fixture
def tables(spark: SparkSession, warehouse: str) -> Tables:
    from clickmill.tables import Tables

    return Tables(spark, warehouse, run_id="run-of-the-test")


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """The folder of real click logs, beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real click logs are not there ({folder})")
    return folder
