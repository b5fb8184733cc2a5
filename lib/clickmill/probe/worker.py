"""What an executor's Python says of itself. No Spark."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa

SCHEMA = pa.schema([("seen", pa.string())])
LINGER_S = 0.5
"""How long a task holds its slot, so that each slot of the cluster gets one."""
ABSENT = "absent"


class Seen(NamedTuple):
    """One task, as seen from inside."""

    host: str
    executor: int
    """The process that the Python workers of one executor are children of."""
    process: int
    python: str
    packages: dict[str, str]
    """Versions by name; ABSENT where one is not there."""
    began: float
    ended: float
    """Seconds since 1970, by the executor's clock."""
    free: int
    """Bytes that its machine, or container, has left."""
    finds: bool
    """Whether it finds the driver's file."""
    refused: str | None
    """Why it could not write a file beside that one."""


def look(
    tasks: Iterator[pa.RecordBatch], *, packages: Sequence[str], mark: str | None
) -> Iterator[pa.RecordBatch]:
    """A row of SCHEMA for each row that comes in: a `Seen` as JSON.

    mark: a file that the driver has written, beside which executors must be able to write; None: not tried.
    """
    for batch in tasks:
        for _ in range(batch.num_rows):
            seen = _look(packages, mark)
            yield pa.RecordBatch.from_pylist([{"seen": json.dumps(seen)}], schema=SCHEMA)


def own_python() -> str:
    """Of this process, major and minor number."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions by name; ABSENT where one is not there."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ABSENT
    return found


def _look(packages: Sequence[str], mark: str | None) -> Seen:
    began, host = time.time(), socket.gethostname()
    refused = None if mark is None else _write(f"{mark}-{host}-{os.getpid()}")
    finds = mark is None or Path(mark).exists()
    free = _free()
    time.sleep(LINGER_S)
    return Seen(
        host,
        os.getppid(),
        os.getpid(),
        own_python(),
        versions(packages),
        began,
        time.time(),
        free,
        finds,
        refused,
    )


def _write(path: str) -> str | None:
    try:
        Path(path).touch()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _free() -> int:
    left = psutil.virtual_memory().available
    try:
        return min(left, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # (no control group, or one without a limit)
        return left
