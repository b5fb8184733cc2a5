"""What a person sees while a job works: a spinner on a terminal, plain lines elsewhere. Standard error only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class _Onlooker(Console):
    """One that may go away: the work does not end with it."""

    def on_broken_pipe(self) -> None:
        """Nothing: rich would end the process."""
        self.quiet = True


class Progress:
    """Lines and timed steps. Text is shown as it is: markup in it has no effect."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = _Onlooker(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.quiet = quiet

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(escape(text))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Shows that `text` is being done and, once it is, how long it took."""
        start = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            with self._console.status(escape(text)):
                yield
        else:
            yield
        self.say(f"{text}: {time.monotonic() - start:.1f} s")
