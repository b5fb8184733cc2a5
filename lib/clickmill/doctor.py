"""Does this machine have what clickmill needs? Every check says what it found and, where it fails, what to do.

Set-up ends with it (`python -m clickmill.doctor`), and `clickmill doctor` shows it. Nothing here starts Spark.
"""

from __future__ import annotations

import json as json_text
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil

from clickmill import jars, names
from clickmill.errors import EXIT_DONE, EXIT_USAGE, PlatformError
from clickmill.train import gpu

OLDEST_PYTHON = (3, 11)
OLDEST_JAVA = 17
JAVA_MODULE = "jdk.incubator.vector"
LEAST_MEMORY_GIB = 3.5
"""Driver heap (3 GiB by conf/base.yaml) and one Python worker: what a machine sold as 4 GiB has."""
ABSENT = "not installed; for deep models: make deep"


class Check(NamedTuple):
    """One thing looked at: what was found, and what to do where it does not do. Not all is `needed`."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = True


def check(*, warehouse: str = "warehouse", master: str | None = "local[*]") -> list[Check]:
    """All checks, in the order in which a newcomer would mend them.

    warehouse: a folder, a URI or `catalog.schema` (only a folder is tried). master: as in `spark.master`.
    """
    looks: tuple[Callable[[], Check], ...] = (
        _python,
        _java,
        _spark_versions,
        _delta_jars,
        _worker_python,
        lambda: _writable("warehouse", warehouse),
        _kernel_cache,
        _memory,
        lambda: _slots(master),
        _torch,
        _horovod,
        _gpus,
        _launchers,
    )
    done = [look() for look in looks]
    return [item._replace(advice="") if item.ok else item for item in done]


def main(
    json: bool = False,
    *,
    warehouse: str = "warehouse",
    master: str | None = "local[*]",
    further: Callable[[], Sequence[Check]] = tuple,
) -> int:
    """Show all checks, as a table or as one JSON object; returns 0, or 2 where one that is needed failed.

    further: checks to make where these found nothing that is needed to be absent, those of a cluster.
    """
    checks = check(warehouse=warehouse, master=master)
    if all(item.ok or not item.needed for item in checks):
        checks += further()
    ok = all(item.ok or not item.needed for item in checks)
    if json:
        print(json_text.dumps({"ok": ok, "checks": [item._asdict() for item in checks]}, ensure_ascii=False))
    else:
        _show(checks)
    return EXIT_DONE if ok else EXIT_USAGE


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found"):
        table.add_column(heading, overflow="fold")
    for item in checks:
        failed = Text("NO", style="bold red") if item.needed else Text("-", style="dim")
        table.add_row(Text("ok", style="green") if item.ok else failed, Text(item.name), Text(item.found))
        if item.advice:
            table.add_row("", "", Text(f"→ {item.advice}", style="yellow"))
    Console().print(table)


def _python() -> Check:
    found = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    oldest = ".".join(map(str, OLDEST_PYTHON))
    advice = f"make the environment with Python {oldest} or newer: make setup PYTHON=/path/to/python{oldest}"
    return Check("Python", sys.version_info >= OLDEST_PYTHON, found, advice)


def _java() -> Check:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    place = f"JAVA_HOME={home}" if home else shutil.which("java") or "PATH"
    advice = (
        f"install Java {OLDEST_JAVA} or newer with the module {JAVA_MODULE}; on Debian or Ubuntu: "
        "sudo apt-get install -y openjdk-17-jre-headless"
        + (", and let JAVA_HOME name it, or unset JAVA_HOME" if home else "")
    )
    try:
        listed = subprocess.run([java, "--list-modules"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Check("Java", False, f"none that runs ({place})", advice)
    base = re.search(r"^java\.base@(\d+)(\S*)", listed.stdout, re.MULTILINE)
    if not base:
        return Check("Java", False, f"one older than Java 9 ({place})", advice)
    found = f"{base[1]}{base[2]} ({place})"
    if not re.search(rf"^{re.escape(JAVA_MODULE)}\b", listed.stdout, re.MULTILINE):
        return Check("Java", False, f"{found}, without the module {JAVA_MODULE}", advice)
    return Check("Java", int(base[1]) >= OLDEST_JAVA, found, advice)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _pyspark_version() -> str | None:
    """Of the pyspark that Python finds, in whichever way it came here: pip's, or the folder of a Spark."""
    spec = find_spec("pyspark")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        with suppress(OSError):
            text = Path(place, "version.py").read_text(encoding="utf-8")
            said = re.search(r"""^__version__.*=\s*["'](.+)["']""", text, re.MULTILINE)
            if said:
                return said[1]
    return None


def _delta_version() -> str | None:
    """Of the jar among Spark's own, else of ours."""
    ours = "".join(path.name for path in jars.jar_folder().glob("delta-spark_*.jar"))
    return jars.in_spark() or jars.named(ours)


def _spark_versions() -> Check:
    spark, delta = _pyspark_version(), _delta_version()
    fits = bool(spark and spark.startswith(f"{jars.SPARK_LINE}.")) and delta in (jars.DELTA_VERSION, None)
    found = f"pyspark {spark or 'missing'}, Delta {delta or 'of no jar that is here'}"
    advice = f"pyspark {jars.SPARK_LINE}.x and Delta {jars.DELTA_VERSION} go together: run `make setup`"
    return Check("Spark and Delta", fits, found, advice)


def _delta_jars() -> Check:
    """Ours are needed only where Spark has none of its own, nor is given any by spark-submit's options."""
    folder = jars.jar_folder()
    given = jars.named(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    if not any((folder / name).exists() for name in jars.SHA256) and (given or jars.in_spark()):
        place = "named in PYSPARK_SUBMIT_ARGS" if given else f"Spark's own, in {jars.spark_jars()}"
        return Check("Delta jars", True, f"{place}; not looked into")
    bad = jars.damaged(folder)
    found = (
        f"missing, or not the pinned file: {', '.join(bad)} in {folder}" if bad else f"SHA-256 right, in {folder}"
    )
    place = "CLICKMILL_JARS must name a folder that has them; " if os.environ.get("CLICKMILL_JARS") else ""
    return Check("Delta jars", not bad, found, f"{place}this fetches them: {jars.FETCH}")


def _worker_python() -> Check:
    """Executors run $PYSPARK_PYTHON: it must be the same minor version, with pyarrow."""
    name, chosen = "PYSPARK_PYTHON", os.environ.get("PYSPARK_PYTHON")
    if not chosen or shutil.which(chosen) == sys.executable:
        return Check(name, True, "this Python" if chosen else "not set: clickmill sets this Python")
    if chosen.startswith("./"):
        return Check(name, True, f"{chosen}, in the folder of each executor")
    advice = f"unset PYSPARK_PYTHON, or let it name this environment's Python: {sys.executable}"
    code = "import sys, importlib.util as u; print(*sys.version_info[:2], bool(u.find_spec('pyarrow')))"
    try:
        said = subprocess.run([chosen, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Check(name, False, f"{chosen} does not run", advice)
    major, minor, has_pyarrow = said.split()
    fits = (int(major), int(minor)) == sys.version_info[:2] and has_pyarrow == "True"
    found = f"{chosen}: Python {major}.{minor}, {'with' if has_pyarrow == 'True' else 'without'} pyarrow"
    return Check(name, fits, found, advice)


def _writable(name: str, folder: str) -> Check:
    """Try a file in the folder, or in the nearest folder above it that there is (nothing is made)."""
    path = Path(folder).expanduser().absolute()
    if "://" in folder or (names.is_schema(folder) and not path.exists()):
        return Check(name, True, f"{folder}: not a local folder, not tried")
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return Check(name, True, f"{path} can be written")
    except OSError as error:
        advice = f"give yourself write access to {there}, or name another folder"
        if name == "warehouse":
            advice += ": --set warehouse=/path/to/folder"
        else:
            advice += ": NUMBA_CACHE_DIR=/path/to/folder"
        return Check(name, False, f"{there} cannot be written: {error.strerror}", advice)


def _kernel_cache() -> Check:
    """numba keeps compiled kernels beside the package or, where that cannot be written, under the user's home."""
    beside = _writable("numba cache", os.environ.get("NUMBA_CACHE_DIR") or str(Path(__file__).parent))
    return beside if beside.ok else _writable("numba cache", str(Path.home()))


def _memory() -> Check:
    gib = min(psutil.virtual_memory().total, _container_limit()) / 2**30
    advice = (
        f"{LEAST_MEMORY_GIB:g} GiB are needed with the settings of conf/base.yaml; on a smaller machine "
        "lower the driver's heap: --set 'spark.settings={spark.driver.memory: 1g}'"
    )
    return Check("memory", gib >= LEAST_MEMORY_GIB, f"{gib:.1f} GiB", advice)


def _container_limit() -> float:
    """The control group's memory limit in bytes; infinite where there is none."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return float("inf")
    return float(text) if text.isdigit() else float("inf")


def _slots(master: str | None) -> Check:
    """Task slots of an embedded Spark; training takes one a rank."""
    if not master or not master.startswith("local"):
        return Check("slots", True, f"{master or 'what spark-submit says'}: the cluster's to say")
    try:
        from clickmill.session import local_slots
    except ImportError as error:
        return Check("slots", False, f"not known: {error}", "run `make setup`")
    advice = f"{master!r} is no master: write local, local[2] or local[*] (spark.master)"
    try:
        number = local_slots(master)
    except (ValueError, IndexError):
        return Check("slots", False, f"none in {master!r}", advice)
    return Check("slots", number >= 1, f"{number} ({master})", advice)


_optional = partial(Check, needed=False)


def _torch() -> Check:
    found = _installed("torch")
    return _optional("torch", bool(found), found or ABSENT)


def _horovod() -> Check:
    found = _installed("horovod")
    if not found:
        return _optional("Horovod", False, ABSENT)
    torch, built_for = _installed("torch"), _torch_of_horovod()
    if not torch or torch != built_for:
        said = f"{found}, built for torch {built_for or 'unknown'}; installed is torch {torch or 'none'}"
        return _optional("Horovod", False, said, "this puts it right: rm -f .venv/deep-stamp; make deep")
    return _optional("Horovod", True, f"{found} with {', '.join(_built_into_horovod()) or 'nothing'}")


def _horovod_folder() -> Path:
    return Path(str(distribution("horovod").locate_file("horovod")))


def _torch_of_horovod() -> str | None:
    """The version of torch that Horovod was built for, by the note that its build leaves; None without one."""
    try:
        note = (_horovod_folder() / "metadata.json").read_text(encoding="utf-8")
        built_for: str = json_text.loads(note)["pytorch"]
    except (OSError, ValueError, KeyError):
        return None
    return built_for.partition("+")[0]


def _built_into_horovod() -> list[str]:
    """Read off the names in Horovod's library; to ask the library itself would load torch, for seconds."""
    names = {"gloo": b"N4gloo", "NCCL": b"libnccl.so", "CUDA": b"libcudart.so"}
    library = b"".join(path.read_bytes() for path in _horovod_folder().glob("torch/mpi_lib*.so"))
    return [name for name, mark in names.items() if mark in library]


def _gpus() -> Check:
    try:
        return _optional("GPUs", True, f"{gpu.present()} by the NVIDIA driver")
    except PlatformError:
        return _optional("GPUs", True, "none that the NVIDIA driver knows: training is on the CPU")


def _launchers() -> Check:
    """Ways to start the processes of a deep model whose packages are here."""
    ways = []
    if _torch().ok:
        ways.append("local")
        if _horovod().ok:
            ways += ["horovod (in Spark)", "horovodrun"] if _installed("pyspark") else ["horovodrun"]
        ways += ["torchrun", "torch_distributor"] if _installed("pyspark") else ["torchrun"]
    found = f"{', '.join(ways)}; clickmill doctor --launchers tries them" if ways else ABSENT
    return _optional("launchers", bool(ways), found)


if __name__ == "__main__":
    sys.exit(main(json="--json" in sys.argv[1:]))
