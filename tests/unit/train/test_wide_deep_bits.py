"""Tables are as small as a slot's values allow."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill.features import audit
from clickmill.specs import Embedding
from clickmill.train.wide_deep.bits import LIMIT, bits_of, expected, groups_of

DAYS = (date(2026, 1, 1), date(2026, 1, 2))


def rows_of(values: dict[str, tuple[int, ...]], *, lowest: int = 4) -> list[dict[str, Any]]:
    """What the audit says of columns with so many values on each day, each seen equally often."""
    rng = np.random.default_rng(1)
    parts = []
    for slot, numbers in values.items():
        counted = []
        for day, number in zip(DAYS, numbers, strict=False):
            hashes = np.unique(rng.integers(-(2**31), 2**31, number).astype(np.int32))
            for shard, pairs in enumerate(audit.pack(hashes, np.ones(len(hashes), np.int64))):
                counted.append({"slot": slot, "shard": shard, "ds": day, "pairs": pairs})
        table = pa.Table.from_pylist(counted, schema=audit.COUNTS)
        for shard in range(audit.SHARDS):
            own = table.filter(pa.compute.equal(table["shard"], shard))
            figures = audit.audit_shard(own, days=DAYS, history=7, bits=(lowest, 20), missing={slot: 0})
            parts += figures.to_pylist()
    added: dict[tuple[Any, ...], dict[str, Any]] = {}
    for part in parts:
        known = added.setdefault((part["ds"], part["slot"], part["bits"]), dict.fromkeys(audit.SUMS, 0))
        for name in audit.SUMS:
            known[name] += part[name]
        known |= {name: part[name] for name in ("ds", "slot", "bits", "largest", "history")}
    return audit.shares(added.values())


def test_bits_are_the_fewest_at_which_few_impressions_collide():
    rows = rows_of({"s_few": (4,), "s_some": (100,), "s_many": (30_000,), "x_few_many": (40_000,)})
    found = bits_of(Embedding(max_bits=18), ("few", "some", "many"), rows)
    assert found["few"] < found["some"] < found["many"] == 18
    assert expected(4, found["few"]) < LIMIT  # whatever the cross's many values do in the audit's one table
    assert expected(100, found["some"]) < LIMIT


def test_bits_below_those_audited_are_by_the_number_of_values():
    audited, bare = (rows_of({"s_a": (40,), "s_b": (7,)}, lowest=lowest) for lowest in (4, 18))
    assert bits_of(Embedding(), ("a", "b"), bare) == {"a": 12, "b": 10}
    for slot, bits in bits_of(Embedding(), ("a", "b"), audited).items():
        mass = {row["bits"]: row["collision_mass"] for row in audited if row["slot"] == f"s_{slot}"}
        assert mass[bits] < 2 * LIMIT  # (the other column's few values included)
        assert bits == 8 or mass[bits - 1] >= LIMIT


def test_the_day_with_most_values_counts():
    rows = rows_of({"s_a": (50, 5000)}, lowest=18)
    assert bits_of(Embedding(), ("a",), rows)["a"] == bits_of(Embedding(), ("a",), rows_of({"s_a": (5000,)}))["a"]


def test_given_bits_stand_and_a_shared_table_holds_the_values_of_all():
    rows = rows_of({"s_a": (50,), "s_b": (50,), "s_c": (50,)}, lowest=18)
    found = bits_of(Embedding(share=(("a", "b"),)), ("a", "b", "c"), rows)
    assert found["a"] == found["b"] == found["c"] + 1
    assert bits_of(Embedding(share=(("a", "b"),), bits={"b": 17}), ("a", "b"), rows) == {"a": 17, "b": 17}
    assert bits_of(Embedding(max_bits=15), ("unknown",), rows) == {"unknown": 15}


def test_expected_collisions_are_those_of_random_hashes():
    rng, values, bits = np.random.default_rng(0), 200, 10
    shared = []
    for _ in range(300):
        _, counts = np.unique(rng.integers(0, 2**bits, values), return_counts=True)
        shared.append(counts[counts > 1].sum() / values)
    assert expected(values, bits) == pytest.approx(np.mean(shared), abs=0.01)


def test_groups_keep_the_order_of_slots():
    assert groups_of(Embedding(share=(("c", "a"),)), ("a", "b", "c")) == [("a", "c"), ("b",)]
