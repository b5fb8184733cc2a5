"""The doctor finds what is missing, says what to do, and ends with 2."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from clickmill import doctor, jars
from clickmill.train import gpu

GOOD_JAVA = "java.base@17.0.9\njdk.incubator.vector@17.0.9\n"
DEEP = ("torch", "horovod")


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def java_saying(home: Path, modules: str, code: int = 0) -> str:
    script(home / "bin" / "java", f"cat <<'END'\n{modules}END\nexit {code}")
    return str(home)


def one(name: str, **where: str) -> doctor.Check:
    (found,) = [item for item in doctor.check(**where) if item.name == name]
    return found


def test_this_machine_passes(tmp_path):
    checks = doctor.check(warehouse=str(tmp_path / "new" / "folder"))
    assert [item for item in checks if item.needed and not item.ok] == []
    assert not (tmp_path / "new").exists(), "the doctor looks, it makes nothing"


@pytest.mark.parametrize(
    ("modules", "code", "ok", "found"),
    [
        (GOOD_JAVA, 0, True, "17.0.9"),
        ("java.base@21\njdk.incubator.vector@21\n", 0, True, "21"),
        ("java.base@11.0.2\njdk.incubator.vector@11.0.2\n", 0, False, "11.0.2"),
        ("java.base@17.0.9\n", 0, False, "without the module jdk.incubator.vector"),
        ("java.base@17.0.9\njdk.incubator.vectors@17.0.9\n", 0, False, "without the module"),
        ("Unrecognized option: --list-modules\n", 1, False, "older than Java 9"),
    ],
)
def test_java_needs_its_version_and_its_module(tmp_path, monkeypatch, modules, code, ok, found):
    monkeypatch.setenv("JAVA_HOME", java_saying(tmp_path / "a java", modules, code))
    java = one("Java")
    assert java.ok is ok
    assert found in java.found
    assert ok or "apt-get install -y openjdk-17-jre-headless" in java.advice


def test_no_java_at_all(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    java = one("Java")
    assert not java.ok
    assert "openjdk-17-jre-headless" in java.advice


@pytest.fixture
def a_spark(tmp_path, monkeypatch):
    """Makes a Spark as its archive unpacks, without a package's notes, on the paths of Python and of Spark."""

    def made(spark: str | None, delta: str | None) -> None:
        for folder in ("jars", "python/pyspark"):
            (tmp_path / folder).mkdir(parents=True)
        if spark:
            (tmp_path / "python" / "pyspark" / "__init__.py").touch()
            version = f'__version__: str = "{spark}"\n'
            (tmp_path / "python" / "pyspark" / "version.py").write_text(version, encoding="utf-8")
        if delta:
            (tmp_path / "jars" / f"delta-spark_4.2_2.13-{delta}.jar").touch()
        place = SimpleNamespace(submodule_search_locations=[str(tmp_path / "python" / "pyspark")])
        monkeypatch.setattr(doctor, "find_spec", lambda _: place if spark else None)
        monkeypatch.setattr(doctor, "_installed", lambda _: None)
        monkeypatch.setenv("SPARK_HOME", str(tmp_path))
        monkeypatch.setenv("CLICKMILL_JARS", str(tmp_path / "none of ours"))

    return made


@pytest.mark.parametrize(
    ("spark", "delta", "ok"),
    [("4.2.0", "4.4.0", True), ("4.3.0", "4.4.0", False), ("4.2.0", "4.4.1", False), (None, "4.4.0", False)],
)
def test_spark_and_delta_must_fit_however_they_came_here(a_spark, spark, delta, ok):
    a_spark(spark, delta)
    found = one("Spark and Delta")
    assert found.ok is ok
    assert found.found == f"pyspark {spark or 'missing'}, Delta {delta}"


def test_our_jars_are_needed_only_where_spark_has_none(a_spark, monkeypatch):
    a_spark("4.2.0", None)
    missing = one("Delta jars")
    assert not missing.ok
    assert missing.needed
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--packages {jars.PACKAGES[0]} pyspark-shell")
    assert "PYSPARK_SUBMIT_ARGS" in one("Delta jars").found
    assert one("Delta jars").ok
    assert one("Spark and Delta").ok


def test_delta_among_sparks_own_jars_does(a_spark):
    a_spark("4.2.0", "4.4.0")
    assert one("Delta jars").ok
    assert "Spark's own" in one("Delta jars").found


def test_a_jar_that_was_changed_is_found(tmp_path, monkeypatch):
    for path in jars.jar_paths():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setenv("CLICKMILL_JARS", str(tmp_path))
    assert one("Delta jars").ok
    (spoilt,) = tmp_path.glob("delta-storage*")
    content = bytearray(spoilt.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt.unlink()
    spoilt.write_bytes(content)
    found = one("Delta jars")
    assert not found.ok
    assert spoilt.name in found.found
    assert "delta-spark" not in found.found
    assert "CLICKMILL_JARS" in found.advice


def test_another_python_for_the_workers(tmp_path, monkeypatch):
    assert_ok = {
        "echo 2 7 False": False,
        f"echo {sys.version_info[0]} {sys.version_info[1]} False": False,
        f"echo {sys.version_info[0]} {sys.version_info[1]} True": True,
        "exit 1": False,
    }
    for body, ok in assert_ok.items():
        monkeypatch.setenv("PYSPARK_PYTHON", str(script(tmp_path / "python", body)))
        assert one("PYSPARK_PYTHON").ok is ok, body
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    assert one("PYSPARK_PYTHON").ok


def test_a_python_that_comes_with_an_archive_is_the_executors_own_affair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYSPARK_PYTHON", "./environment/bin/python")
    found = one("PYSPARK_PYTHON")
    assert found.ok
    assert "in the folder of each executor" in found.found


def test_kernels_are_kept_at_home_where_the_package_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = one("numba cache")
    assert found.ok
    assert str(tmp_path) in found.found
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    assert not one("numba cache").ok


@pytest.mark.parametrize(("java", "asked"), [(GOOD_JAVA, 1), ("java.base@11\n", 0)])
def test_a_cluster_is_asked_where_this_machine_lacks_nothing(tmp_path, monkeypatch, capsys, java, asked):
    monkeypatch.setenv("JAVA_HOME", java_saying(tmp_path / "java", java))
    calls = []

    def further():
        calls.append(None)
        return [doctor.Check("master", False, "nobody listens", "start it")]

    assert doctor.main(json=True, further=further) == 2
    assert len(calls) == asked
    names = [item["name"] for item in json.loads(capsys.readouterr().out)["checks"]]
    assert names.count("master") == asked


def test_a_warehouse_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    found = one("warehouse", warehouse=str(tmp_path / "file" / "warehouse"))
    assert not found.ok
    assert "--set warehouse=" in found.advice
    assert one("warehouse", warehouse="s3a://bucket/warehouse").ok
    monkeypatch.chdir(tmp_path)
    found = one("warehouse", warehouse="catalog.schema")
    assert found.ok
    assert "not tried" in found.found


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr(doctor, "_container_limit", lambda: 2.0 * 2**30)
    found = one("memory")
    assert not found.ok
    assert found.found == "2.0 GiB"
    assert "spark.driver.memory" in found.advice


def test_slots():
    assert one("slots", master="local[3]").found == "3 (local[3])"
    assert one("slots", master="local[*]").found.startswith(f"{len(os.sched_getaffinity(0))} ")
    assert not one("slots", master="local[many]").ok
    assert not one("slots", master="local[0]").ok
    assert one("slots", master="yarn").ok


def horovod_in(folder: Path, built_for: str, library: bytes) -> Path:
    """A folder with what the doctor reads of an installed Horovod."""
    (folder / "torch").mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps({"pytorch": built_for}), encoding="utf-8")
    (folder / "torch" / "mpi_lib_v2.cpython-311-x86_64-linux-gnu.so").write_bytes(library)
    return folder


def test_without_the_deep_part_all_is_well_and_the_way_to_it_is_said(monkeypatch, capsys):
    installed = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: None if name in DEEP else installed(name))
    for name in ("torch", "Horovod", "launchers"):
        found = one(name)
        assert not found.ok
        assert not found.needed
        assert "make deep" in found.found
    assert doctor.main() == 0
    assert "NO" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("versions", "built_for", "horovod", "launchers"),
    [
        ({"torch": "2.15.0", "horovod": "0.28.1", "pyspark": "4.2.0"}, "2.15.0+cu132", True, 5),
        ({"torch": "2.15.0", "horovod": "0.28.1"}, "2.15.0", True, 3),
        ({"torch": "2.14.0", "horovod": "0.28.1", "pyspark": "4.2.0"}, "2.15.0+cu132", False, 3),
        ({"torch": "2.15.0", "pyspark": "4.2.0"}, "2.15.0", False, 3),
        ({"horovod": "0.28.1", "pyspark": "4.2.0"}, "2.15.0", False, 0),
    ],
)
def test_horovod_works_with_the_torch_that_it_was_built_for(
    tmp_path, monkeypatch, versions, built_for, horovod, launchers
):
    folder = horovod_in(tmp_path / "horovod", built_for, b"..libnccl.so.2..N4gloo7ContextE..")
    monkeypatch.setattr(doctor, "_horovod_folder", lambda: folder)
    monkeypatch.setattr(doctor, "_installed", versions.get)
    found = one("Horovod")
    assert found.ok is horovod
    assert not horovod or found.found == "0.28.1 with gloo, NCCL"
    ways = one("launchers")
    assert len(ways.found.split(", ") if ways.ok else []) == launchers
    assert ("horovodrun" in ways.found) is horovod


def test_what_horovod_has_is_read_as_horovod_itself_says_it():
    pytest.importorskip("horovod", reason="Horovod is not installed: make deep")
    code = "import horovod.torch as h; print(h.gloo_built(), h.nccl_built() > 0, h.cuda_built())"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    built = dict(zip(("gloo", "NCCL", "CUDA"), done.stdout.split(), strict=True))
    assert doctor._built_into_horovod() == [name for name, there in built.items() if there == "True"]


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(gpu, "present", lambda: 2)
    assert one("GPUs").found.startswith("2 ")
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "DRIVER", "no-such-driver.so")
    none = one("GPUs")
    assert none.ok
    assert "CPU" in none.found


def test_one_json_object_and_exit_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert doctor.main(json=True) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert [item["name"] for item in said["checks"] if item["needed"] and not item["ok"]] == ["Java"]
    assert doctor.main() == 2
    table = capsys.readouterr().out
    assert "NO" in table
    assert "openjdk-17-jre-headless" in table


def test_it_is_quick_and_loads_no_spark_to_be_imported():
    heavy = {"pyspark", "numba", "rich", "torch", "horovod"}
    code = f"import sys, clickmill.doctor; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    start = time.process_time()
    doctor.check()
    assert time.process_time() - start < 3
