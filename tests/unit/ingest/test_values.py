"""Numbers, labels and text of the raw log."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from clickmill.ingest import values


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("5.", 5),
        (".5", 0.5),
        (" 5 ", 5),
        ("1e5", 1e5),
        ("1E-2", 0.01),
        ("007", 7),
    ],
)
def test_decimal_numbers(text: str, number: float) -> None:
    for column in ([text], ["1", text, "bad"]):
        found, valid = values.numbers(pa.array(column))
        at = column.index(text)
        assert (found[at], valid[at]) == (number, True)


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-Infinity", "1e400", "0x10", "1,5", "1_0", "1e", "-", ".", "x", "", "1 2"]
)
def test_what_is_no_finite_decimal_number(text: str) -> None:
    for column in ([text], ["1", text, "2"]):
        _, valid = values.numbers(pa.array(column))
        assert valid.tolist() == [item != text for item in column]


def test_missing_is_null_or_empty_and_nan_only_in_a_column_of_floats() -> None:
    assert values.missing(pa.array(["", None, "nan"])).tolist() == [True, True, False]
    assert values.missing(pa.array([1.0, None, math.nan, math.inf])).tolist() == [False, True, True, False]
    assert values.missing(pa.array([1, None])).tolist() == [False, True]


def test_labels_are_0_or_1_in_six_spellings_and_nothing_else() -> None:
    words = ["0", "1", "0.0", "1.0", "false", "true", "2", "-1", "", None, " 1", "0.5", "yes"]
    label, valid = values.labels(pa.array(words))
    assert valid.tolist() == [True] * 6 + [False] * 7
    assert label[:6].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.float64(), pa.decimal128(21, 2)])
def test_labels_in_columns_of_numbers(kind: pa.DataType) -> None:
    label, valid = values.labels(pa.array([0, 1, 2, None], pa.int64()).cast(kind))
    assert valid.tolist() == [True, True, False, False]
    assert label[:2].tolist() == [0, 1]


def test_labels_in_columns_of_booleans() -> None:
    label, valid = values.labels(pa.array([True, False, None]))
    assert (label[:2].tolist(), valid.tolist()) == ([1, 0], [True, True, False])


def test_text_of_any_column() -> None:
    assert values.text(pa.array(["a", "", None])).to_pylist() == ["a", None, None]
    assert values.text(pa.array([1, None])).to_pylist() == ["1", None]
    assert values.text(pa.array([True])).to_pylist() == ["true"]
    assert values.text(pa.array([1.5, math.nan, None])).to_pylist() == ["1.5", None, None], "missing, not a value"
    assert values.text(pa.array(["nan"])).to_pylist() == ["nan"]


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")])
def test_dates_and_times_are_no_numbers_and_no_labels(kind: pa.DataType) -> None:
    column = pa.array([0, None], pa.int32()).cast(pa.date32()).cast(kind)
    assert values.numbers(column)[1].tolist() == [False, False]
    assert values.labels(column)[1].tolist() == [False, False]
