"""The one door to storage: whole partitions, pinned versions, named refusals."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import date, datetime

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from clickmill import reader
from clickmill.errors import MissingColumnsError, MissingTableError, SchemaError
from clickmill.split import Stretch
from clickmill.tables import Tables

DAY, NEXT = date(2026, 1, 1), date(2026, 1, 2)


def impressions(day: date, n: int = 4, label: int = 0, **extra: pa.Array) -> pa.Table:
    times = [datetime(day.year, day.month, day.day, i % 24) for i in range(n)]
    columns = {
        "event_id": pa.array([f"{day}-{i}" for i in range(n)]),
        "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "label": pa.array([label] * n, pa.int8()),
        "ds": pa.array([day] * n),
        "s_C1": pa.array(range(n), pa.int32()),
    }
    return pa.table({**columns, **extra})


Rows = Callable[[pa.Table], pa.Table | DataFrame]


@pytest.fixture(params=["driver", "spark"])
def given(request: pytest.FixtureRequest, spark: SparkSession) -> Rows:
    """Rows as the driver holds them (delta-rs writes those), or as a frame of Spark's."""
    return spark.createDataFrame if request.param == "spark" else lambda rows: rows


def test_writing_a_day_twice_leaves_one_day_and_other_days_alone(tables: Tables, given: Rows) -> None:
    tables.write("features", given(impressions(DAY)), replace={"ds": DAY})
    tables.write("features", given(impressions(NEXT, 3)), replace={"ds": NEXT})
    written = tables.write("features", given(impressions(DAY, 5)), replace={"ds": [DAY]})
    assert (written.rows, written.version) == (5, tables.newest("features"))
    assert tables.read("features").count() == 8
    assert tables.days("features") == (DAY, NEXT)


def test_a_reader_keeps_the_version_it_pinned(tables: Tables, spark: SparkSession) -> None:
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    early = Tables(spark, tables.warehouse, run_id="early")
    assert early.read("features").count() == 4
    tables.write("features", impressions(DAY, 9), replace={"ds": DAY})
    assert early.read("features").count() == 4
    assert Tables(spark, tables.warehouse, run_id="late").read("features").count() == 9


def test_a_stretch_is_cut_at_its_hours(tables: Tables) -> None:
    tables.write("features", impressions(DAY, 24), replace={"ds": DAY})
    stretch = Stretch(datetime(2026, 1, 1, 20), datetime(2026, 1, 2, 3))
    assert tables.read("features", stretch=stretch).count() == 4
    assert tables.last_time("features", DAY) == datetime(2026, 1, 1, 23)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (impressions(DAY, label=2), "label_is_0_or_1"),
        (impressions(DAY).set_column(0, "event_id", pa.array(["a", None, "b", "c"])), "event_id is null"),
        (impressions(DAY).drop_columns(["label"]), r"missing columns \['label'\]"),
        (impressions(DAY, y_7=pa.array([1] * 4)), r"no columns \['y_7'\]"),
        (
            impressions(DAY).set_column(2, "label", pa.array([0] * 4, pa.int64())),
            "features.label: expected tinyint",
        ),
        (impressions(NEXT), "rows outside ds IN"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(tables: Tables, given: Rows, rows: pa.Table, says: str) -> None:
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    before = Tables(tables.spark, tables.warehouse, run_id="other").version("features")
    with pytest.raises(SchemaError, match=says):
        tables.write("features", given(rows), replace={"ds": [DAY]})
    assert Tables(tables.spark, tables.warehouse, run_id="another").version("features") == before


def test_a_new_feature_evolves_the_schema_and_is_null_on_older_days(tables: Tables, given: Rows) -> None:
    tables.write("features", given(impressions(DAY)), replace={"ds": DAY})
    tables.write("features", given(impressions(NEXT, x_a_b=pa.array(range(4), pa.int32()))), replace={"ds": NEXT})
    rows = {row.ds: row.x_a_b for row in tables.read("features").collect() if row.event_id.endswith("-3")}
    assert rows == {DAY: None, NEXT: 3}


def test_rows_of_a_small_table_are_those_that_spark_reads(tables: Tables) -> None:
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    tables.write("features", impressions(NEXT, 6, 1), replace={"ds": NEXT})
    by_spark = [row.asDict() for row in tables.read("features").select("event_id", "label").collect()]
    ours = tables.rows("features", columns=("event_id", "label"))
    assert sorted(ours, key=str) == sorted(by_spark, key=str)
    cut = tables.rows("features", days=[NEXT], where={"event_id": ["2026-01-02-3", "2026-01-01-3"]})
    assert [(row["event_id"], row["ds"], row["label"]) for row in cut] == [("2026-01-02-3", NEXT, 1)]
    assert len(tables.rows("features", version=1)) == 4


def test_a_table_or_version_that_is_not_there_is_named(tables: Tables) -> None:
    with pytest.raises(MissingTableError, match="sample: there is no such Delta table"):
        tables.read("sample")
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    with pytest.raises(MissingTableError, match="version 99"):
        tables.read("features", version=99)


def test_shards_hold_every_row_once_and_none_is_much_larger(tables: Tables, spark: SparkSession) -> None:
    rows = pa.concat_tables([impressions(DAY, 1000)])
    tables.write("features", spark.createDataFrame(rows).repartition(8), replace={"ds": DAY})
    tables.write("features", impressions(NEXT, 10), replace={"ds": NEXT})
    path, version = tables.path("features"), tables.version("features")
    shards = reader.plan(path, version=version, days=[DAY], shards=3)
    assert shards == reader.plan(path, version=version, days=[DAY], shards=3)
    seen = [
        key
        for shard in shards
        for b in reader.read(shard, columns=["event_id"])
        for key in b["event_id"].to_pylist()
    ]
    assert sorted(seen) == sorted(rows["event_id"].to_pylist())
    assert max(s.rows for s in shards) <= 1.6 * min(s.rows for s in shards)
    spread = reader.plan(path, version=version, shards=20)
    assert sum(shard.rows for shard in spread) == 1010


def test_the_reader_cuts_by_time_fills_new_columns_and_names_missing_ones(tables: Tables) -> None:
    tables.write("features", impressions(DAY, 24), replace={"ds": DAY})
    tables.write("features", impressions(NEXT, 24, x_a_b=pa.array(range(24), pa.int32())), replace={"ds": NEXT})
    (shard,) = reader.plan(tables.path("features"), version=tables.version("features"), shards=1)
    stretch = Stretch(datetime(2026, 1, 1, 22), datetime(2026, 1, 2, 2))
    rows = pa.Table.from_batches(
        [
            b.cast(pa.schema([("ds", pa.date32()), ("x_a_b", pa.int32())]))
            for b in reader.read(shard, columns=["ds", "x_a_b"], stretch=stretch)
        ]
    )
    assert rows.to_pydict() == {"ds": [DAY, DAY, NEXT, NEXT], "x_a_b": [None, None, 0, 1]}
    with pytest.raises(MissingColumnsError, match="s_NOPE"):
        list(reader.read(shard, columns=["s_NOPE"]))


@pytest.mark.slow
def test_two_processes_write_different_days_of_a_new_table_at_once(warehouse: str, tmp_path: object) -> None:
    code = """
        import sys
        from datetime import date
        sys.path.insert(0, "tests/spark")
        from test_tables import impressions
        from clickmill.config import SparkConf
        from clickmill.session import get_spark
        from clickmill.tables import Tables
        settings = {"spark.databricks.delta.snapshotPartitions": "2"}
        spark = get_spark(SparkConf(master="local[1]", settings=settings), app="writer")
        day = date.fromisoformat(sys.argv[2])
        for turn in range(3):
            tables = Tables(spark, sys.argv[1], run_id=f"{day}-{turn}")
            tables.write("features", impressions(day), replace={"ds": day})
    """
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), warehouse, str(day)], stderr=subprocess.PIPE, text=True
        )
        for day in (DAY, NEXT)
    ]
    errors = [writer.communicate(timeout=240)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], [error[:3000] for error in errors]
    (shard,) = reader.plan(f"{warehouse}/features", version=reader_version(f"{warehouse}/features"), shards=1)
    assert shard.rows == 8


def reader_version(path: str) -> int:
    from deltalake import DeltaTable

    return DeltaTable(path).version()
