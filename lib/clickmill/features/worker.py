"""Raw columns → hashed columns: what runs on executors, and inside Spark-free scoring. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill import hashing
from clickmill.config import Features
from clickmill.dataset import Dataset
from clickmill.features import audit

Batches = Iterator[pa.RecordBatch]
FIXED = ("event_id", "event_time", "label", "ds")


@dataclass(frozen=True)
class FeatureSpec:
    """Which columns become which features. `edges`: number → its bucket edges, rising."""

    slots: tuple[str, ...]
    numbers: tuple[str, ...]
    crosses: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, dataset: Dataset, features: Features) -> FeatureSpec:
        """The spec that a config states."""
        edges = tuple(tuple(features.number_edges.get(name, features.edges)) for name in dataset.numbers)
        return cls(dataset.slots, dataset.numbers, dataset.crosses, edges)

    @property
    def hashed(self) -> dict[str, tuple[str, ...]]:
        """Feature column → the slots or numbers it is made of, in order."""
        alone = {slot_column(name): (name,) for name in (*self.slots, *self.numbers)}
        return alone | {cross_column(parts): parts for parts in self.crosses}


def slot_column(name: str) -> str:
    """Column of a slot, or of a number's bucket."""
    return f"s_{name}"


def number_column(name: str) -> str:
    """Column of a number itself."""
    return f"n_{name}"


def cross_column(parts: tuple[str, ...]) -> str:
    """Column of a cross."""
    return "x_" + "_".join(parts)


def hash_columns(columns: Mapping[str, pa.Array], spec: FeatureSpec) -> dict[str, pa.Array]:
    """Hashed columns (int32 hashes, float32 numbers) of raw ones.

    columns: slots as strings, numbers as floats, each (n,), null or NaN where missing. Returns
    `s_`, `x_` and `n_` columns in the spec's order. Crosses are built from whole hashes.
    """
    hashes = {slot: hashing.hash_slot(slot, columns[slot]) for slot in spec.slots}
    for number, edges in zip(spec.numbers, spec.edges, strict=True):
        hashes[number] = hashing.hash_number(number, columns[number], edges)
    out = {slot_column(name): pa.array(values) for name, values in hashes.items()}
    for parts in spec.crosses:
        cross = hashing.hash_cross(hashing.cross_name(parts), [(part, hashes[part]) for part in parts])
        out[cross_column(parts)] = pa.array(cross)
    for number in spec.numbers:
        values = columns[number].cast(pa.float32())
        out[number_column(number)] = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float32()), values)
    return out


def featurize(batches: Batches, *, spec: FeatureSpec, carried: Mapping[str, str]) -> Batches:
    """Batches of click_log → batches of features. `carried`: column of features → column of click_log."""
    for batch in batches:
        columns = {name: batch.column(name) for name in batch.schema.names}
        out = {name: columns[name] for name in FIXED[:-1]}
        out |= hash_columns(columns, spec)
        out |= {name: columns[source] for name, source in carried.items()}
        out["ds"] = columns["ds"]
        yield pa.RecordBatch.from_arrays(list(out.values()), names=list(out))


FLUSH_ROWS = 500_000


def count_values(batches: Batches) -> Batches:
    """Batches of `ds` and hashed columns → how often each hash stands there, a row a (column, shard, ds).

    Rows are as `audit.COUNTS`; counts are partial: the same hash may come again. Nulls (days from before
    a column was there) are left out. Holds at most FLUSH_ROWS rows and one batch at a time.
    """
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(part.num_rows for part in held) >= FLUSH_ROWS:
            yield from _counted(held)
            held = []
    yield from _counted(held)


def _counted(held: list[pa.RecordBatch]) -> Batches:
    if not held:
        return
    table = pa.Table.from_batches(held)
    for day in pc.unique(table.column("ds")):
        here = table.filter(pc.equal(table.column("ds"), day))
        for column in (name for name in table.column_names if name != "ds"):
            values, counts = np.unique(here.column(column).drop_null().to_numpy(), return_counts=True)
            if not len(values):
                continue
            yield pa.RecordBatch.from_pydict(
                {
                    "slot": [column] * audit.SHARDS,
                    "shard": list(range(audit.SHARDS)),
                    "ds": [day.as_py()] * audit.SHARDS,
                    "pairs": audit.pack(values, counts),
                },
                schema=audit.COUNTS,
            )
