"""Tables of a catalogue, `catalog.schema.table`, in place of folders: of a real one, with an odd name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
import running

from clickmill import names
from clickmill.config import Config
from clickmill.errors import MissingTableError, SchemaError
from clickmill.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY, NEXT = date(2026, 1, 1), date(2026, 1, 2)
ODD = ["main.clicks", "my-cat.clicks", "`a.b`.`c``d`", "`select`.`from table; --`", "`ü x`.`1`"]


@pytest.fixture
def schema(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    """An empty schema `day` in a catalogue of Delta's by that name, as its tables' warehouse is written."""
    name = "`" + request.param.replace("`", "``") + "`"
    if request.param != "spark_catalog":
        _add(spark, request.param)
    spark.sql(f"CREATE SCHEMA {name}.day LOCATION '{tmp_path}/schema'")
    yield f"{request.param}.day" if request.param == "my-cat" else f"{name}.day"
    spark.sql(f"DROP SCHEMA {name}.day CASCADE")


def _add(spark: SparkSession, name: str) -> None:
    """A second catalogue: Delta's own class, over the schemas of the session's catalogue."""
    spark.conf.set(f"spark.sql.catalog.{name}", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    catalogues = spark._jsparkSession.sessionState().catalogManager()  # (what a platform does for its own)
    catalogues.catalog(name).setDelegateCatalog(catalogues.catalog("spark_catalog"))


def rows(day: date, n: int) -> pa.Table:
    times = [datetime(day.year, day.month, day.day, i % 24) for i in range(n)]
    return pa.table(
        {
            "event_id": [f"{day}-{i}" for i in range(n)],
            "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "label": pa.array([0] * n, pa.int8()),
            "ds": pa.array([day] * n),
            "s_C1": pa.array(range(n), pa.int32()),
        }
    )


@pytest.mark.parametrize("name", ODD)
def test_names_are_written_so_that_spark_s_own_parser_reads_the_same_parts(spark: SparkSession, name: str) -> None:
    parser = spark._jsparkSession.sessionState().sqlParser()
    parts = list(parser.parseMultipartIdentifier(names.quoted(f"{name}.features")).mkString("\0").split("\0"))
    said = [part[1:-1].replace("``", "`") if part[0] == "`" else part for part in names._PART.findall(name)]
    assert parts == [*said, "features"]


@pytest.mark.parametrize("schema", ["spark_catalog", "my-cat"], indirect=True)
def test_days_are_replaced_pinned_and_refused_as_in_a_folder(spark: SparkSession, schema: str) -> None:
    tables = Tables(spark, schema, run_id="first")
    assert not tables.exists("features")
    assert tables.days("features") == ()
    with pytest.raises(MissingTableError, match="features"):
        tables.version("features")
    tables.write("features", rows(DAY, 4), replace={"ds": DAY})
    tables.write("features", rows(NEXT, 3), replace={"ds": NEXT})
    early = Tables(spark, schema, run_id="early")
    assert early.read("features").count() == 7
    written = tables.write("features", rows(DAY, 5), replace={"ds": [DAY]})
    assert (written.rows, written.version) == (5, tables.newest("features"))
    assert early.read("features").count() == 7
    late = Tables(spark, schema, run_id="late")
    assert late.read("features", days=[DAY]).count() == 5
    assert late.days("features") == (DAY, NEXT)
    assert late.last_time("features", DAY) == datetime(2026, 1, 1, 4)
    assert set(rows(DAY, 1).column_names) <= set(late.columns("features"))
    with pytest.raises(SchemaError, match="outside"):
        tables.write("features", rows(NEXT, 1), replace={"ds": DAY})
    appended = {"run_id": "r", "job": "ingest", "status": "done"}
    assert tables.append("runs", [appended | _lacking("runs", appended)]).rows == 1
    assert [row["run_id"] for row in late.rows("runs", where={"status": ["done"]})] == ["r"]


def _lacking(name: str, row: dict[str, str]) -> dict[str, object]:
    """Values for the columns that a row must have."""
    from clickmill.schema import TABLES

    kinds = TABLES[name].columns
    example = {pa.string(): "", pa.date32(): DAY, pa.timestamp("us", tz="UTC"): datetime(2026, 1, 1)}
    return {column: example[kinds[column]] for column in TABLES[name].required if column not in row}


@pytest.mark.parametrize("schema", ["odd`one"], indirect=True)
def test_a_log_is_ingested_and_read_back(spark: SparkSession, schema: str, tmp_path: Path) -> None:
    from clickmill.jobs import build_features, ingest

    log = tmp_path / "log.csv"
    log.write_text(
        "at,click,site\n2026-01-01 05:00,1,é\n2026-01-01 06:00,0,\n2026-01-01 07:00,7,x\n", encoding="utf-8"
    )
    cfg = Config.model_validate(
        {
            "warehouse": schema,
            "ingest": {"max_reject_share": 0.5},
            "dataset": {
                "name": "mine",
                "label": "click",
                "event_time": {"kind": "column", "column": "at"},
                "slots": ["site"],
                "source": {"path": str(log), "format": "csv", "header": True},
            },
        }
    )
    for job in (ingest.JOB, build_features.JOB):
        running.run(Tables(spark, cfg.warehouse_path, run_id=job.name), job, cfg, [DAY])
    there = Tables(spark, cfg.warehouse_path, run_id="then")
    found = there.rows("click_log", days=[DAY])
    assert sorted((row["label"], row["site"]) for row in found if row["site"]) == [(1, "é")]
    assert [row["reason"] for row in there.rows("rejects")] == ["bad_label"]
    assert there.read("features").count() == len(found) == 2
    where = spark.sql(f"DESCRIBE DETAIL {names.quoted(there.path('click_log'))}").collect()[0]["location"]
    assert where.startswith(f"file:{tmp_path}")
