"""What hashing costs each slot, a day: distinct values, missing, new ones, collisions. No Spark.

Values are counted in SHARDS by the lowest bits of their hash: two values that share an index at some
number of bits share its lowest bits too, so the shards' figures only need adding up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.config import AUDIT_LEAST

SHARD_BITS = AUDIT_LEAST
SHARDS = 1 << SHARD_BITS
COUNTS = pa.schema([("slot", pa.string()), ("shard", pa.int32()), ("ds", pa.date32()), ("pairs", pa.binary())])
"""`pairs`: (hash, count) as int32, native byte order, as `pack` makes them: few rows for Spark to move."""
SUMS = ("rows", "distinct", "missing", "unseen", "used", "shared")
PARTS = pa.schema(
    [
        ("ds", pa.date32()),
        ("slot", pa.string()),
        ("bits", pa.int32()),
        *((name, pa.int64()) for name in SUMS),
        ("largest", pa.int64()),
        ("history", pa.bool_()),
    ]
)
"""A shard's figures: SUMS add up over shards, of `largest` and `history` the greatest counts."""

Pairs = tuple[NDArray[np.int32], NDArray[np.int64]]


def pack(hashes: NDArray[np.int32], counts: NDArray[np.int64]) -> list[bytes]:
    """The pairs of each shard, shard 0 first. Counts must fit int32."""
    pairs = np.column_stack([hashes, counts]).astype(np.int32)
    shard = hashes & np.int32(SHARDS - 1)
    return [pairs[shard == number].tobytes() for number in range(SHARDS)]


def audit_shard(
    table: pa.Table, *, days: Sequence[date], history: int, bits: tuple[int, int], missing: Mapping[str, int]
) -> pa.Table:
    """One shard of one column over days (rows of COUNTS) → its figures on each of `days`, at each number of bits.

    A value is unseen when it stands on none of the `history` days before; whether there were any such
    days is `history` of the result. Raises ValueError for fewer bits than the shards are made by.
    """
    if bits[0] < SHARD_BITS:
        raise ValueError(f"features.audit_bits must start at {SHARD_BITS} or more, found {bits[0]}")
    slot = table.column("slot")[0].as_py()
    by_day = _by_day(table)
    rows: list[dict[str, Any]] = []
    for day in sorted(set(days) & by_day.keys()):
        values, n = by_day[day]
        if not len(values):  # all of the day's values lie in other shards
            continue
        before = [by_day[d][0] for d in by_day if day - timedelta(days=history) <= d < day]
        new = ~np.isin(values, np.concatenate(before)) if before else np.ones(len(values), bool)
        head = {
            "ds": day,
            "slot": slot,
            "rows": n.sum(),
            "distinct": len(values),
            "missing": n[values == missing[slot]].sum(),
            "unseen": n[new].sum(),
            "history": bool(before),
        }
        rows += [head | _collisions(values, n, at) for at in range(bits[0], bits[1] + 1)]
    return pa.Table.from_pylist(rows, schema=PARTS)


def shares(totals: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Figures added up over shards (rows as PARTS, every column of a day among them) → rows of feature_audit.

    load: indices in use by this column / 2^bits. largest_bucket_share: the fullest index's share of the
    day's impressions. unseen_share is null where no earlier day was there to compare with.
    collision_mass: the share of the day's impressions whose value shares its index with another value of
    the day, as a model sees it whose columns all share one table of 2^bits weights. Within the column
    that is counted; one of the D distinct values of the other columns hits a given index with
    probability 1 − (1 − 2^−bits)^D (values fall evenly), so

        mass = 1 − (1 − mass within) · (1 − 2^−bits)^D.
    """
    rows = sorted(totals, key=lambda row: (row["ds"], row["slot"], row["bits"]))
    distinct: dict[date, dict[str, int]] = {}
    for row in rows:
        distinct.setdefault(row["ds"], {})[row["slot"]] = row["distinct"]
    everything = {day: sum(slots.values()) for day, slots in distinct.items()}
    return [_row(row, others=everything[row["ds"]] - row["distinct"]) for row in rows]


def _row(row: Mapping[str, Any], *, others: int) -> dict[str, Any]:
    n, size = row["rows"], 2.0 ** row["bits"]
    free = float(np.exp(others * np.log1p(-1.0 / size)))
    return {
        "ds": row["ds"],
        "slot": row["slot"],
        "bits": row["bits"],
        "rows": n,
        "distinct": row["distinct"],
        "missing_share": row["missing"] / n,
        "unseen_share": row["unseen"] / n if row["history"] else None,
        "load": row["used"] / size,
        "collision_mass": 1.0 - (1.0 - row["shared"] / n) * free,
        "largest_bucket_share": row["largest"] / n,
    }


def _by_day(table: pa.Table) -> dict[date, Pairs]:
    """Day → its distinct hashes, rising, and their counts."""
    packed: dict[date, list[bytes]] = {}
    for ds, pairs in zip(table.column("ds").to_pylist(), table.column("pairs").to_pylist(), strict=True):
        packed.setdefault(ds, []).append(pairs)
    return {ds: _merged(parts) for ds, parts in packed.items()}


def _merged(parts: list[bytes]) -> Pairs:
    pairs = np.frombuffer(b"".join(parts), np.int32).reshape(-1, 2)
    values, place = np.unique(pairs[:, 0], return_inverse=True)
    return values, np.bincount(place, pairs[:, 1], len(values)).astype(np.int64)


def _collisions(values: NDArray[np.int32], n: NDArray[np.int64], bits: int) -> dict[str, Any]:
    used, place, sharers = np.unique(values & np.int32((1 << bits) - 1), return_inverse=True, return_counts=True)
    mass = np.bincount(place, n, len(used))
    return {
        "bits": bits,
        "used": len(used),
        "shared": int(mass[sharers > 1].sum()),
        "largest": int(mass.max()),
    }
