"""Which jars a session asks Spark for: ours, unless Spark has Delta without them."""

from pathlib import Path

import pytest

from clickmill import jars
from clickmill.errors import PlatformError
from clickmill.session import _jars

OURS = ",".join(map(str, jars.jar_paths()))


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jars of a Spark that has no Delta; ours are missing."""
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    monkeypatch.setenv("CLICKMILL_JARS", str(tmp_path / "none"))
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    (tmp_path / "jars").mkdir()
    return tmp_path / "jars"


def test_ours_go_along_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    assert _jars({}) == OURS
    assert _jars({"spark.jars": "gcs-connector.jar"}) == f"gcs-connector.jar,{OURS}"


def test_nowhere_is_an_error_that_says_all_ways(spark: Path) -> None:
    with pytest.raises(PlatformError, match=rf"--jars .*--packages .* into {spark}, on every machine"):
        _jars({})


def test_a_spark_with_delta_needs_none_of_ours(spark: Path) -> None:
    (spark / "delta-spark_4.2_2.13-4.4.0.jar").touch()
    assert _jars({}) is None
    assert _jars({"spark.jars": "gcs-connector.jar"}) == "gcs-connector.jar"


def test_delta_by_jars_needs_none_of_ours_and_they_stay(spark: Path) -> None:
    there = "/x/delta-spark_4.2_2.13-4.4.0.jar,/x/delta-storage-4.4.0.jar,/x/gcs-connector.jar"
    assert _jars({"spark.jars": there}) == there


def test_delta_by_packages_needs_none_of_ours(spark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _jars({"spark.jars.packages": f"org.apache.hadoop:hadoop-aws:3.5.0,{jars.PACKAGES[0]}"}) is None
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--packages {jars.PACKAGES[0]} pyspark-shell")
    assert _jars({}) is None
