"""The pinned jars: only the pinned files are ever put in place, and the cache spares the network."""

import pytest

from clickmill import jars
from clickmill.errors import PlatformError


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty place for the jars, an empty cache, no Spark, and no network: fetching fails the test."""
    monkeypatch.setenv("CLICKMILL_JARS", str(tmp_path / "place of jars"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(jars, "_fetch", lambda _: pytest.fail("the network was asked"))
    monkeypatch.setattr(jars, "_spark_home", lambda: None)
    return tmp_path


@pytest.fixture(scope="module")
def real():
    return jars.jar_paths()


def test_missing_jars_are_an_error_that_says_what_to_do(empty):
    with pytest.raises(PlatformError, match=r"delta-spark.*make setup.*CLICKMILL_JARS"):
        jars.jar_paths()


def test_the_error_says_all_ways_to_bring_delta(empty):
    with pytest.raises(PlatformError, match=r"--jars .*--packages io\.delta:.* into .*jars, on every machine"):
        jars.jar_paths()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("/a b/delta-spark_4.2_2.13-4.4.0.jar,/a b/delta-storage-4.4.0.jar", "4.4.0"),
        ("file:///ivy/org.postgresql_x.jar,file:///ivy/io.delta_delta-spark_4.2_2.13-4.4.1.jar", "4.4.1"),
        ("org.apache.hadoop:hadoop-aws:3.5.0,io.delta:delta-spark_4.2_2.13:4.4.0", "4.4.0"),
        ("--packages io.delta:delta-spark_2.13:4.0.0 --master yarn pyspark-shell", "4.0.0"),
        ("/a/delta-storage-4.4.0.jar,/a/gcs-connector.jar", None),
        ("", None),
    ],
)
def test_delta_is_known_by_name_among_jars_packages_and_options(text, version):
    assert jars.named(text) == version


def test_a_spark_with_delta_of_its_own_is_known(empty, monkeypatch):
    monkeypatch.setenv("SPARK_HOME", str(empty / "spark"))
    assert jars.in_spark() is None
    (empty / "spark" / "jars").mkdir(parents=True)
    (empty / "spark" / "jars" / "delta-storage-4.4.0.jar").touch()
    (empty / "spark" / "jars" / "delta-spark_4.2_2.13-4.4.1.jar").symlink_to(empty / "gone.jar")
    assert jars.in_spark() is None, "a link to nothing"
    (empty / "spark" / "jars" / "delta-spark_4.2_2.13-4.4.0.jar").touch()
    assert jars.in_spark() == "4.4.0"
    monkeypatch.delenv("SPARK_HOME")
    monkeypatch.setattr(jars, "_spark_home", lambda: empty / "spark")
    assert jars.in_spark() == "4.4.0", "pip's pyspark"


def test_the_cache_spares_the_network(real, empty):
    cache = jars.cache_root() / "jars"
    cache.mkdir(parents=True)
    for path in real:
        (cache / path.name).symlink_to(path)
    folder = jars.provide()
    assert jars.damaged(folder) == []
    assert {path.parent for path in jars.jar_paths()} == {folder}
    assert sorted(path.name for path in folder.iterdir()) == sorted(jars.SHA256)


def test_what_is_fetched_is_kept_in_the_cache(real, empty, monkeypatch):
    monkeypatch.setattr(jars, "_fetch", lambda _: real[0].parent)
    jars.provide()
    assert jars.damaged(jars.cache_root() / "jars") == []


def test_a_spoilt_cache_is_fetched_again(real, empty, monkeypatch):
    cache = jars.cache_root() / "jars"
    cache.mkdir(parents=True)
    for path in real:
        (cache / path.name).write_bytes(b"half a download")
    monkeypatch.setattr(jars, "_fetch", lambda _: real[0].parent)
    assert jars.damaged(jars.provide()) == []


def test_a_download_that_is_not_the_pinned_file_is_refused(real, empty, monkeypatch):
    for path in real:
        (empty / path.name).write_bytes(b"something else")
    monkeypatch.setattr(jars, "_fetch", lambda _: empty)
    with pytest.raises(PlatformError, match=r"SHA-256 is .* expected 27d4fd8b"):
        jars.provide()
    assert len(jars.damaged(jars.jar_folder())) == 2


def test_spark_finds_the_jars_of_one_version_beside_its_own(real, empty, monkeypatch):
    """What `spark-submit` starts knows Delta then, whatever set-up linked before."""
    beside = empty / "spark" / "jars"
    beside.mkdir(parents=True)
    monkeypatch.setattr(jars, "_fetch", lambda _: real[0].parent)
    monkeypatch.setattr(jars, "_spark_home", lambda: beside.parent)
    (beside / "delta-storage-1.0.0.jar").symlink_to(empty / "gone.jar")
    (beside / "delta-storage-4.4.0.jar").symlink_to(empty / "moved.jar")
    (beside / "delta-own.jar").write_bytes(b"somebody's")
    for _ in range(2):
        folder = jars.provide()
        found = {path.name: path.resolve() for path in beside.iterdir()}
        assert found == {name: folder / name for name in jars.SHA256} | {"delta-own.jar": beside / "delta-own.jar"}


def test_a_spark_that_is_not_ours_to_change_is_left_alone(real, empty):
    beside = empty / "jars"
    jars.link(real[0].parent, beside)
    assert not beside.exists()
