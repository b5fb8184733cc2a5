"""Which jars a session asks Spark for (ours unless Spark has Delta), and a master that is not there."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from clickmill import jars, session
from clickmill.config_files import load
from clickmill.errors import EXIT_FAILED, ConfigError, NoSparkError, PlatformError
from clickmill.session import _jars, _told, get_spark, telling_line, unreachable

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


@pytest.fixture
def port() -> Iterator[int]:
    """One at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_one_of_several_masters_is_enough(port: int) -> None:
    assert unreachable(f"spark://127.0.0.1:1,127.0.0.1:{port}") is None
    assert unreachable("yarn") is None
    assert "refused" in str(unreachable("spark://127.0.0.1:1,localhost:2"))


def test_a_master_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    conf = load(["datasets/simulated.yaml"], ["spark.master=spark://127.0.0.1:1"]).spark
    with pytest.raises(NoSparkError, match=r"^spark.master spark://127.0.0.1:1: Connection refused; start it"):
        get_spark(conf, app="test")
    assert NoSparkError.exit_code == EXIT_FAILED, "it may come back: the task is tried again"


@pytest.mark.parametrize(
    "master", ["nonsense", "spark://host", "spark://:7077:", "local[abc]", "local[0]", "k8s://", "yarn-client", ""]
)
def test_what_is_no_master_is_a_wrong_config(master: str) -> None:
    with pytest.raises(ConfigError, match=r"spark\.master.*: write local\[\*\], local\[N\], spark://HOST:PORT"):
        load(["datasets/simulated.yaml"], [f"spark.master='{master}'"])


@pytest.mark.parametrize(
    "master",
    [
        *("local", "local[*]", "local[4]", "local[2,3]", "local-cluster[2,1,1024]", "yarn"),
        *("spark://[::1]:7077", "spark://a:7077,b.c:7078", "k8s://https://10.0.0.1:6443"),
    ],
)
def test_a_master_of_sparks_is_right(master: str) -> None:
    assert load(["datasets/simulated.yaml"], [f"spark.master='{master}'"]).spark.master == master


def test_a_name_that_is_none_is_not_reached() -> None:
    assert "start it" in str(unreachable(f"spark://{'a' * 70}..b:7077"))


def test_the_master_that_spark_submit_was_told_counts() -> None:
    assert _told({"spark.master": "spark://h:7077"}) == "spark://h:7077"
    assert _told({"spark.master": "local[*]"}) is None, "what it takes where it is told none"
    assert _told({}) is None


def test_a_jvm_that_does_not_start_is_no_reason_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_text("WARN a\nException in thread main org.apache.SparkException: HADOOP_CONF_DIR must be set\n")
    monkeypatch.setattr(session, "spark_log_file", lambda: log)
    error = session._failed("spark.master yarn", PySparkException("[JAVA_GATEWAY_EXITED] Java gateway"))
    assert isinstance(error, PlatformError)
    assert str(error).endswith("HADOOP_CONF_DIR must be set")


def test_a_session_that_does_not_come_up_is_told_by_its_deepest_cause() -> None:
    text = ": a.KubernetesClientException: An error has occurred.\nCaused by: b.X: c\nCaused by: d.E: refused\n"
    error = session._failed("spark.master k8s://x", PySparkException(text))
    assert type(error) is NoSparkError
    assert str(error) == "spark.master k8s://x: no session came up: d.E: refused"


def test_the_line_of_a_java_error_that_tells_most_is_the_one_with_its_name() -> None:
    text = "An error occurred while calling None.x.\n: org.apache.SparkException: Invalid URL: a\n\tat a.b(c)"
    assert telling_line(text) == "org.apache.SparkException: Invalid URL: a"
    assert telling_line("\n one\ntwo") == "one"
    assert telling_line("") == ""
