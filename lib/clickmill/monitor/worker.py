"""A keyed share of rows: the same rows on every rerun, whatever the partitioning. No Spark."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from clickmill import hashing


def drawn(batches: Iterator[pa.RecordBatch], *, share: float, seed: int) -> Iterator[pa.RecordBatch]:
    """The rows of each batch with u(drift, seed, event_id) < share."""
    for batch in batches:
        if share >= 1:
            yield batch
            continue
        uniform = hashing.keyed_uniform("drift", seed, batch.column("event_id"))
        yield batch.filter(pa.array(uniform < share))
