"""What the bootstrap draws together: impressions, values of a column, blocks of time. No Spark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clickmill import bootstrap
from clickmill.config import Judge

BLOCKS = {"hour": 1, "day": 24}
"""Units that are blocks of time, in hours."""


@dataclass(frozen=True)
class Units:
    """What the bootstrap draws together: rows of one value of `column`, or of one block of `hours`."""

    seed: int
    column: str | None = None
    hours: int | None = None

    def keys(self, batch: pa.RecordBatch) -> bootstrap.Keys:
        """The key of each row's unit, (n,); a row without one is a unit of its own."""
        if self.hours is not None:
            return bootstrap.block_keys(micros(batch.column("event_time")), self.hours, self.seed)
        event_id = batch.column("event_id").cast(pa.string())
        if self.column is None:
            return bootstrap.row_keys(event_id, self.seed)
        return bootstrap.unit_keys(batch.column(self.column).cast(pa.string()), event_id, self.seed)


def units_of(conf: Judge) -> Units:
    """The bootstrap's units by the config."""
    if conf.unit in BLOCKS:
        return Units(conf.seed, hours=BLOCKS[conf.unit])
    return Units(conf.seed, column=None if conf.unit == "impression" else f"c_{conf.unit}")


def micros(event_time: pa.Array) -> NDArray[np.int64]:
    """Microseconds since 1970 UTC, (n,)."""
    return np.asarray(pc.cast(event_time.cast(pa.timestamp("us", tz="UTC")), pa.int64()).to_numpy())
