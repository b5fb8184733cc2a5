from __future__ import annotations

import io
import json

import numpy as np
import pytest

from clickmill.dataset import Dataset
from clickmill.errors import MissingColumnsError, NoRowsError, UsageError
from clickmill.score import raw

BASE = {
    "name": "d",
    "label": "click",
    "event_time": {"kind": "column", "column": "at"},
    "slots": ["a", "b"],
    "numbers": ["n"],
}
NEEDED = ("a", "b", "n")


def dataset(**source) -> Dataset:
    return Dataset.model_validate({**BASE, "source": {"path": "x", "format": "tsv", **source}})


WITH_HEADER = dataset(header=True)
WITHOUT = dataset(columns=["click", "at", "a", "b", "n"])


def read(text: str | bytes, data: Dataset = WITH_HEADER, chunk: int = raw.CHUNK, needed=NEEDED, **options):
    form = raw.form_of(data, needed, **options)
    data_bytes = text if isinstance(text, bytes) else text.encode()
    return list(raw.read(io.BytesIO(data_bytes), form, chunk=chunk))


def column(blocks, name: str) -> list[str | None]:
    return [value for block in blocks for value in block.columns[name].to_pylist()]


def test_columns_come_by_the_names_of_the_header_in_any_order():
    blocks = read("b\ta\tn\tat\nB1\tA1\t1\t-\nB2\t\t2\t-\n")
    assert column(blocks, "a") == ["A1", None]
    assert column(blocks, "b") == ["B1", "B2"]


def test_without_header_the_label_may_be_there_or_not():
    assert column(read("1\t-\tA\tB\t7\n", WITHOUT), "a") == ["A"]
    assert column(read("-\tA\tB\t7\n", WITHOUT), "a") == ["A"]


@pytest.mark.parametrize(
    ("text", "data", "words"),
    [
        ("a\tn\n", WITH_HEADER, r"missing columns \['b'\]; found \['a', 'n'\]"),
        ("a\tb\tn\tzip\n", WITH_HEADER, r"columns \['zip'\] are too many"),
        ("a\tb\tn\ta\n", WITH_HEADER, r"columns \['a'\] stand twice"),
        (
            "-\tA\tB\n",
            WITHOUT,
            r"first line has 3 fields; expected 5, or 4 without label 'click': missing are \['n'\]",
        ),
        ("1\t-\tA\tB\t7\t8\n", WITHOUT, "1 after 'n' are too many"),
        ("\n", WITHOUT, "missing are"),
    ],
)
def test_columns_that_are_missing_or_too_many_are_named(text, data, words):
    with pytest.raises(MissingColumnsError, match=words) as caught:
        read(text, data)
    assert caught.value.exit_code == 3


def test_extra_columns_are_let_pass_when_asked():
    assert column(read("a\tb\tn\tzip\nA\tB\t1\tZ\n", ignore_extra=True), "b") == ["B"]


def test_columns_that_the_model_does_not_eat_may_be_missing():
    assert column(read("a\nA\n", needed=("a",)), "a") == ["A"]


def test_every_line_is_a_row_or_refused_and_numbered_whatever_the_blocks():
    lines = [f"A{n}\tB\t{n}" if n % 7 else "too few" for n in range(500)]
    text = "a\tb\tn\n" + "\n".join(lines)
    whole, cut = read(text), read(text, chunk=64)
    assert len(cut) > 50
    assert column(whole, "a") == column(cut, "a") == [f"A{n}" for n in range(500) if n % 7]
    refused = [block.first_line + place for block in cut for place, _ in block.refused]
    assert refused == [n + 2 for n in range(0, 500, 7)]
    assert sum(block.lines for block in cut) == 500


def test_what_is_not_a_row_says_why():
    (block,) = read(b"a\tb\tn\nA\tB\t1\n\xff\tB\t1\n\nA\tB\n")
    assert block.refused == ((1, "invalid_utf8"), (2, "wrong_number_of_fields"), (3, "wrong_number_of_fields"))


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read():
    data = dataset(header=True, max_line_bytes=64)
    blocks = read("a\tb\tn\n" + "x" * 5000 + "\tB\t1\nA\tB\t2\n", data, chunk=100)
    assert [reason for block in blocks for _, reason in block.refused] == ["line_too_long"]
    assert column(blocks, "n") == ["2"]


@pytest.mark.parametrize("text", ["", "a\tb\tn\n", "a\tb\tn"])
def test_an_empty_stream_or_a_lone_header_is_refused(text):
    with pytest.raises(NoRowsError):
        read(text)


def test_a_byte_order_mark_and_windows_line_ends_are_let_pass():
    assert column(read(b"\xef\xbb\xbfa\tb\tn\r\nA\tB\t1\r\n"), "n") == ["1"]


def test_json_lines_may_leave_out_a_value_but_not_a_column():
    rows = [{"a": "A", "b": None}, {"b": "B", "n": 3}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    blocks = read(text, dataset(format="jsonl"))
    assert [column(blocks, name) for name in NEEDED] == [["A", None], [None, "B"], [None, "3"]]
    with pytest.raises(MissingColumnsError, match=r"missing columns \['n'\]"):
        read('{"a": 1, "b": 2}\n', dataset(format="jsonl"))
    with pytest.raises(MissingColumnsError, match=r"\['zip'\] are too many"):
        read('{"a": 1, "b": 2, "n": 3, "zip": 4}\n', dataset(format="jsonl"))


def test_the_form_can_be_another_than_the_data_sets():
    assert column(read("a,b,n\nA,B,1\n", dataset(format="delta"), format="csv"), "a") == ["A"]
    assert raw.form_of(dataset(format="delta"), NEEDED).format == "tsv"
    with pytest.raises(UsageError, match=r"'xml'.*tsv, csv, jsonl"):
        raw.form_of(WITH_HEADER, NEEDED, format="xml")


def test_values_of_rows_are_spread_over_the_lines():
    (block,) = read("a\tb\tn\nA\tB\t1\nbad\nA\tB\t2\n")
    found = raw.spread(block, np.array([0.1, 0.2]), np.nan)
    assert found[[0, 2]].tolist() == [0.1, 0.2]
    assert np.isnan(found[1])
