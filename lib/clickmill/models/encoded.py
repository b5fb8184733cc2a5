"""The encodings of rows as a model eats them: columns of floats, looked up in the histories of values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.encoding import History, encode, periods_of
from clickmill.models.logreg import hashes

KINDS = ("impressions", "clicks", "rate")


@dataclass(frozen=True)
class Encoder:
    """Encodes the values of hash columns by what was counted before each row's own period."""

    folder: str
    """Has a history (`History.save`) for each column, in a folder of its name."""
    columns: tuple[str, ...]
    """Hash columns of `features`, such as s_C1 and x_C1_C2."""
    period: str
    window: int
    """Periods that are looked back, at least 1."""
    strength: float
    """Pseudo-impressions that draw a value's rate towards its slot's, above 0."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that come out: e_s_C1_impressions, e_s_C1_clicks, e_s_C1_rate, …"""
        return tuple(f"e_{column}_{kind}" for column in self.columns for kind in KINDS)

    def encoded(self, batch: pa.RecordBatch) -> Iterator[NDArray[np.float32]]:
        """The columns of `names`, (n,) each. Raises MissingColumnsError where a hash column is absent or null."""
        micros = batch.column("event_time").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
        periods = periods_of(micros, self.period)
        for column in self.columns:
            own = hashes(batch, column)
            yield from encode(
                _history(self.folder, column), own, periods, window=self.window, strength=self.strength
            )


@lru_cache(maxsize=1024)
def _history(folder: str, column: str) -> History:
    return History.open(Path(folder, column))
