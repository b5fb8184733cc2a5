"""Where a network's rows lie."""

from __future__ import annotations

from typing import Any

import pytest

from clickmill.dataset import Dataset
from clickmill.errors import ConfigError
from clickmill.nets.layout import Layout, layout_of
from clickmill.specs import WideDeepSpec

BITS = {"a": 4, "b": 6, "c": 32, "d": 5}


def dataset() -> Dataset:
    return Dataset.model_validate(
        {
            "name": "d",
            "source": {"path": "x", "format": "parquet"},
            "label": "y",
            "event_time": {"kind": "column", "column": "t"},
            "slots": ["a", "b", "c", "d"],
            "numbers": ["p", "q"],
            "crosses": [["a", "b"], ["c", "p"]],
        }
    )


def layout(**spec: Any) -> Layout:
    return layout_of(WideDeepSpec.model_validate(spec), dataset(), BITS)


def test_the_wide_part_eats_slots_buckets_and_crosses_and_the_deep_part_slots_and_numbers() -> None:
    found = layout()
    assert found.slots == ("s_a", "s_b", "s_c", "s_d")
    assert found.numbers == ("n_p", "n_q")
    assert found.wide == ("s_a", "s_b", "s_c", "s_d", "s_p", "s_q", "x_a_b", "x_c_p")
    assert found.whole == found.wide
    assert found.width == 4 * 16 + 2 * 2


@pytest.mark.parametrize("arch", ["deep", "dcn_v2"])
def test_without_a_wide_part_only_the_slots_are_read(arch: str) -> None:
    found = layout(arch=arch)
    assert found.wide == found.wide_places == ()
    assert found.whole == found.slots


def test_a_column_that_both_parts_eat_is_read_once() -> None:
    found = layout(columns={"slots": ["d", "b"], "crosses": [["a", "b"]], "numbers": []})
    assert found.slots == ("s_b", "s_d")
    assert found.whole == ("s_b", "s_d", "x_a_b")
    assert [found.whole[place] for place in found.wide_places] == list(found.wide)


def test_rows_of_a_width_lie_in_one_table_one_slot_after_the_other() -> None:
    narrow, wide = layout(embedding={"dim": 8, "dims": {"b": 4, "d": 4}}).tables
    assert (narrow.dim, narrow.rows, narrow.slots) == (4, 2**6 + 2**5, (1, 3))
    assert narrow.offset == (0, 2**6)
    assert narrow.mask == (2**6 - 1, 2**5 - 1)
    assert narrow.column == (8, 8 + 4 + 8)
    assert (wide.rows, wide.offset, wide.mask) == (2**4 + 2**32, (0, 2**4), (15, 2**32 - 1))


def test_slots_that_share_have_the_same_rows_and_the_most_bits_among_them() -> None:
    (table,) = layout(embedding={"share": [["d", "a"]], "rows_per_value": 2}).tables
    assert table.offset == (0, 2**5, 2**5 + 2**6, 0)
    assert table.mask[0] == table.mask[3] == 2**5 - 1
    assert table.group[0] == table.group[3]
    assert table.rows == 2**5 + 2**6 + 2**32


def test_slots_that_share_must_have_one_width() -> None:
    with pytest.raises(ConfigError, match=r"embedding.dims.*'a': 16, 'b': 4"):
        layout(embedding={"share": [["a", "b"]], "dims": {"b": 4}})


def test_nothing_to_eat_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one slot or number"):
        layout(columns={"slots": [], "numbers": []})


def test_it_comes_back_from_json_as_it_was() -> None:
    found = layout(embedding={"share": [["a", "d"]], "dims": {"c": 2}})
    assert Layout.from_json(found.to_json()) == found


def test_its_memory_is_that_of_weights_and_state() -> None:
    found = layout(columns={"slots": ["a"]}, wide_bits=10)
    rows = 2**4
    assert found.bytes() == 4 * (rows * (16 + 2) + 4 * 2**10)  # state and mark of a row; weight, z, n, mark
    assert found.bytes("adam") - found.bytes() == 4 * rows * 16
    assert layout(columns={"slots": ["a"]}, arch="deep").bytes() == 4 * rows * (16 + 2)
