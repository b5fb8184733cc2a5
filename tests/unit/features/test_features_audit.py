"""The audit's figures: by hand, against a plain count, and against a simulated table of weights."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.features import audit

FIRST = date(2026, 1, 1)
MISSING = 7


def table(slot: str, shard: int, log: Mapping[date, list[int]]) -> pa.Table:
    """One shard's rows, each day in two partial counts."""
    rows = []
    for day, hashes in log.items():
        for part in (hashes[::2], hashes[1::2]):
            values, counts = np.unique(np.array(part, np.int32), return_counts=True)
            pairs = audit.pack(values, counts)[shard]
            rows.append({"slot": slot, "shard": shard, "ds": day, "pairs": pairs})
    return pa.Table.from_pylist(rows, schema=audit.COUNTS)


def audited(
    logs: Mapping[str, Mapping[date, list[int]]],
    days: list[date],
    *,
    bits: tuple[int, int] = (18, 18),
    history: int = 7,
) -> dict[tuple[str, date, int], dict[str, Any]]:
    """All shards of all columns, added up as Spark adds them."""
    totals: dict[tuple[str, date, int], dict[str, Any]] = {}
    for slot, log in logs.items():
        for shard in range(audit.SHARDS):
            found = audit.audit_shard(
                table(slot, shard, log), days=days, history=history, bits=bits, missing={slot: MISSING}
            )
            for row in found.to_pylist():
                total = totals.setdefault(
                    (slot, row["ds"], row["bits"]), dict.fromkeys(row, 0) | {"history": False}
                )
                total |= {name: row[name] for name in ("ds", "slot", "bits")}
                total |= {name: total[name] + row[name] for name in audit.SUMS}
                total |= {name: max(total[name], row[name]) for name in ("largest", "history")}
    return {(row["slot"], row["ds"], row["bits"]): row for row in audit.shares(totals.values())}


def test_the_figures_of_a_small_day_by_hand():
    # At 18 bits 1 and 1 + 2^18 share an index, 2 stands alone; 7 is the missing value.
    log = {FIRST: [1, 1, 1, 1 + 2**18, 2, 2, MISSING, MISSING, MISSING, MISSING]}
    rows = audited({"s_a": log}, [FIRST], bits=(18, 19))
    at_18, at_19 = rows["s_a", FIRST, 18], rows["s_a", FIRST, 19]
    assert at_18 == {
        "ds": FIRST,
        "slot": "s_a",
        "bits": 18,
        "rows": 10,
        "distinct": 4,
        "missing_share": 0.4,
        "unseen_share": None,
        "load": 3 / 2**18,
        "collision_mass": pytest.approx(0.4),
        "largest_bucket_share": 0.4,
    }
    assert at_19["collision_mass"] == 0.0
    assert at_19["load"] == 4 / 2**19


def test_unseen_is_what_no_day_of_the_window_showed():
    days = [FIRST + timedelta(days=k) for k in range(4)]
    log = {days[0]: [1, 2], days[1]: [1, 3], days[2]: [2, 3, 4, 4], days[3]: [1, 5]}
    found = {day: audited({"s": log}, days)["s", day, 18]["unseen_share"] for day in days}
    assert found == {days[0]: None, days[1]: 0.5, days[2]: 0.5, days[3]: 0.5}
    short = {day: audited({"s": log}, days, history=1)["s", day, 18]["unseen_share"] for day in days}
    assert short == {days[0]: None, days[1]: 0.5, days[2]: 0.75, days[3]: 1.0}


def test_a_day_whose_values_lie_in_other_shards_than_before_still_has_a_history():
    log = {FIRST: [8], FIRST + timedelta(days=1): [9]}  # shards 0 and 1
    assert (
        audited({"s": log}, [FIRST + timedelta(days=1)])["s", FIRST + timedelta(days=1), 18]["unseen_share"] == 1.0
    )


def test_days_together_give_what_each_gives_alone():
    random = np.random.default_rng(2)
    days = [FIRST + timedelta(days=k) for k in range(6)]
    log = {day: random.zipf(1.3, 200).clip(0, 10**6).tolist() for day in days}
    together = audited({"s": log}, days, history=2)
    for day in days:
        window = {d: log[d] for d in days if timedelta() <= day - d <= timedelta(days=2)}
        assert audited({"s": window}, [day], history=2)["s", day, 18] == together["s", day, 18]


@given(values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=60), bits=st.integers(3, 31))
def test_shards_add_up_to_a_plain_count(values, bits):
    row = audited({"s": {FIRST: values}}, [FIRST], bits=(bits, bits))["s", FIRST, bits]
    index = [value & (2**bits - 1) for value in values]
    sharing = {at for at in index if len({v for v, i in zip(values, index, strict=True) if i == at}) > 1}
    assert row["rows"] == len(values)
    assert row["distinct"] == len(set(values))
    assert row["load"] == len(set(index)) / 2**bits
    assert row["collision_mass"] == pytest.approx(sum(at in sharing for at in index) / len(index))
    assert row["largest_bucket_share"] == max(index.count(at) for at in index) / len(index)


def test_collisions_with_other_columns_are_those_of_a_shared_table_of_weights():
    random = np.random.default_rng(3)
    bits, n = 18, 40_000
    log = {
        f"s_{k}": {
            FIRST: (random.integers(-(2**31), 2**31, size).astype(np.int32)[random.integers(0, size, n)]).tolist()
        }
        for k, size in enumerate((30_000, 5_000, 300))
    }
    rows = audited(log, [FIRST], bits=(bits, bits))
    owners: dict[int, set[int]] = {}
    for values in log.values():
        for value in set(values[FIRST]):
            owners.setdefault(value & (2**bits - 1), set()).add(value)
    for slot, values in log.items():
        true = np.mean([len(owners[value & (2**bits - 1)]) > 1 for value in values[FIRST]])
        assert rows[slot, FIRST, bits]["collision_mass"] == pytest.approx(true, abs=0.02)


def test_mass_falls_with_bits_and_ends_under_one_percent():
    random = np.random.default_rng(4)
    log = {"s": {FIRST: random.integers(-(2**31), 2**31, 50_000).tolist()}}
    rows = audited(log, [FIRST], bits=(18, 28))
    mass = [rows["s", FIRST, bits]["collision_mass"] for bits in range(18, 29)]
    assert mass == sorted(mass, reverse=True)
    assert mass[0] > 0.1
    assert mass[-1] < 0.01


def test_fewer_bits_than_the_shards_are_made_by_are_refused():
    with pytest.raises(ValueError, match="audit_bits"):
        audit.audit_shard(
            table("s", 0, {FIRST: [8]}), days=[FIRST], history=7, bits=(2, 18), missing={"s": MISSING}
        )
