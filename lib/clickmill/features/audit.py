"""What hashing costs each slot, a day: distinct values, missing, new ones, collisions. No Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

AUDIT = pa.schema(
    [
        ("ds", pa.date32()),
        ("slot", pa.string()),
        ("rows", pa.int64()),
        ("distinct", pa.int64()),
        ("missing_share", pa.float64()),
        ("unseen_share", pa.float64()),
        ("bits", pa.int32()),
        ("load", pa.float64()),
        ("collision_mass", pa.float64()),
        ("largest_bucket_share", pa.float64()),
    ]
)


def audit_slot(
    table: pa.Table, *, days: Sequence[date], bits: tuple[int, int], missing: Mapping[str, int]
) -> pa.Table:
    """One column's counts over days → its figures on each of `days`, at each number of bits.

    table: `ds`, `slot` (one column's name), `hash`, `n`, partial counts. Earlier days than `days`
    serve to tell which values were seen before; on the first day there is, `unseen_share` is null.
    collision_mass: the share of the day's impressions whose value shares its index with another value
    *of this column*; `with_other_slots` adds those of the others.
    """
    slot = table.column("slot")[0].as_py()
    day_of = table.column("ds").to_numpy().astype("datetime64[D]")
    hashes, counts = table.column("hash").to_numpy(), table.column("n").to_numpy()
    rows: list[dict[str, Any]] = []
    seen = np.empty(0, np.int32)
    for day in np.unique(day_of):
        here = day_of == day
        values, inverse = np.unique(hashes[here], return_inverse=True)
        n = np.bincount(inverse, counts[here], len(values))
        if day.item() in days:
            total = n.sum()
            new = None if not len(seen) else float(n[~np.isin(values, seen, assume_unique=True)].sum() / total)
            head = {
                "ds": day.item(),
                "slot": slot,
                "rows": int(total),
                "distinct": len(values),
                "missing_share": float(n[values == missing[slot]].sum() / total),
                "unseen_share": new,
            }
            rows += [head | _collisions(values, n, b) for b in range(bits[0], bits[1] + 1)]
        seen = np.union1d(seen, values)
    return pa.Table.from_pylist(rows, schema=AUDIT)


def with_other_slots(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The audit with collisions between slots added, as a model sees them whose slots share one table.

    A value's index is hit by one of the D distinct values of the other columns with probability
    1 − (1 − 2^−bits)^D; so mass = 1 − (1 − mass within) · (1 − 2^−bits)^D, exact in expectation.
    """
    distinct: dict[date, dict[str, int]] = {}
    for row in rows:
        distinct.setdefault(row["ds"], {})[row["slot"]] = row["distinct"]
    totals = {day: sum(slots.values()) for day, slots in distinct.items()}
    out = []
    for row in rows:
        others = totals[row["ds"]] - row["distinct"]
        free = np.exp(others * np.log1p(-(2.0 ** -row["bits"])))
        out.append({**row, "collision_mass": float(1.0 - (1.0 - row["collision_mass"]) * free)})
    return out


def _collisions(values: np.ndarray[Any, Any], n: np.ndarray[Any, Any], bits: int) -> dict[str, Any]:
    index = values & np.int32((1 << bits) - 1)
    used, inverse, sharers = np.unique(index, return_inverse=True, return_counts=True)
    mass = np.bincount(inverse, n, len(used))
    return {
        "bits": bits,
        "load": len(used) / 2.0**bits,
        "collision_mass": float(mass[sharers > 1].sum() / n.sum()),
        "largest_bucket_share": float(mass.max() / n.sum()),
    }
