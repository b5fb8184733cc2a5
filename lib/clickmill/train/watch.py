"""Lines from inside a barrier stage to whoever waits for it: datagrams from rank 0 to the driver. No Spark.

Spark hands over what a stage made when it has ended; until then only this tells how far it is. A line that is
lost, or that a firewall keeps from the driver, is missed by nothing: no training waits for one.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

Say = Callable[[str], None]

QUIET_S = 5.0
"""What ends sooner says nothing."""
EVERY_S = 2.0
"""At most one line in so many seconds, the latest."""
LONGEST = 400
"""Characters of a line."""


class Address(NamedTuple):
    """Where lines go, and the word that they begin with, so that nobody else's are shown."""

    host: str
    port: int
    key: str


@contextlib.contextmanager
def listening(host: str | None, say: Say | None) -> Iterator[Address | None]:
    """Passes on to `say`, from a thread, what is told at the address it yields, until it is left.

    host: the driver's address that ranks reach it at. None is yielded where it is unknown or cannot be bound to,
    or where there is nobody to say it to.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        if host is None or say is None or not _bound(inbox, host):
            yield None
            return
        bound, port = inbox.getsockname()
        address = Address(bound, port, secrets.token_hex(8))
        done = threading.Event()
        thread = threading.Thread(target=_pass_on, args=(inbox, address.key, say, done), daemon=True)
        thread.start()
        try:
            yield address
        finally:
            done.set()
            thread.join()


def teller(address: Address | None, rank: int) -> Say | None:
    """How a rank says a line: rank 0 tells the address, all others say nothing."""
    return None if address is None or rank else partial(_tell, address)


def named(say: Say | None, name: str) -> Say | None:
    """Says each line as one of model `name`."""
    return None if say is None else partial(_say_of, say, name)


def _say_of(say: Say, name: str, line: str) -> None:
    say(f"{name}: {line}")


def _tell(address: Address, text: str) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(f"{address.key}{text[:LONGEST]}".encode(), (address.host, address.port))


def _bound(inbox: socket.socket, host: str) -> bool:
    try:
        inbox.bind((host, 0))
    except OSError:
        return False
    inbox.settimeout(0.1)
    return True


def _pass_on(inbox: socket.socket, key: str, say: Say, done: threading.Event) -> None:
    latest, due = "", time.monotonic() + QUIET_S
    while not done.is_set():
        with contextlib.suppress(OSError):  # (a time-out is one)
            text = inbox.recv(4 * LONGEST + len(key)).decode(errors="replace")
            latest = text.removeprefix(key) if text.startswith(key) else latest
        if latest and time.monotonic() >= due:
            say(latest)
            latest, due = "", time.monotonic() + EVERY_S
