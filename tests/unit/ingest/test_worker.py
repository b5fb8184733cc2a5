"""The passes over a raw log, without Spark: what is read, counted, refused and written, and for what reason."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill import hashing
from clickmill.dataset import Dataset
from clickmill.ingest import parse, splits, worker
from clickmill.ingest.worker import Plan

DAY, NEXT = date(2026, 1, 1), date(2026, 1, 2)


def dataset(**changes: Any) -> Dataset:
    source = {"path": "log", "format": "csv", "header": True, **changes.pop("source", {})}
    base: dict[str, Any] = {
        "name": "mine",
        "label": "click",
        "event_time": {"kind": "column", "column": "at"},
        "slots": ["site"],
        "numbers": ["price"],
        "source": source,
    }
    return Dataset.model_validate({**base, **changes})


def plan(data: Dataset, *days: date) -> Plan:
    return Plan(data, days or (DAY,), (days or (DAY,))[-1], "the log")


def text_splits(path: Path, data: Dataset) -> pa.RecordBatch:
    """What the driver makes of a file, a folder, or a path with {ds}."""
    files = splits.find(str(path), days=(DAY, NEXT))
    planned = list(splits.plan(files, split_bytes=data.source.split_bytes))
    bare = pa.RecordBatch.from_pylist([split._asdict() for split in planned], worker.SPLITS)
    scanned = [row for batch in worker.scan(iter([bare])) for row in batch.to_pylist()]
    lines = {(row["file"], row["start"]): row["lines"] for row in scanned}
    numbered = splits.number(planned, lines, header=data.source.header)
    if data.source.header:
        for row in numbered:
            row["columns"] = list(parse.header_names(splits.first_line(row["path"]), data.source.format))
    return pa.RecordBatch.from_pylist(numbered, worker.SPLITS)


def read(batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def passes(
    batch: pa.RecordBatch, plan: Plan
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """keys, rejects, rows; and that they agree with each other."""
    keys = read(worker.keys(iter([batch]), plan=plan))
    rejects = read(worker.rejects(iter([batch]), plan=plan, candidates=False))
    rows = read(worker.rows(iter([batch]), plan=plan, ordered=True))
    assert Counter(k["reason"] for k in keys if k["reason"]) == Counter(r["reason"] for r in rejects)
    assert Counter(k["day"] for k in keys if k["day"]) == Counter(r["ds"] for r in rows)
    return keys, rejects, rows


def write(path: Path, *lines: str, header: str = "at,click,site,price") -> Path:
    path.write_text("".join(f"{line}\n" for line in ([header] if header else []) + list(lines)), encoding="utf-8")
    return path


def test_an_empty_partition_yields_nothing() -> None:
    p = plan(dataset())
    assert list(worker.scan(iter([]))) == []
    assert list(worker.keys(iter([]), plan=p)) == []
    assert list(worker.rejects(iter([]), plan=p, candidates=True)) == []
    assert list(worker.rows(iter([]), plan=p, ordered=True)) == []
    empty = pa.RecordBatch.from_pylist([], worker.SPLITS)
    assert read(worker.rows(iter([empty]), plan=p, ordered=False)) == []


def test_rows_are_typed_and_timed(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "2026-01-01 12:00,1,é,2.5", "2026-01-01 13:00,0,,")
    p = plan(dataset())
    (first, second) = read(worker.rows(iter([text_splits(path, p.dataset)]), plan=p, ordered=False))
    ids = hashing.event_ids([pa.array(["2026-01-01 12:00"]), pa.array(["1"]), pa.array(["é"]), pa.array(["2.5"])])
    assert first == {
        "event_id": f"{ids[0]}-0",
        "event_time": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "label": 1,
        "site": "é",
        "price": 2.5,
        "ds": DAY,
    }
    assert (second["site"], second["price"], second["label"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2026-01-01,1,a", "wrong_number_of_fields"),
        ("2026-01-01,1,a,1,1", "wrong_number_of_fields"),
        ("2026-01-01,2,a,1", "bad_label"),
        ("2026-01-01,,a,1", "bad_label"),
        ("2026-01-01,1,a,cheap", "bad_number:price"),
        ("2026-01-01,1,a,nan", "bad_number:price"),
        ("2026-01-01,1,a,inf", "bad_number:price"),
        ("yesterday,1,a,1", "bad_time"),
        (",1,a,1", "bad_time"),
        ("2026-01-01,1," + "a" * 200 + ",1", "line_too_long"),
        ('2026-01-01,1,"a,1', "bad_quoting"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_with_file_line_reason_and_text(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = write(tmp_path / "log.csv", "2026-01-01,1,a,1", line, "2026-01-01,0,a,1")
    p = plan(dataset(source={"max_line_bytes": 100}))
    keys, rejects, rows = passes(text_splits(path, p.dataset), p)
    (found,) = rejects
    assert (found["source"], found["line"], found["reason"], found["text"]) == (str(path), 3, reason, line)
    assert found["ds"] == DAY
    assert (len(keys), len(rows)) == (3, 2)


def test_invalid_utf8_is_refused_and_shown_with_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"at,click,site,price\n2026-01-01,1,\xff\xfe,1\n2026-01-01,1,b,1")
    p = plan(dataset())
    _, (found,), rows = passes(text_splits(path, p.dataset), p)
    assert (found["line"], found["reason"], found["text"]) == (2, "invalid_utf8", "2026-01-01,1,��,1")
    assert [row["site"] for row in rows] == ["b"]


def test_further_labels_may_be_missing_but_not_wrong(tmp_path: Path) -> None:
    lines = ["2026-01-01,1,a,1,1", "2026-01-01,0,a,1,", "2026-01-01,0,a,1,maybe"]
    path = write(tmp_path / "log.csv", *lines, header="at,click,site,price,bought")
    p = plan(dataset(labels={"conversion": "bought"}))
    _, (found,), rows = passes(text_splits(path, p.dataset), p)
    assert found["reason"] == "bad_label:conversion"
    assert [row["label_conversion"] for row in rows] == [1, None]


def test_the_truth_of_simulated_logs_is_passed_on_and_must_be_a_probability(tmp_path: Path) -> None:
    lines = [f"2026-01-01,1,a,1,{p}" for p in ("0.25", "1.5", "", "-0.1")]
    path = write(tmp_path / "log.csv", *lines, header="at,click,site,price,truth")
    p = plan(dataset(p_true="truth"))
    _, rejects, rows = passes(text_splits(path, p.dataset), p)
    assert [row["p_true"] for row in rows] == [0.25]
    assert {found["reason"] for found in rejects} == {"bad_number:truth"}


def test_an_own_key_is_kept_and_must_be_there(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv", "2026-01-01,1,a,1,k7", "2026-01-01,1,a,1,", header="at,click,site,price,key"
    )
    p = plan(dataset(event_id="key"))
    batch = text_splits(path, p.dataset)
    _, (found,), _ = passes(batch, p)
    assert found["reason"] == "missing_event_id"
    assert [row["event_id"] for row in read(worker.rows(iter([batch]), plan=p, ordered=False))] == ["k7"]


def test_rows_of_other_days_are_counted_but_not_written(tmp_path: Path) -> None:
    lines = ["2026-01-01T23:59:59,1,a,1", "2026-01-02T00:00:00,1,a,1", "2025-12-31,1,a,1", "2026-01-03,9,a,1"]
    p = plan(dataset())
    keys, rejects, rows = passes(text_splits(write(tmp_path / "log.csv", *lines), p.dataset), p)
    assert [row["ds"] for row in rows] == [DAY]
    other = [k for k in keys if k["day"] is None and k["reason"] is None]
    assert sorted(k["event_day"] for k in other) == [date(2025, 12, 31), NEXT]
    assert len(keys) == len(rows) + len(rejects) + len(other)


def test_local_days_are_days_of_utc(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv", "2026-01-01 00:30,1,a,1", "2026-01-01 01:00,1,a,1", "2026-01-02 00:30,1,a,1"
    )
    time = {"kind": "column", "column": "at", "timezone": "Europe/Berlin"}
    p = plan(dataset(event_time=time))
    _, _, rows = passes(text_splits(path, p.dataset), p)
    assert [row["event_time"].hour for row in rows] == [0, 23]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("header", [True, False])
def test_endings_marks_headers_and_gzip_change_nothing(
    tmp_path: Path, ending: str, last: bool, bom: bytes, zipped: bool, header: bool
) -> None:
    lines = ["at,click,site,price"] * header + ["2026-01-01,1,ü,1", "2026-01-01,x,a,1", '2026-01-01,0,"b,""c",3']
    data = bom + (ending.join(lines) + (ending if last else "")).encode()
    path = tmp_path / ("log.csv.gz" if zipped else "log.csv")
    path.write_bytes(gzip.compress(data) if zipped else data)
    columns = None if header else ["at", "click", "site", "price"]
    p = plan(dataset(source={"header": header, "columns": columns}))
    _, (found,), rows = passes(text_splits(path, p.dataset), p)
    assert [(row["label"], row["site"], row["price"]) for row in rows] == [(1, "ü", 1.0), (0, 'b,"c', 3.0)]
    assert (found["line"], found["text"]) == (2 + header, "2026-01-01,x,a,1")


@pytest.mark.parametrize("split_bytes", [1, 40, 150, 300])
def test_splits_of_any_size_give_the_same_rows_and_line_numbers(tmp_path: Path, split_bytes: int) -> None:
    lines = [f"2026-01-01,{n % 2 if n % 7 else 'x'},s{n % 5},{n}" for n in range(30)]
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder / "a.csv", *lines[:20])
    write(folder / "b.csv", *lines[20:])
    whole, small = plan(dataset()), plan(dataset(source={"split_bytes": split_bytes}))
    one = text_splits(folder, whole.dataset)
    many = text_splits(folder, small.dataset)
    assert one.num_rows == 2
    assert many.num_rows > 2
    assert passes(one, whole) == passes(many, small)
    bad = [n for n in range(30) if n % 7 == 0]
    found = passes(many, small)[1]
    assert [row["line"] for row in found] == [2 + n - 20 * (n >= 20) for n in bad]


def test_each_file_has_its_own_order_of_columns(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder / "a.csv", "2026-01-01,1,a,1")
    write(folder / "b.csv", "2,b,0,2026-01-01,more", header="price,site,click,at,new")
    p = plan(dataset())
    _, _, rows = passes(text_splits(folder, p.dataset), p)
    assert [(row["site"], row["price"], row["label"]) for row in rows] == [("a", 1.0, 1), ("b", 2.0, 0)]


def test_row_order_runs_over_all_files_and_a_refused_line_keeps_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    header = "click,site,price"
    write(folder / "a.csv", "1,a,1", "x,a,1", "0,a,2", header=header)
    write(folder / "b.csv", "1,a,3", "0,a,4", header=header)
    order = {"kind": "row_order", "rows_per_day": 4, "first_day": DAY}
    for split_bytes in (1, 12, 10_000):
        p = plan(dataset(event_time=order, source={"split_bytes": split_bytes}), DAY, NEXT)
        _, (found,), rows = passes(text_splits(folder, p.dataset), p)
        assert [(row["ds"], row["event_time"].hour, row["price"]) for row in rows] == [
            (DAY, 0, 1.0),
            (DAY, 12, 2.0),
            (DAY, 18, 3.0),
            (NEXT, 0, 4.0),
        ]
        assert found["line"] == 3


def test_files_of_a_day_without_times_fill_that_day_and_keep_their_rejects(tmp_path: Path) -> None:
    header = "click,site,price"
    write(tmp_path / "2026-01-01-a.csv", "1,a,1", "0,a,2", header=header)
    write(tmp_path / "2026-01-01-b.csv", "1,a,3", "x,a,4", header=header)
    write(tmp_path / "2026-01-02.csv", "1,a,5", "0,a,6", header=header)
    data = dataset(event_time={"kind": "row_order"}, source={"path": "{ds}*"})
    p = plan(data, DAY, NEXT)
    _, (found,), rows = passes(text_splits(tmp_path / "{ds}*", data), p)
    assert [(row["ds"], row["event_time"].hour, row["price"]) for row in rows] == [
        (DAY, 0, 1.0),
        (DAY, 6, 2.0),
        (DAY, 12, 3.0),
        (NEXT, 0, 5.0),
        (NEXT, 12, 6.0),
    ]
    assert found["ds"] == DAY


def test_row_order_by_a_column_needs_a_whole_number(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv", "5,1,a,1", "4,0,a,1", "-1,0,a,1", "x,0,a,1", header="place,click,site,price"
    )
    order = {"kind": "row_order", "column": "place", "rows_per_day": 5, "first_day": DAY}
    p = plan(dataset(event_time=order), DAY, NEXT)
    _, rejects, rows = passes(text_splits(path, p.dataset), p)
    assert [row["ds"] for row in rows] == [NEXT, DAY]
    assert [found["reason"] for found in rejects] == ["bad_time", "bad_time"]


def test_equal_rows_have_equal_keys_and_their_order(tmp_path: Path) -> None:
    same = "2026-01-01,1,a,1"
    p = plan(dataset(source={"split_bytes": 20}))
    keys, _, rows = passes(text_splits(write(tmp_path / "log.csv", same, "2026-01-01,1,a,2", same), p.dataset), p)
    assert (keys[0]["high"], keys[0]["low"]) == (keys[2]["high"], keys[2]["low"])
    assert (keys[0]["high"], keys[0]["low"]) != (keys[1]["high"], keys[1]["low"])
    assert rows[0]["event_id"] == rows[2]["event_id"]
    assert [(row["__high"], row["__low"]) for row in rows] == [(0, 2), (0, 3), (0, 4)]


def test_keys_are_the_128_bits_of_the_hash(tmp_path: Path) -> None:
    p = plan(dataset())
    lines = ["2026-01-01,1,a,1", "2026-01-01,x,a,1", "2026-01-01,0,b,"]
    batch = text_splits(write(tmp_path / "log.csv", *lines), p.dataset)
    keys = [k for k in read(worker.keys(iter([batch]), plan=p)) if k["day"]]
    rows = read(worker.rows(iter([batch]), plan=p, ordered=True))
    mask = 2**64 - 1
    assert [f"{k['high'] & mask:016x}{k['low'] & mask:016x}" for k in keys] == [row["event_id"] for row in rows]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"at": "2026-01-01T05:00:00Z", "click": 1, "site": 7, "price": 1.5},
        {"click": True, "at": "2026-01-01"},
        {"at": "2026-01-01", "click": 0, "price": "x"},
    ]
    text = [json.dumps(line) for line in lines] + ["{"]
    path = write(tmp_path / "log.jsonl", *text, header="")
    p = plan(dataset(source={"format": "jsonl", "header": False}))
    _, rejects, rows = passes(text_splits(path, p.dataset), p)
    assert [(row["label"], row["site"], row["price"]) for row in rows] == [(1, "7", 1.5), (1, None, None)]
    assert sorted((found["line"], found["reason"]) for found in rejects) == [
        (3, "bad_number:price"),
        (4, "bad_json"),
    ]


def test_batches_of_a_table_are_checked_alike() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "at": pa.array([datetime(2026, 1, 1, 5), datetime(2026, 1, 2), None, datetime(2026, 1, 1)]),
            "click": pa.array([1, 1, 1, 2], pa.int64()),
            "site": pa.array([5, None, 5, 5], pa.int32()),
            "price": pa.array([np.nan, 1.0, 1.0, 1.0]),
            "more": pa.array(["x", "y", "z", "é"]),
        }
    )
    p = plan(dataset(source={"format": "delta", "header": False}))
    keys, rejects, (row,) = passes(batch, p)
    assert (row["site"], row["price"], row["ds"]) == ("5", None, DAY)
    assert [(found["reason"], found["source"], found["line"]) for found in rejects] == [
        ("bad_time", "the log", None),
        ("bad_label", "the log", None),
    ]
    assert json.loads(rejects[1]["text"])["more"] == "é"
    assert len(keys) == 4


def test_candidates_are_good_rows_of_the_days_asked_for(tmp_path: Path) -> None:
    lines = ["2026-01-01,1,a,1,k", "2026-01-02,1,a,1,k", "2026-01-01,x,a,1,k"]
    p = plan(dataset(event_id="key"))
    batch = text_splits(write(tmp_path / "log.csv", *lines, header="at,click,site,price,key"), p.dataset)
    found = read(worker.rejects(iter([batch]), plan=p, candidates=True))
    (good,) = [row for row in found if row["reason"] is None]
    assert (good["line"], good["event_id"], good["event_day"], good["text"]) == (2, "k", DAY, lines[0])


def test_candidates_may_be_only_such_rows_whose_key_occurs_again(tmp_path: Path) -> None:
    lines = ["2026-01-01,1,a,1,k", "2026-01-01,1,a,1,l", "2026-01-01,x,a,1,m", "2026-01-01,0,b,1,k"]
    p = plan(dataset(event_id="key"))
    batch = text_splits(write(tmp_path / "log.csv", *lines, header="at,click,site,price,key"), p.dataset)
    again = Counter(row["high"] for row in read(worker.keys(iter([batch]), plan=p)) if row["day"])
    among = np.array([high for high, times in again.items() if times > 1])
    found = read(worker.rejects(iter([batch]), plan=p, candidates=True, among=among))
    assert [(row["line"], row["reason"]) for row in found] == [(4, "bad_label"), (2, None), (5, None)]


def test_what_another_day_s_file_refuses_is_that_day_s_to_tell(tmp_path: Path) -> None:
    """East of Greenwich the first hours of a local day belong to the UTC day before it."""
    lines = {
        DAY: ["2026-01-01 12:00,1,a,1,k", "2026-01-01,2,a,1,l"],
        NEXT: ["2026-01-02 00:30,1,a,1,k", "x", "y,1,a,1,m"],
    }
    for day, own in lines.items():
        write(tmp_path / f"log-{day}.csv", *own, header="at,click,site,price,key")
    time = {"kind": "column", "column": "at", "timezone": "Europe/Berlin"}
    p = plan(dataset(event_time=time, event_id="key"))
    _, rejects, rows = passes(text_splits(tmp_path / "log-{ds}.csv", p.dataset), p)
    assert [(row["reason"], row["ds"]) for row in rejects] == [("bad_label", DAY)]
    assert [row["event_time"].hour for row in rows] == [11, 23]
    batch = text_splits(tmp_path / "log-{ds}.csv", p.dataset)
    good = [r for r in read(worker.rejects(iter([batch]), plan=p, candidates=True)) if r["reason"] is None]
    assert [row["ds"] for row in good] == [DAY, DAY]
