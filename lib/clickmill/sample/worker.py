"""The keyed draw on batches. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from clickmill import sampling

ADDED = (("keep_rate", pa.float64()), ("weight", pa.float64()), ("sample_id", pa.string()))


def keep_batches(
    batches: Iterator[pa.RecordBatch], *, keep_rate: float, seed: int, sample_id: str
) -> Iterator[pa.RecordBatch]:
    """The kept rows of each batch, with their keep rate, weight and sample id."""
    for batch in batches:
        label = batch.column("label").to_numpy()
        kept = batch.filter(pa.array(sampling.keep(batch.column("event_id"), label, keep_rate, seed)))
        weight = sampling.weights(kept.column("label").to_numpy(), keep_rate)
        rate = pa.repeat(pa.scalar(keep_rate), kept.num_rows)
        name = pa.repeat(pa.scalar(sample_id), kept.num_rows)
        arrays = [*kept.columns, rate, pa.array(weight), name]
        yield pa.RecordBatch.from_arrays(arrays, names=[*kept.schema.names, *(name for name, _ in ADDED)])
