"""The one door to storage: whole partitions, pinned versions, named refusals."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import NamedTuple

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession

from clickmill import reader
from clickmill.errors import ConflictError, MissingColumnsError, MissingTableError, SchemaError
from clickmill.split import Stretch
from clickmill.tables import ByWorkers, Tables
from clickmill.writer import as_they_are

DAY, NEXT = date(2026, 1, 1), date(2026, 1, 2)
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have no tests on their path


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


def _slowly(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    time.sleep(1.5)
    yield from batches


class Way(NamedTuple):
    """How rows reach a table."""

    tables: Tables
    given: Callable[[pa.Table], pa.Table | DataFrame]


@pytest.fixture(params=["driver", "workers", "spark"])
def way(request: pytest.FixtureRequest, spark: SparkSession, warehouse: str) -> Way:
    """From the driver by delta-rs, from workers' files, or, where the disk is not a local one, through Spark."""
    place = f"file://{warehouse}" if request.param == "spark" else warehouse
    rows = (lambda table: table) if request.param == "driver" else spark.createDataFrame
    return Way(Tables(spark, place, run_id="run-of-the-test"), rows)


def test_writing_a_day_twice_leaves_one_day_and_other_days_alone(way: Way) -> None:
    tables, given = way
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
def test_rows_that_do_not_fit_are_refused_by_name(way: Way, rows: pa.Table, says: str) -> None:
    tables, given = way
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    before = Tables(tables.spark, tables.warehouse, run_id="other").version("features")
    with pytest.raises(SchemaError, match=says):
        tables.write("features", given(rows), replace={"ds": [DAY]})
    assert Tables(tables.spark, tables.warehouse, run_id="another").version("features") == before


def _in_order(frame: DataFrame, log: pa.Table) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = frame.select(log.column_names).toArrow().to_pylist()
    return sorted(rows, key=lambda row: (row["ds"], row["s_C1"]))


def test_rows_that_workers_make_are_those_that_spark_would_write(way: Way, spark: SparkSession) -> None:
    tables, log = way.tables, pa.concat_tables([impressions(DAY, 50), impressions(NEXT, 50)])
    log = log.append_column("s_C2", pa.array(["ü"] * 100)).rename_columns({"label": "click", "event_time": "time"})
    made = ByWorkers(spark.createDataFrame(log).repartition(3), as_they_are, log.schema)
    for _ in range(2):
        written = tables.write("raw_log", made, replace={"ds": [DAY, NEXT]})
        assert (written.rows, written.version) == (100, tables.newest("raw_log"))
    assert _in_order(tables.read("raw_log"), log) == log.to_pylist()
    with pytest.raises(SchemaError, match="outside"):
        tables.write("raw_log", made, replace={"ds": [DAY]})
    dry = Tables(spark, tables.warehouse, run_id="dry", dry_run=True)
    assert dry.write("raw_log", made, replace={"ds": [DAY, NEXT]}).rows == 100
    assert tables.newest("raw_log") == written.version


def test_a_new_feature_evolves_the_schema_and_is_null_on_older_days(way: Way) -> None:
    tables, given = way
    tables.write("features", given(impressions(DAY)), replace={"ds": DAY})
    tables.write("features", given(impressions(NEXT, x_a_b=pa.array(range(4), pa.int32()))), replace={"ds": NEXT})
    rows = {row.ds: row.x_a_b for row in tables.read("features").collect() if row.event_id.endswith("-3")}
    assert rows == {DAY: None, NEXT: 3}


def test_rows_of_a_small_table_are_those_that_spark_reads(tables: Tables) -> None:
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    tables.write("features", impressions(NEXT, 6, 1), replace={"ds": NEXT})
    by_workers = [row.asDict() for row in tables.read("features").select("event_id", "label").collect()]
    ours = tables.rows("features", columns=("event_id", "label"))
    assert sorted(ours, key=str) == sorted(by_workers, key=str)
    cut = tables.rows("features", days=[NEXT], where={"event_id": ["2026-01-02-3", "2026-01-01-3"]})
    assert [(row["event_id"], row["ds"], row["label"]) for row in cut] == [("2026-01-02-3", NEXT, 1)]
    assert len(tables.rows("features", version=1)) == 4


def test_a_table_or_version_that_is_not_there_is_named(tables: Tables) -> None:
    with pytest.raises(MissingTableError, match="sample: there is no such Delta table"):
        tables.read("sample")
    tables.write("features", impressions(DAY), replace={"ds": DAY})
    with pytest.raises(MissingTableError, match="version 99"):
        tables.read("features", version=99)


def test_a_dry_run_checks_what_the_driver_holds_and_writes_nothing(tables: Tables, spark: SparkSession) -> None:
    dry = Tables(spark, tables.warehouse, run_id="dry", dry_run=True)
    assert dry.write("features", impressions(DAY), replace={"ds": DAY}).rows == 4
    with pytest.raises(SchemaError, match="label_is_0_or_1"):
        dry.write("features", impressions(DAY, label=2), replace={"ds": DAY})
    assert not tables.exists("features")


def test_a_row_with_a_column_that_the_table_lacks_is_refused(tables: Tables) -> None:
    with pytest.raises(SchemaError, match=r"rejects: has no columns \['why'\]"):
        tables.write("rejects", [{"source": "f", "reason": "x", "ds": DAY, "why": "y"}], replace={"ds": DAY})


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
    small = reader.plan(path, version=version, shards=2, most_rows=100)
    assert len(small) == 11
    assert sum(shard.rows for shard in small) == 1010
    assert len(reader.plan(path, version=version, shards=2, most_rows=5000)) == 2


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


@pytest.mark.parametrize("place", ["{}", "file://{}"], ids=["delta-rs", "spark"])
def test_of_the_appends_with_one_number_one_alone_succeeds(
    spark: SparkSession, warehouse: str, place: str
) -> None:
    def append(run_id: str, number: int | None) -> str | None:
        tables = Tables(spark, place.format(warehouse), run_id=run_id)
        verdict = {"ds": DAY, "at": datetime(2026, 1, 1), "run_id": run_id, "promoted": number is not None}
        try:
            tables.append("decisions", [verdict], number=number)
        except ConflictError:
            return None
        return run_id

    def stored() -> list[str]:
        return sorted(DeltaTable(f"{warehouse}/decisions").to_pyarrow_table()["run_id"].to_pylist())

    assert append("first", 1) == "first"
    assert append("again", 1) is None
    assert append("refused", None) == "refused"
    with ThreadPoolExecutor(4) as threads:
        won = list(filter(None, threads.map(append, "abcd", [2] * 4)))
    assert len(won) == 1
    assert append("late", 1) is None
    assert stored() == sorted(["first", "refused", *won])


@pytest.mark.parametrize(("place", "lose"), [("{}", 0), ("file://{}", 1)], ids=["delta-rs", "spark"])
def test_of_two_writers_of_one_day_at_once_one_wins_and_the_day_is_wholly_its_own(
    spark: SparkSession, warehouse: str, place: str, lose: int
) -> None:
    """On a local disk they take turns, and the later's rows stand; elsewhere the later is told."""
    Tables(spark, place.format(warehouse), run_id="made").write(
        "features", impressions(NEXT), replace={"ds": NEXT}
    )

    def write(run_id: str) -> str | None:
        tables = Tables(spark, place.format(warehouse), run_id=run_id)
        rows = spark.createDataFrame(impressions(DAY, 30 + ord(run_id)))
        slow = rows.mapInArrow(_slowly, rows.schema)
        try:
            tables.write("features", slow, replace={"ds": DAY})
        except ConflictError:
            return None
        return run_id

    with ThreadPoolExecutor(2) as threads:
        won = list(filter(None, threads.map(write, "ab")))
    assert len(won) == 2 - lose
    table = DeltaTable(f"{warehouse}/features").to_pyarrow_table(filters=[("ds", "=", DAY)])
    assert table.num_rows in [30 + ord(run_id) for run_id in won]


def test_two_processes_write_different_days_of_a_new_table_at_once(warehouse: str) -> None:
    """One with rows that its driver holds, one whose workers write; each adds the same new column."""
    code = """
        import sys
        from datetime import date
        sys.path.insert(0, "tests/spark")
        from test_tables import impressions
        from clickmill.config import SparkConf
        from clickmill.session import get_spark
        from clickmill.tables import Tables
        day, by_workers = date.fromisoformat(sys.argv[2]), sys.argv[3] == "workers"
        settings = {"spark.databricks.delta.snapshotPartitions": "1", "spark.sql.shuffle.partitions": "1"}
        conf = SparkConf(master="local[1]", settings=settings)
        spark = get_spark(conf, app="writer") if by_workers else None
        for turn in range(2 if by_workers else 60):
            name, rows = f"{day}-{turn}", impressions(day)
            bare = Tables.without_spark(sys.argv[1], run_id=name)
            tables = Tables(spark, sys.argv[1], run_id=name) if spark else bare
            tables.write("features", spark.createDataFrame(rows) if spark else rows, replace={"ds": day})
    """
    command = [sys.executable, "-c", textwrap.dedent(code), warehouse]
    writers = [
        subprocess.Popen([*command, str(day), way], stderr=subprocess.PIPE, text=True)
        for day, way in ((DAY, "driver"), (NEXT, "workers"))
    ]
    errors = [writer.communicate(timeout=240)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], [error[:3000] for error in errors]
    table = DeltaTable(f"{warehouse}/features")
    assert len(table.history()) == 63
    assert table.to_pyarrow_table().num_rows == 8
