"""Lines become rows of text, or are refused for a named reason; nothing is mended."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.ingest.parse import Parsed, TextForm, header_names, parse

CSV = TextForm("csv", ("a", "b"), ("a", "b"), max_line_bytes=100, with_fields=True)
TSV = TextForm("tsv", ("a", "b"), ("a", "b"), max_line_bytes=100)
JSONL = TextForm("jsonl", None, ("a", "b"), max_line_bytes=100, with_fields=True)


def _rows(parsed: Parsed) -> list[tuple[str | None, ...]]:
    return list(zip(*(column.to_pylist() for column in parsed.columns.values()), strict=True))


def test_fields_are_text_and_empty_ones_are_null() -> None:
    parsed = parse("1,x\n,é\n007,\n".encode(), CSV)
    assert _rows(parsed) == [("1", "x"), (None, "é"), ("007", None)]
    assert parsed.refused == ()
    assert parsed.place.tolist() == [0, 1, 2]
    assert [field.to_pylist() for field in parsed.fields] == [["1", None, "007"], ["x", "é", None]]


def test_words_that_other_readers_take_for_null_stay_words() -> None:
    assert _rows(parse(b"NA,null\nnan,NULL\n", CSV)) == [("NA", "null"), ("nan", "NULL")]


def test_lines_end_with_newline_or_carriage_return_and_newline() -> None:
    assert _rows(parse(b"1,x\r\n2,y\n", CSV)) == [("1", "x"), ("2", "y")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1", "wrong_number_of_fields"),
        (b"1,2,3", "wrong_number_of_fields"),
        (b"", "wrong_number_of_fields"),
        (b"\xff,2", "invalid_utf8"),
        (b"\xc3,2", "invalid_utf8"),
        (b"\xed\xa0\x80,2", "invalid_utf8"),
        (b"1," + b"x" * 99, "line_too_long"),
        (b'"1,2', "bad_quoting"),
        (b'"1"x,2', "bad_quoting"),
        (b"1,2\r3,4", "stray_carriage_return"),
        (b"\r1,2", "stray_carriage_return"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_with_its_place_and_reason(line: bytes, reason: str) -> None:
    parsed = parse(b"1,x\n" + line + b"\n" + b"2,y\r\n", CSV)
    assert parsed.refused == ((1, reason),)
    assert _rows(parsed) == [("1", "x"), ("2", "y")]
    assert parsed.place.tolist() == [0, 2]
    assert parsed.lines.text(1) == line.decode("utf-8", "replace")


def test_a_line_of_just_the_allowed_length_is_read() -> None:
    assert parse(b"1," + b"x" * 98 + b"\r\n", CSV).refused == ()


def test_the_text_of_a_refused_line_is_cut_at_4096_bytes() -> None:
    parsed = parse(b"x" * 9000 + b"\n", CSV)
    assert parsed.lines.text(0) == "x" * 4096


def test_quotes_follow_rfc_4180_in_csv_and_mean_nothing_in_tsv() -> None:
    assert _rows(parse(b'"1,2","say ""hi"""\n"",x\n', CSV)) == [("1,2", 'say "hi"'), (None, "x")]
    assert _rows(parse(b'"1\tx"\n', TSV)) == [('"1', 'x"')]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=6)] * 2),
        min_size=1,
        max_size=8,
    )
)
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str]]) -> None:
    class Lines(list[str]):
        write = list.append

    out = Lines()
    csv.writer(out, lineterminator="\n").writerows(rows)
    parsed = parse("".join(out).encode(), CSV)
    assert _rows(parsed) == [(a or None, b or None) for a, b in rows]


def test_json_lines_keep_the_spelling_of_numbers() -> None:
    lines = [{"a": "x", "b": None}, {"b": True}, {"a": {"k": [1]}, "z": 1}]
    data = b'{"a": 1.50, "b": 10000000000000000000001}\n' + b"".join(json.dumps(x).encode() + b"\n" for x in lines)
    parsed = parse(data, JSONL)
    assert _rows(parsed) == [
        ("1.50", "10000000000000000000001"),
        ("x", None),
        (None, "true"),
        ('{"k":["1"]}', None),
    ]
    assert parsed.fields[0].to_pylist()[1] == "x\x1f"


@pytest.mark.parametrize("line", [b"", b"[1]", b'{"a": 1', b"1", b'{"a": "\\ud800"}', b"[" * 90])
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    assert parse(line + b"\n" + b'{"a": 1}\n', JSONL).refused == ((0, "bad_json"),)
    assert parse(b"\xff\n", JSONL).refused == ((0, "invalid_utf8"),)


def test_a_block_in_which_no_line_fits_has_no_rows() -> None:
    parsed = parse(b"1\n2\n", CSV)
    assert _rows(parsed) == []
    assert parsed.place.dtype == np.int64
    assert len(parsed.refused) == 2


def test_only_the_wanted_columns_are_returned() -> None:
    form = TextForm("csv", ("a", "b", ""), ("b",), with_fields=False)
    parsed = parse(b"1,2,3\n", form)
    assert list(parsed.columns) == ["b"]
    assert parsed.fields == ()


def test_a_byte_order_mark_within_a_file_belongs_to_its_value_wherever_blocks_begin() -> None:
    form = TextForm("csv", ("a", "b"), ("a", "b"))
    for data in (b"\xef\xbb\xbfx,1\n", b"y,2\n\xef\xbb\xbfx,1\n"):
        assert parse(data, form).columns["a"][-1].as_py() == "\ufeffx"


def test_a_quoted_value_may_be_as_long_as_a_line() -> None:
    form = TextForm("csv", ("a", "b"), ("a", "b"), max_line_bytes=2**20)
    parsed = parse(b'"' + b"x" * 200_000 + b'",1\n', form)
    assert parsed.refused == ()
    assert len(parsed.columns["a"][0].as_py()) == 200_000


def test_a_header_is_read_without_its_byte_order_mark() -> None:
    assert header_names(b'\xef\xbb\xbfid,"a,b",c', "csv") == ("id", "a,b", "c")
    assert header_names(b'id\t"a', "tsv") == ("id", '"a')
