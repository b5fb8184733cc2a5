"""The two Delta jars: which they are, where they lie, and how they are fetched once and checked.

`python -m clickmill.jars` puts them where `jar_paths` finds them. A copy is kept in the user's cache
folder, so that an environment can be deleted and made again without the network. No Spark import.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from clickmill.errors import ClickmillError, PlatformError

SPARK_LINE = "4.2"
DELTA_VERSION = "4.4.0"
PACKAGES = (f"io.delta:delta-spark_{SPARK_LINE}_2.13:{DELTA_VERSION}", f"io.delta:delta-storage:{DELTA_VERSION}")
# What these two bring along is in pyspark already, or is for catalogues that are not used here.
NOT_NEEDED = ("org.*:*", "com.*:*", "io.unitycatalog:*", "io.delta:delta-kernel-*")
SHA256 = {
    f"delta-spark_{SPARK_LINE}_2.13-{DELTA_VERSION}.jar": (
        "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead"
    ),
    f"delta-storage-{DELTA_VERSION}.jar": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
}
FETCH = "python -m clickmill.jars"
_DELTA = re.compile(r"delta-spark_[\d._]+[-:](\d[\w.]*?)(?:\.jar)?(?=$|[\s,'\"])")
"""Delta's jar or package with its version, in a file's name or among options."""


def cache_root() -> Path:
    """clickmill's folder in the user's cache: $XDG_CACHE_HOME/clickmill, or ~/.cache/clickmill."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clickmill"


def jar_folder() -> Path:
    """Where the jars are looked for: $CLICKMILL_JARS, else the environment's share/clickmill/jars."""
    return Path(os.environ.get("CLICKMILL_JARS") or Path(sys.prefix) / "share" / "clickmill" / "jars")


def jar_paths() -> tuple[Path, ...]:
    """The two jars in `jar_folder()`, unread. Raises PlatformError where one is missing."""
    folder = jar_folder()
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    if missing:
        raise PlatformError(
            f"{folder}: the Delta jars {', '.join(missing)} are missing; run `make setup` (or `{FETCH}`), "
            f"or set CLICKMILL_JARS to the folder that has them. Or {ways()}"
        )
    return tuple(folder / name for name in SHA256)


def ways() -> str:
    """How a Spark that does not know Delta gets it, each by itself."""
    folder = jar_folder()
    both = ",".join(str(folder / name) if (folder / name).is_file() else name for name in SHA256)
    return (
        f"give Spark its own: spark-submit --jars {both}, or spark-submit --packages {PACKAGES[0]} (from the "
        f"network), or put both jars into {spark_jars() or '$SPARK_HOME/jars'}, on every machine"
    )


def named(text: str) -> str | None:
    """The version of Delta in a list of jars, of packages, or of spark-submit's options; None: not there."""
    found = _DELTA.search(text)
    return found[1] if found else None


def in_spark() -> str | None:
    """The version of Delta among Spark's own jars; None where there is none."""
    folder = spark_jars()
    names = (path.name for path in folder.glob("delta-spark_*.jar") if path.is_file()) if folder else ()
    return next(filter(None, map(named, sorted(names))), None)


def spark_jars() -> Path | None:
    """The folder of Spark's own jars: $SPARK_HOME's, else this environment's pyspark's; None without a Spark."""
    told = os.environ.get("SPARK_HOME")
    spark = Path(told) if told else _spark_home()
    return spark / "jars" if spark else None


def damaged(folder: Path) -> list[str]:
    """Names of the jars that are missing from `folder`, or whose SHA-256 is not the pinned one."""
    return [name for name, expected in SHA256.items() if _sha256(folder / name) != expected]


def provide() -> Path:
    """Put both jars into `jar_folder()`, from the cache folder or else from the network; returns the folder.

    Links to them are put beside the jars of this environment's own Spark.

    Raises PlatformError where they cannot be fetched, or where what came is not what is pinned.
    """
    target, cache = jar_folder(), cache_root() / "jars"
    if damaged(target):
        if damaged(cache):
            with tempfile.TemporaryDirectory(prefix="clickmill-jars-") as work:
                _copy(_fetch(Path(work)), cache)
        _copy(cache, target)
    spark = _spark_home()
    if spark is not None:
        link(target, spark / "jars")
    return target


def link(folder: Path, beside: Path) -> None:
    """Links the jars beside Spark's own, so that `spark-submit`, whose JVM is there before us, knows Delta.

    Links to other versions go; files that somebody put there stay. Where we may not write, `--jars` must do.
    """
    if not os.access(beside, os.W_OK):
        return
    wanted = {beside / name: folder.absolute() / name for name in SHA256}
    for old in beside.glob("delta-*.jar"):
        if old.is_symlink() and old.readlink() != wanted.get(old):
            old.unlink()
    for place, jar in wanted.items():
        if not place.exists():
            place.symlink_to(jar)


def _spark_home() -> Path | None:
    """The folder of this environment's own Spark."""
    spark = find_spec("pyspark")
    places = spark.submodule_search_locations if spark else None
    return Path(places[0]) if places else None


def _fetch(work: Path) -> Path:
    """Resolve the jars with Spark's own Ivy, which knows the user's repositories; returns their folder."""
    spark = _spark_home()
    if spark is None:
        raise PlatformError("pyspark is not installed, and it is what fetches the Delta jars: run `make setup`")
    nothing = work / "nothing.py"
    nothing.write_text("", encoding="utf-8")
    command = [
        str(spark / "bin" / "spark-submit"),
        *("--master", "local[1]", "--conf", f"spark.jars.ivy={work / 'ivy'}"),
        *("--packages", ",".join(PACKAGES), "--exclude-packages", ",".join(NOT_NEEDED), str(nothing)),
    ]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    environment.pop("SPARK_HOME", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    fetched = work / "ivy" / "jars"
    for name in SHA256:
        source = fetched / f"io.delta_{name}"  # Ivy puts the organisation before the name
        if not source.is_file():
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise PlatformError(
                f"{name} could not be fetched; is there a network? Or copy the jars {', '.join(SHA256)} "
                f"into a folder and set CLICKMILL_JARS to it. Spark said:\n{last}"
            )
        source.rename(fetched / name)
    return fetched


def _copy(source: Path, target: Path) -> None:
    """Copy both jars, each checked first, written aside and renamed."""
    target.mkdir(parents=True, exist_ok=True)
    for name, expected in SHA256.items():
        found = _sha256(source / name)
        if found != expected:
            raise PlatformError(
                f"{source / name}: SHA-256 is {found}, expected {expected}: not the file that is pinned, not used"
            )
        aside = target / f".{name}.{os.getpid()}"
        shutil.copyfile(source / name, aside)
        aside.replace(target / name)


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Fetch and check; prints the folder. Returns the exit code."""
    try:
        print(provide())
    except ClickmillError as error:
        print(f"clickmill: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
