"""Runs a launcher's module as a process that ends with the one that started it. No Spark.

    python -m clickmill.train.wide_deep.bound PARENT MODULE ARGUMENTS…

Launchers outlive whoever is killed while waiting for them, and their ranks with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

SET_DEATH_SIGNAL = 1
"""prctl(2): PR_SET_PDEATHSIG."""
LOOPBACK = "127.0.0.1"
ON_LOOPBACK = "CLICKMILL_ON_LOOPBACK"
"""Set where all ranks are on this machine."""


def die_with(parent: int | None = None) -> None:
    """From now on this process is killed when its parent ends, or at once where that has ended. Linux only."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def horovod_on_loopback() -> Iterator[None]:
    """The place where Horovod's processes find each other listens on the loopback alone, not everywhere."""
    from horovod.runner.http import http_server

    everywhere = http_server.find_port
    http_server.find_port = partial(_found_on_loopback, everywhere)
    try:
        yield
    finally:
        http_server.find_port = everywhere


def _found_on_loopback(find_port: Any, make: Any) -> Any:
    return find_port(lambda address: make((LOOPBACK, address[1])))


def main() -> None:
    parent, module = int(sys.argv[1]), sys.argv[2]
    die_with(parent)
    near = module.startswith("horovod") and ON_LOOPBACK in os.environ
    sys.argv = sys.argv[2:]
    with horovod_on_loopback() if near else contextlib.nullcontext():
        runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
