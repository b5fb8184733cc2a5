"""Workers write a table's files, the driver commits them: what is in the table, what is refused."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from clickmill import local_delta, writer
from clickmill.errors import SchemaError
from clickmill.schema import TABLES

DAYS = (date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3))
RAW_LOG = TABLES["raw_log"]


def log(*days: date, first: int = 0, **extra: pa.Array) -> pa.RecordBatch:
    """A row for each of the days, in this order."""
    return pa.RecordBatch.from_pydict(
        {
            "event_id": [f"e{first + k}" for k in range(len(days))],
            "time": pa.array([datetime(d.year, d.month, d.day, 5, tzinfo=UTC) for d in days]),
            "click": pa.array([k % 2 for k in range(len(days))], pa.int8()),
            "p_true": [0.5] * len(days),
            "ds": list(days),
            **extra,
        }
    )


def written(folder: Path, *batches: pa.RecordBatch) -> list[dict[str, object]]:
    told = writer.files(iter(batches), make=writer.as_they_are, folder=str(folder), table=RAW_LOG)
    return [row for batch in told for row in batch.to_pylist()]


def commit(folder: Path, files: list[dict[str, object]], batch: pa.RecordBatch, *days: date) -> int:
    local_delta.create(str(folder), RAW_LOG)
    replace = {"ds": [str(day) for day in days]}
    return local_delta.commit(str(folder), RAW_LOG, files, batch.schema, replace=replace, metadata={"run_id": "r"})


def test_no_batches_no_files(tmp_path: Path) -> None:
    assert written(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_each_day_whose_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROW_GROUP", 4)
    first, second, third = DAYS
    batches = (
        log(first, second, first),
        log(second, second, second, first=3),
        log(first, third, first=6),
        log(second, first=8),
    )
    files = written(tmp_path, *batches)
    assert [json.loads(str(file["partition"])) for file in files] == [{"ds": str(day)} for day in DAYS]
    expected = ((["e0", "e2", "e6"], 1), (["e1", "e3", "e4", "e5", "e8"], 2), (["e7"], 1))
    for file, (ids, groups) in zip(files, expected, strict=True):
        assert file["rows"] == len(ids)
        place = tmp_path / str(file["path"])
        table = pq.read_table(place, partitioning=None)
        assert table["event_id"].to_pylist() == ids
        assert "ds" not in table.column_names
        assert place.stat().st_size == file["bytes"]
        assert pq.ParquetFile(place).metadata.num_row_groups == groups


def test_a_null_where_none_may_be_is_refused(tmp_path: Path) -> None:
    bad = log(*DAYS).set_column(0, "event_id", pa.array(["a", None, "b"]))
    with pytest.raises(SchemaError, match="event_id is null"):
        written(tmp_path, bad)


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("keep_rate", [0.1, 1.0, 1e-9], [0.0, 1.1, -1.0, float("nan")]),
        ("weight", [1.0, 1e9], [0.99, float("nan")]),
        ("label", [0, 1], [2, -1]),
    ],
)
def test_rules_hold_for_workers_as_they_do_for_delta(
    tmp_path: Path, column: str, good: list[float], bad: list[float]
) -> None:
    table = TABLES["sample"]
    row = {"event_id": "e", "event_time": datetime(2026, 1, 1, tzinfo=UTC), "label": 1, "ds": DAYS[0]}
    row |= {"keep_rate": 0.5, "weight": 1.0, "sample_id": "w0.5-s42"}
    columns = pa.schema(list(table.columns.items()))

    def put(value: float) -> list[pa.RecordBatch]:
        batch = pa.RecordBatch.from_pylist([row, row | {column: value}], schema=columns)
        return list(writer.files(iter([batch]), make=writer.as_they_are, folder=str(tmp_path), table=table))

    for value in good:
        (told,) = put(value)
        assert json.loads(told["partition"][0].as_py()) == {"ds": "2026-01-01", "sample_id": "w0.5-s42"}
    for value in bad:
        with pytest.raises(SchemaError, match=f"a row breaks .*{column}"):
            put(value)
        if math.isnan(value):
            continue  # to Delta no number is greater: a rule without an upper end lets it pass
        rows = pa.Table.from_pylist([row | {column: value}], schema=columns)
        local_delta.create(str(tmp_path / "sample"), table)
        with pytest.raises(DeltaError, match=column):
            local_delta.write(str(tmp_path / "sample"), rows, predicate=None, metadata={})


def test_a_commit_replaces_the_days_that_it_names_and_adds_new_columns(tmp_path: Path) -> None:
    table = tmp_path / "raw log"
    old, new = log(*DAYS, *DAYS), log(DAYS[1], first=9, C1=pa.array(["x"]))
    assert commit(table, written(table, old), old, *DAYS) == 1
    assert commit(table, written(table, new), new, DAYS[1]) == 2
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    assert sorted((row["event_id"], row["ds"], row["C1"]) for row in rows) == [
        ("e0", DAYS[0], None),
        ("e2", DAYS[2], None),
        ("e3", DAYS[0], None),
        ("e5", DAYS[2], None),
        ("e9", DAYS[1], "x"),
    ]
    assert [field.name for field in DeltaTable(table).schema().fields if not field.nullable] == [
        name for name in RAW_LOG.columns if name in RAW_LOG.required
    ]
    assert commit(table, written(table, old), old, *DAYS) == 3  # a column that the newer rows lack stays
    assert "C1" in DeltaTable(table).to_pyarrow_table().column_names


def test_files_outside_the_days_named_and_columns_of_another_type_commit_nothing(tmp_path: Path) -> None:
    table, rows = tmp_path / "raw log", log(*DAYS, C1=pa.array(["x"] * 3))
    with pytest.raises(SchemaError, match=r"outside ds IN \(2026-01-01, 2026-01-03\): of \{'ds': '2026-01-02'\}"):
        commit(table, written(table, rows), rows, DAYS[0], DAYS[2])
    commit(table, written(table, rows), rows, *DAYS)
    other = log(*DAYS, C1=pa.array([1] * 3))
    with pytest.raises(SchemaError, match=r"C1 is .*string.* in the table, .*long.* now"):
        commit(table, written(table, other), other, *DAYS)
    assert DeltaTable(table).version() == 1


def test_writers_of_one_new_day_leave_one_writers_rows(tmp_path: Path) -> None:
    table, start = tmp_path / "raw log", Barrier(4)

    def write(number: int) -> int:
        rows = log(*[DAYS[0]] * 5, first=10 * number)
        files = written(table, rows)
        start.wait()
        return commit(table, files, rows, DAYS[0])

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(write, range(4)))
    assert sorted(versions) == [1, 2, 3, 4]
    last = versions.index(4)
    found = DeltaTable(table).to_pyarrow_table()["event_id"].to_pylist()
    assert sorted(found) == [f"e{10 * last + k}" for k in range(5)]
