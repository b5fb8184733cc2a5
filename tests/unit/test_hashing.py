"""The hashes against two oracles without Spark: mmh3, and the golden file that mmh3 made."""

from __future__ import annotations

import json
import runpy
import struct
from pathlib import Path
from typing import Any

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clickmill import hashing

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TEXT = st.text(st.characters(codec="utf-8"), max_size=70)
SLOT = st.from_regex(r"[A-Za-z0-9_]{1,9}", fullmatch=True)


@pytest.fixture(scope="module")
def golden() -> dict[str, list[dict[str, Any]]]:
    vectors: dict[str, list[dict[str, Any]]] = json.loads((GOLDEN / "hashing.json").read_text(encoding="utf-8"))
    return vectors


def cross_of(parts: list[tuple[str, str | None]]) -> int:
    hashed = [(slot, hashing.hash_slot(slot, [value])) for slot, value in parts]
    return int(hashing.hash_cross(hashing.cross_name([slot for slot, _ in parts]), hashed)[0])


# --- the golden file --------------------------------------------------------------------------


def test_the_file_is_what_mmh3_says_and_covers_what_it_must(golden):
    assert runpy.run_path(str(GOLDEN / "make.py"))["vectors"]() == golden
    slots = [row for row in golden["slots"] if row["value"] is not None]
    assert {len(row["value"]) for row in slots} >= set(range(71))
    sizes = {len(f"{row['slot']}={row['value']}".encode()) % 4 for row in slots if not row["value"].isascii()}
    assert sizes == {0, 1, 2, 3}
    assert {
        len(key) % 16
        for key in (row["id"] and "".join(f or "" for f in row["fields"]) for row in golden["event_ids"])
    } == set(range(16))
    assert {len(row["parts"]) for row in golden["crosses"]} == {2, 3, 4}
    assert sum(map(len, golden.values())) >= 200


def test_slots_equal_the_file(golden):
    for row in golden["slots"]:
        (h,) = hashing.hash_slot(row["slot"], [row["value"]])
        assert h == row["hash"], row
        assert hashing.to_index(np.array([h]), 18)[0] == row["index_18"]
        assert hashing.to_index(np.array([h]), 32)[0] == row["index_32"]


def test_crosses_equal_the_file(golden):
    for row in golden["crosses"]:
        assert hashing.cross_name([slot for slot, _ in row["parts"]]) == row["name"]
        assert cross_of(row["parts"]) == row["hash"], row


def test_number_buckets_equal_the_file(golden):
    rows = golden["numbers"]
    values = pa.array([row["value"] for row in rows], pa.float64())
    assert hashing.bucket(values, rows[0]["edges"]).tolist() == [row["bucket"] for row in rows]
    assert hashing.hash_number("I1", values, rows[0]["edges"]).tolist() == [row["hash"] for row in rows]


def test_keyed_uniforms_equal_the_file(golden):
    for row in golden["uniforms"]:
        assert hashing.keyed_uniform(row["purpose"], row["seed"], [row["key"]])[0] == row["uniform"], row


def test_event_ids_equal_the_file(golden):
    for row in golden["event_ids"]:
        assert hashing.event_ids([pa.array([field], pa.string()) for field in row["fields"]]).to_pylist() == [
            row["id"]
        ]


# --- any text, against mmh3 -------------------------------------------------------------------


@given(slot=SLOT, values=st.lists(st.none() | TEXT, max_size=8))
def test_a_slot_equals_mmh3_and_spark(slot, values):
    expected = [mmh3.hash(f"{slot}={value or ''}", 42) for value in values]
    assert hashing.hash_slot(slot, values).tolist() == expected


@given(purpose=SLOT, seed=st.integers(0, 2**32 - 1), keys=st.lists(TEXT, max_size=8))
def test_a_keyed_uniform_equals_mmh3(purpose, seed, keys):
    words = [mmh3.hash64(f"{purpose}\x1f{key}", seed, signed=False)[0] for key in keys]
    assert hashing.keyed_uniform(purpose, seed, keys).tolist() == [(word >> 11) / 2**53 for word in words]


@given(rows=st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=6))
def test_an_event_id_equals_mmh3_in_both_forms(rows):
    ids = hashing.event_ids([pa.array(field) for field in zip(*rows, strict=True)]).to_pylist()
    texts = ["\x1f".join(row) for row in rows]
    assert ids == [mmh3.hash_bytes(text, 42).hex() for text in texts]
    assert ids == [mmh3.hash128(text, 42).to_bytes(16, "little").hex() for text in texts]


@given(values=st.lists(st.none() | TEXT, min_size=1, max_size=20), data=st.data())
def test_every_arrow_form_of_the_same_values_hashes_alike(values, data):
    start = data.draw(st.integers(0, len(values)))
    count = data.draw(st.integers(0, len(values) - start))
    expected = hashing.hash_slot("s", values[start : start + count])
    whole = pa.array(values, pa.string())
    forms = [
        whole,
        whole.cast(pa.large_string()),
        whole.dictionary_encode(),
        pa.chunked_array([whole, whole]).slice(0, len(values)),
        pa.chunked_array([whole[:start], whole[start:]]),
    ]
    for form in forms:
        assert hashing.hash_slot("s", form.slice(start, count)).tolist() == expected.tolist(), form.type


def test_columns_without_rows_or_without_values_are_fine():
    assert hashing.hash_slot("s", []).tolist() == []
    assert hashing.hash_slot("s", pa.array([], pa.string())).tolist() == []
    assert hashing.hash_slot("s", pa.chunked_array([], pa.string())).tolist() == []
    assert hashing.hash_slot("s", pa.nulls(3)).tolist() == [hashing.missing_hash("s")] * 3
    assert hashing.hash_slot("s", pa.nulls(2, pa.string())).tolist() == [hashing.missing_hash("s")] * 2
    assert hashing.event_ids([pa.array([], pa.string())]).to_pylist() == []
    assert hashing.hash_number("n", pa.nulls(0, pa.float64()), [1.0]).tolist() == []


def test_values_that_are_not_text_are_refused():
    with pytest.raises(TypeError, match="int64"):
        hashing.hash_slot("s", pa.array([1, 2]))
    with pytest.raises(ValueError, match="field"):
        hashing.event_ids([])
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match="seed"):
            hashing.keyed_uniform("sample", seed, ["a"])


# --- crosses ----------------------------------------------------------------------------------

PART = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)


@given(values=st.lists(PART, min_size=2, max_size=4))
def test_a_cross_equals_mmh3_of_its_parts_hashes(values):
    parts = [(f"C{n}", value) for n, value in enumerate(values)]
    packed = b"".join(struct.pack("<i", mmh3.hash(f"{slot}={value}", 42)) for slot, value in parts)
    assert cross_of(parts) == mmh3.hash(packed, 42)


@given(a=PART, b=PART)
@example(a="x", b="x")
def test_the_order_of_a_cross_matters(a, b):
    assert cross_of([("C1", a), ("C2", b)]) != cross_of([("C2", b), ("C1", a)])


@given(text=st.text("ab=×\x1f_", min_size=3, max_size=8), data=st.data())
def test_separators_inside_values_cannot_confuse_a_cross(text, data):
    """Two ways to cut one text into two parts are two crosses, whatever the text is made of."""
    here, there = data.draw(st.lists(st.integers(1, len(text) - 1), min_size=2, max_size=2, unique=True))
    cuts = [cross_of([("C1", text[:at]), ("C2", text[at:])]) for at in (here, there)]
    assert cuts[0] != cuts[1]


@given(values=st.lists(st.none() | st.just("") | PART, min_size=2, max_size=4))
def test_a_cross_is_missing_where_a_part_is(values):
    parts = [(f"C{n}", value) for n, value in enumerate(values)]
    name = "×".join(slot for slot, _ in parts)
    assert (cross_of(parts) == hashing.missing_hash(name)) == (not all(values))


def test_a_cross_needs_two_parts_of_equal_length():
    one = hashing.hash_slot("a", ["x"])
    with pytest.raises(ValueError, match="two"):
        hashing.hash_cross("a", [("a", one)])
    with pytest.raises(ValueError, match="rows"):
        hashing.hash_cross("a×b", [("a", one), ("b", hashing.hash_slot("b", ["x", "y"]))])


# --- numbers, indices, uniforms ---------------------------------------------------------------


@given(values=st.lists(st.floats(allow_infinity=True), max_size=20))
def test_a_bucket_is_how_many_edges_are_at_most_x(values):
    edges = [-10.0, -0.0, 0.5, 3.0, 1e9]
    expected = [-1 if x != x else sum(edge <= x for edge in edges) for x in values]
    assert hashing.bucket(np.array(values), edges).tolist() == expected
    assert hashing.bucket(pa.array(values, pa.float64()), edges).tolist() == expected


def test_a_missing_number_is_the_slots_missing_value():
    found = hashing.hash_number("I1", pa.array([None, 0.0, float("nan")], pa.float64()), [1.0])
    assert found.tolist() == [
        hashing.missing_hash("I1"),
        hashing.hash_slot("I1", ["b0"])[0],
        hashing.missing_hash("I1"),
    ]


@given(h=st.integers(-(2**31), 2**31 - 1), bits=st.integers(1, 32))
def test_an_index_is_the_lowest_bits_of_the_hash(h, bits):
    index = hashing.to_index(np.array([h], np.int32), bits)
    assert index.dtype == np.int32
    assert index[0] == (h & (2**bits - 1) if bits < 32 else h)


@pytest.mark.parametrize("bits", [0, 33])
def test_bits_outside_1_to_32_are_refused(bits):
    with pytest.raises(ValueError, match=str(bits)):
        hashing.to_index(np.zeros(1, np.int32), bits)


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_uniforms_are_uniform_and_the_purposes_independent(seed):
    n = 20_000
    keys = [f"{seed}-{k}" for k in range(n)]
    draws = {purpose: hashing.keyed_uniform(purpose, seed, keys) for purpose in ("sample", "fold", "boot")}
    for uniform in draws.values():
        assert uniform.min() >= 0.0
        assert uniform.max() < 1.0
        distance = np.abs(np.sort(uniform) - (np.arange(n) + 0.5) / n).max()
        assert distance < 2.5 / np.sqrt(n)  # Kolmogorov-Smirnov: passed by chance with 1 - 7e-6
    corr = np.corrcoef(list(draws.values()))
    assert np.abs(corr[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(n)
