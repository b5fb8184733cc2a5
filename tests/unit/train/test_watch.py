"""Lines out of a running stage: the latest, seldom enough, and only our own."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from clickmill.train import watch
from clickmill.train.watch import listening, teller


def told(said: list[str], count: int) -> bool:
    """Whether so many lines came within three seconds."""
    end = time.monotonic() + 3
    while len(said) < count and time.monotonic() < end:
        time.sleep(0.01)
    return len(said) >= count


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "QUIET_S", 0.0)
    monkeypatch.setattr(watch, "EVERY_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_what_rank_0_tells_is_said_and_what_others_send_is_not() -> None:
    said: list[str] = []
    before = threading.active_count()
    with listening("127.0.0.1", said.append) as address:
        assert address is not None
        assert address.host == "127.0.0.1"
        assert teller(address, 1) is None
        say = teller(address, 0)
        assert say is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"not ours", (address.host, address.port))
        say("iteration 1")
        assert told(said, 1)
        say("é" * 2000)
        assert told(said, 2)
    assert said == ["iteration 1", "é" * watch.LONGEST]
    assert threading.active_count() == before
    say("nobody listens any more")


def said_of(iterations: int) -> list[str]:
    """What is said of a training that tells an iteration each hundredth of a second."""
    said: list[str] = []
    with listening("127.0.0.1", said.append) as address:
        say = teller(address, 0)
        assert say is not None
        for number in range(iterations):
            say(f"iteration {number}")
            time.sleep(0.01)
    return said


def test_a_short_training_says_nothing() -> None:
    assert said_of(30) == []


def test_lines_come_seldom_and_the_latest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "QUIET_S", 0.2)
    monkeypatch.setattr(watch, "EVERY_S", 0.4)
    start = time.monotonic()
    said = said_of(100)
    seconds = time.monotonic() - start
    assert 1 <= len(said) <= 1 + (seconds - 0.2) / 0.4
    assert int(said[0].split()[1]) > 5


def test_without_an_address_or_a_listener_there_is_nothing_to_tell() -> None:
    for host, say in ((None, print), ("127.0.0.1", None), ("192.0.2.1", print)):
        with listening(host, say) as address:
            assert address is None
            assert teller(address, 0) is None
