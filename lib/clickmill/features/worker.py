"""Raw columns → hashed columns: what runs on executors, and inside Spark-free scoring. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clickmill import hashing
from clickmill.config import Dataset, Features

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
        out[f"n_{number}"] = columns[number].cast(pa.float32())
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


COUNTS = pa.schema([("ds", pa.date32()), ("slot", pa.string()), ("hash", pa.int32()), ("n", pa.int64())])
FLUSH_ROWS = 500_000


def count_values(batches: Batches) -> Batches:
    """Batches of `ds` and hashed columns → how often each hash stands there, a row a (ds, column, hash).

    Counts are partial: the same key may come again. Holds at most FLUSH_ROWS rows at a time.
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
    days = table.column("ds").to_numpy()
    for day in np.unique(days):
        here = table.filter(pa.array(days == day))
        for column in (name for name in table.column_names if name != "ds"):
            values, counts = np.unique(here.column(column).to_numpy(), return_counts=True)
            ds = pa.repeat(pa.scalar(day.astype("datetime64[D]").item(), pa.date32()), len(values))
            name = pa.repeat(pa.scalar(column), len(values))
            yield pa.RecordBatch.from_arrays([ds, name, pa.array(values), pa.array(counts)], schema=COUNTS)
