"""Small tables through delta-rs: what is read, what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from clickmill import local_delta
from clickmill.errors import DamagedTableError, MissingTableError, SchemaError
from clickmill.schema import TABLES


def stored(path: Path) -> str:
    write_deltalake(str(path), pa.table({"day": ["a", "b", "b"], "n": [1, 2, 5]}), partition_by=["day"])
    return str(path)


def test_rows_values_and_the_greatest_are_those_of_the_version(tmp_path: Path) -> None:
    path = stored(tmp_path / "t")
    write_deltalake(path, pa.table({"day": ["c"], "n": [9]}), mode="append")
    assert local_delta.rows(path, 0, {"day": ["b", "c"]}, ["n"]) == [{"n": 2}, {"n": 5}]
    assert local_delta.rows(path, 1, {"day": ["c"]}, []) == [{"day": "c", "n": 9}]
    assert (local_delta.values(path, 0, "day"), local_delta.values(path, 1, "day")) == (
        {"a", "b"},
        {"a", "b", "c"},
    )
    assert local_delta.greatest(path, 1, {"day": ["a", "b"]}, "n") == 5
    assert local_delta.greatest(path, 1, {"day": ["d"]}, "n") is None
    assert local_delta.newest(path) == 1


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingTableError, match="there is no such Delta table"):
        local_delta.rows(str(tmp_path / "nowhere"), 0, {}, [])
    path = stored(tmp_path / "t")
    with pytest.raises(MissingTableError, match="version 7 cannot be read"):
        local_delta.rows(path, 7, {}, [])
    write_deltalake(path, pa.table({"day": ["a"], "n": [0]}), mode="overwrite")
    DeltaTable(path).vacuum(0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(MissingTableError, match="files of version 0 are gone"):
        local_delta.rows(path, 0, {}, [])


def test_no_value_at_all_is_no_row(tmp_path: Path) -> None:
    assert local_delta.rows(stored(tmp_path / "t"), 0, {"day": []}, []) == []


def test_a_damaged_log_is_not_taken_for_no_table(tmp_path: Path) -> None:
    path = stored(tmp_path / "t")
    (tmp_path / "t" / "_delta_log" / "00000000000000000000.json").write_text("{")
    with pytest.raises(DamagedTableError, match="its log cannot be read"):
        local_delta.newest(path)


def test_a_row_outside_the_predicate_writes_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "models")
    good = pa.table({"model_id": ["m"], "name": ["lr"], "ds": ["2026-01-01"]})
    write_deltalake(path, good, partition_by=["ds"])
    metadata = {"run_id": "r"}
    with pytest.raises(SchemaError, match="rows outside ds = '2026-01-02'; nothing was written"):
        local_delta.write(path, good, predicate="ds = '2026-01-02'", metadata=metadata)
    assert DeltaTable(path).version() == 0
    assert local_delta.write(path, good, predicate="ds = '2026-01-01'", metadata=metadata) == 1
    assert local_delta.rows(path, 1, {}, ["name"]) == [{"name": "lr"}]


def test_a_table_is_made_once_with_its_constraints(tmp_path: Path) -> None:
    path, table = str(tmp_path / "sample"), TABLES["sample"]
    local_delta.create(path, table)
    local_delta.create(path, table)
    made = DeltaTable(path)
    assert made.version() == 0
    assert made.protocol().min_writer_version == 3
    assert made.metadata().partition_columns == ["ds", "sample_id"]
    assert [f.name for f in made.schema().fields if not f.nullable] == [
        c for c in table.columns if c in table.required
    ]
    row = {"event_id": "e", "event_time": datetime(2026, 1, 1, tzinfo=UTC), "label": 1, "ds": date(2026, 1, 1)}
    row |= {"keep_rate": 0.5, "weight": 1.0, "sample_id": "w"}
    columns = pa.schema(list(table.columns.items()))
    for broken in ({"keep_rate": 0.0}, {"weight": 0.5}, {"label": 2}):
        rows = pa.Table.from_pylist([row | broken], schema=columns)
        with pytest.raises(DeltaError, match=next(iter(broken))):  # any writer is held to them
            local_delta.write(path, rows, predicate=None, metadata={})
    assert local_delta.write(path, pa.Table.from_pylist([row], schema=columns), predicate=None, metadata={}) == 1


def test_writers_of_different_days_of_a_new_table_who_add_one_column_all_succeed(tmp_path: Path) -> None:
    path, table = str(tmp_path / "metrics of days"), TABLES["features"]
    start = Barrier(4)

    def write(day: date) -> int:
        moment = pa.array([datetime(day.year, day.month, day.day)], pa.timestamp("us", tz="UTC"))
        rows = {
            "event_id": ["e"],
            "event_time": moment,
            "label": pa.array([0], pa.int8()),
            "ds": [day],
            "s_new": [1],
        }
        start.wait()
        local_delta.create(path, table)
        predicate = f"ds = DATE'{day}'"
        return local_delta.write(path, pa.table(rows), predicate=predicate, metadata={"run_id": str(day)})

    days = [date(2026, 1, day) for day in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(write, days))
    assert sorted(versions) == [1, 2, 3, 4]  # made once
    assert {row["ds"] for row in local_delta.rows(path, 4, {}, ["ds", "s_new"])} == set(days)
