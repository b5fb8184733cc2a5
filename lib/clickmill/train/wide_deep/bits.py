"""How many rows a slot's table has: as few as its values need, by what `feature_audit` saw of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clickmill.specs import Embedding

LIMIT = 0.01
"""Share of a slot's impressions whose value may share its row with another one."""
LEAST = 8
"""Bits of the smallest table: fewer rows save nothing."""

Row = Mapping[str, Any]


def bits_of(spec: Embedding, slots: Sequence[str], audit: Iterable[Row]) -> dict[str, int]:
    """slot → bits of the table that its values lie in: those the spec gives, else the fewest that do.

    audit: all rows of `feature_audit` of the days trained on; of several days the one that needs most counts.
    Slots that share a table have the same bits: the most given for one of them, else by the values of all of
    them. A slot that the audit does not know has `max_bits`.
    """
    rows = list(audit)
    distinct = {(row["ds"], row["slot"]): row["distinct"] for row in rows}
    of_day: dict[Any, int] = {}
    for (day, _), values in distinct.items():
        of_day[day] = of_day.get(day, 0) + values
    seen: dict[str, dict[int, float]] = {}
    for row in rows:
        others = of_day[row["ds"]] - row["distinct"]
        own, within = seen.setdefault(row["slot"], {}), _within(row, others)
        if within is not None:
            own[row["bits"]] = max(own.get(row["bits"], 0.0), within)
    most = {slot: max(n for (_, name), n in distinct.items() if name == slot) for slot in seen}
    found: dict[str, int] = {}
    for group in groups_of(spec, slots):
        given = [spec.bits[slot] for slot in group if slot in spec.bits]
        columns = [f"s_{slot}" for slot in group]
        if given:
            bits = max(given)
        elif all(column in most for column in columns):
            bits = _fewest(
                sum(most[column] for column in columns), seen[columns[0]] if len(group) == 1 else {}, spec
            )
        else:
            bits = spec.max_bits
        found |= dict.fromkeys(group, bits)
    return found


def groups_of(spec: Embedding, slots: Sequence[str]) -> list[tuple[str, ...]]:
    """The slots that lie in one table each, in their order."""
    shared = {slot: group for group in spec.share for slot in group}
    found = (tuple(one for one in slots if one in shared.get(slot, (slot,))) for slot in slots)
    return list(dict.fromkeys(found))


def expected(values: int, bits: int) -> float:
    """The share of impressions whose value shares its row with another, of so many values in 2^bits rows: over
    hashes it is 1 − (1 − 2^−bits)^(values − 1) in the mean, whatever the values' frequencies."""
    return -math.expm1(max(values - 1, 0) * math.log1p(-(2.0**-bits)))


def _fewest(values: int, seen: Mapping[int, float], spec: Embedding) -> int:
    """seen: bits → what the audit saw; elsewhere what is to be expected counts."""
    enough = (bits for bits in range(LEAST, spec.max_bits) if seen.get(bits, expected(values, bits)) < LIMIT)
    return next(enough, spec.max_bits)


def _within(row: Row, others: int) -> float | None:
    """The mass of collisions within the column. The audit's is that of one table for all columns
    (`features.audit.shares`), where the other columns' values leave a value alone with a known probability; None
    where that is so small that the figure says nothing of the column itself."""
    alone = math.exp(others * math.log1p(-(2.0 ** -row["bits"])))
    return max(1 - (1 - row["collision_mass"]) / alone, 0.0) if alone > LIMIT else None
