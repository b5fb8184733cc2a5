"""The encodings of rows as a model eats them: what was known of each value, as columns of floats.

It is known from the histories in a folder, as of each row's own time (training, calibration, the judge), or from a
snapshot of one moment, which the model's artifact brings along (scoring).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.encoding import Encoded, History, Known, Snapshot, encode, periods_of
from clickmill.errors import ArtifactError
from clickmill.models.logreg import hashes

KINDS = ("impressions", "clicks", "rate")


@dataclass(frozen=True)
class Encoder:
    """Encodes the values of hash columns by what was counted before each row's own period."""

    columns: tuple[str, ...]
    """Hash columns of `features`, such as s_C1 and x_C1_C2."""
    period: str
    window: int
    """Periods that are looked back, at least 1."""
    strength: float
    """Pseudo-impressions that draw a value's rate towards its slot's, above 0."""
    lag: int = 0
    """Periods before a row's own that are not known yet, because labels take so long."""
    folder: str | None = None
    """Has a history (`History.save`) for each column, in a folder of its name; None: the snapshots are taken."""
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that come out: e_C1_impressions, e_C1_clicks, e_C1_rate, … (of a cross: e_x_C1_C2_rate)."""
        bare = (column.removeprefix("s_") for column in self.columns)
        return tuple(f"e_{name}_{kind}" for name in bare for kind in KINDS)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of `features` that it needs."""
        return self.columns if self.folder is None else (*self.columns, "event_time")

    def encoded(self, batch: pa.RecordBatch) -> Iterator[NDArray[np.float32]]:
        """The columns of `names`, (n,) each. Raises MissingColumnsError where a hash column is absent or null."""
        if self.folder is None:
            for column in self.columns:
                yield from self._known[column].encode(hashes(batch, column))
            return
        micros = batch.column("event_time").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
        periods = periods_of(micros, self.period) - np.int32(self.lag)
        for column in self.columns:
            yield from self._before(column, hashes(batch, column), periods)

    def arrays(self, micros: int) -> dict[str, NDArray[Any]]:
        """Snapshots of what was known at a time (microseconds since 1970), out of the histories, as arrays."""
        assert self.folder is not None
        period = int(periods_of(np.array([micros]), self.period)[0]) - self.lag
        found: dict[str, NDArray[Any]] = {}
        for column in self.columns:
            snapshot = Snapshot.of(_history(self.folder, column), period, self.window)
            found |= {f"{column}.{name}": array for name, array in snapshot._asdict().items()}
        return found

    @cached_property
    def _known(self) -> dict[str, Known]:
        return {column: Known(one, strength=self.strength) for column, one in self.snapshots.items()}

    def _before(self, column: str, own: NDArray[np.int32], periods: NDArray[np.int32]) -> Encoded:
        assert self.folder is not None
        return encode(_history(self.folder, column), own, periods, window=self.window, strength=self.strength)


def snapshots_from(columns: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Snapshot]:
    """What `Encoder.arrays` gave, by column. Raises ArtifactError where some is missing."""
    try:
        return {column: Snapshot(*(arrays[f"{column}.{name}"] for name in Snapshot._fields)) for column in columns}
    except KeyError as error:
        raise ArtifactError(f"the artifact has no array {error}: its values cannot be encoded") from None


@lru_cache(maxsize=1024)
def _history(folder: str, column: str) -> History:
    return History.open(Path(folder, column))
