"""One finished pipeline for all tests of whole jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from small import run


@pytest.fixture(scope="session")
def finished(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The warehouse and the verdict of a pipeline of four days. Tests may not change its day tables."""
    warehouse = str(tmp_path_factory.mktemp("jobs") / "ware house")
    Path(warehouse).mkdir()
    code, verdict = run("pipeline", warehouse)
    assert code == 0, verdict
    return warehouse, verdict
