"""The last words of ranks, a file each, by which who started them learns what went wrong, and with whom first."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

from clickmill.errors import RankError
from clickmill.train.report import error_of, said_of

RANKS = "ranks"
Kind = Literal["started", "done", "failed", "broken", "stopped"]
"""failed: by an error of its own; broken: a neighbour was gone; stopped: it was told to end."""


class Words:
    """What one rank leaves: always one file, of the last that it has to say."""

    def __init__(self, folder: str | Path, rank: int) -> None:
        self._rank = rank
        self._place = Path(folder) / RANKS / f"rank-{rank}.json"
        self._place.parent.mkdir(parents=True, exist_ok=True)

    def say(self, kind: Kind, error: BaseException | None = None) -> None:
        """Written aside and renamed; on a full disk over the word before, where there is room. What is said of an
        end stands."""
        own = psutil.Process()
        word: dict[str, Any] = {
            "rank": self._rank,
            "kind": kind,
            "time": time.time(),
            "host": socket.gethostname(),
            "process": [own.pid, own.create_time()],
        }
        if error is not None:
            word |= said_of(self._rank, error)
        text, aside = json.dumps(word), self._place.with_suffix(f".{kind}")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(self._place)
        except OSError:
            aside.unlink(missing_ok=True)
            with self._place.open("r+", encoding="utf-8") as last:
                last.write(text)
                last.truncate()


def clear(folder: str | Path) -> None:
    """Forgets what ranks of an earlier run said."""
    shutil.rmtree(Path(folder) / RANKS, ignore_errors=True)


def heard(folder: str | Path) -> list[dict[str, Any]]:
    """What ranks said, by rank."""
    places = (Path(folder) / RANKS).glob("rank-*.json")
    found = []
    for place in places:
        with contextlib.suppress(ValueError):  # (one that a full disk has cut short)
            found.append(json.loads(place.read_text(encoding="utf-8")))
    return sorted(found, key=lambda word: int(word["rank"]))


def verdict(folder: str | Path, ranks: int) -> Exception | None:
    """Why some of so many ranks ended before their time: the first error of a rank's own, by its class, else those
    that left no word, and those that had not come. None where all are done, never started, or only lost each
    other: then the launcher's log says more."""
    words = heard(folder)
    failed = sorted((word for word in words if word["kind"] == "failed"), key=lambda word: float(word["time"]))
    if failed:
        return error_of(failed[0])
    silent = [word for word in words if word["kind"] == "started"]
    if silent:
        told = [f"rank {word['rank']} (process {word['process'][0]} on {word['host']})" for word in silent]
        absent = ", ".join(map(str, missing(words, ranks)))
        further = f"; rank {absent} had not come by then" if absent else ""
        return RankError(f"{', '.join(told)} was killed or lost: it left no word{further}")
    return None


def missing(words: Sequence[Mapping[str, Any]], ranks: int) -> list[int]:
    """Those of so many ranks that said nothing."""
    return sorted({*range(ranks)} - {int(word["rank"]) for word in words})


def end(folder: str | Path) -> None:
    """Ends those ranks on this machine that are still there."""
    for word in heard(folder):
        pid, created = word["process"]
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if word["host"] == socket.gethostname() and process.create_time() == created and pid != os.getpid():
                process.kill()
