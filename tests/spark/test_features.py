"""Features and their audit on Spark and Delta; Spark ML's FeatureHasher as the SECOND oracle of the hashes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
import stored

from clickmill import hashing
from clickmill.config import Config
from clickmill.features import worker
from clickmill.features.worker import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickmill.tables import Tables

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "hashing.json"
FIRST, SECOND, THIRD = tuple(date(2026, 1, day) for day in (1, 2, 3))
DAYS = (FIRST, SECOND)
ROWS = 400


def config(warehouse: str, *, crosses: tuple[tuple[str, ...], ...] = (("site", "ad"), ("ad", "price"))) -> Config:
    dataset: dict[str, Any] = {
        "name": "mine",
        "source": {"path": "x", "format": "parquet"},
        "label": "click",
        "labels": {"bought": "bought"},
        "event_time": {"kind": "column", "column": "at"},
        "p_true": "p_true",
        "slots": ["site", "ad"],
        "numbers": ["price"],
        "crosses": crosses,
        "carry": ["user"],
    }
    features = {"edges": [0.0, 1.0, 5.0], "audit_bits": [18, 20]}
    return Config.model_validate({"dataset": dataset, "warehouse": warehouse, "features": features})


def click_log(*days: date, rows: int = ROWS) -> pa.Table:
    random = np.random.default_rng(5)
    n = rows * len(days)
    of_day = np.arange(n) // rows
    return pa.table(
        {
            "event_id": [f"e{k}" for k in range(n)],
            "event_time": pa.array(
                [datetime(days[d].year, days[d].month, days[d].day, 5, tzinfo=UTC) for d in of_day],
                pa.timestamp("us", tz="UTC"),
            ),
            "label": pa.array(random.integers(0, 2, n), pa.int8()),
            "site": pa.array([f"s{k}" if k % 5 else None for k in random.integers(0, 30, n).tolist()]),
            "ad": pa.array([f"ünï{k}🙂" for k in (random.integers(0, 60, n) + 20 * of_day).tolist()]),
            "price": pa.array([x if x > 0.3 else None for x in random.gamma(1.0, 2.0, n).tolist()]),
            "user": pa.array([f"u{k}" for k in random.integers(0, 50, n).tolist()]),
            "label_bought": pa.array(random.integers(0, 2, n), pa.int8()),
            "p_true": random.random(n),
            "ds": pa.array([days[d] for d in of_day]),
        }
    )


def build(tables: Tables, cfg: Config, *days: date) -> None:
    from clickmill.jobs.build_features import JOB

    running.run(tables, JOB, cfg, days)


def sorted_rows(tables: Tables, name: str, *keys: str) -> pa.Table:
    table = stored.table(tables.warehouse, name)
    return (
        table.filter(pc.is_in(table["ds"], pa.array(DAYS)))
        .sort_by([(key, "ascending") for key in keys])
        .combine_chunks()
    )


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Two days of click_log, features and feature_audit; tests leave these as they are."""
    from clickmill.tables import Tables

    tables = Tables(spark, str(tmp_path_factory.mktemp("ware house")), run_id="run-of-the-module")
    tables.write("click_log", click_log(*DAYS), replace={"ds": DAYS})
    build(tables, config(tables.warehouse), *DAYS)
    return tables


# --- the hashes -------------------------------------------------------------------------------


def test_slots_equal_spark_mls_feature_hasher(spark):
    """Each row of the golden file in a row of its own, in the column of its slot: its place is the only one."""
    from pyspark.ml.feature import FeatureHasher

    rows = [row for row in json.loads(GOLDEN.read_text(encoding="utf-8"))["slots"] if row["value"] is not None]
    slots = sorted({row["slot"] for row in rows})
    columns = {slot: [row["value"] if row["slot"] == slot else None for row in rows] for slot in slots}
    frame = spark.createDataFrame(pa.table({"row": list(range(len(rows))), **columns}))
    hasher = FeatureHasher(inputCols=slots, outputCol="hashed", numFeatures=2**20)
    found = hasher.transform(frame).select("row", "hashed").collect()
    assert len(found) > 100
    for one in found:
        row = rows[one["row"]]
        index = hashing.to_index(hashing.hash_slot(row["slot"], [row["value"]]), 20)
        assert one["hashed"].indices.tolist() == index.tolist(), row


# --- the job ----------------------------------------------------------------------------------


def test_the_table_holds_what_the_worker_says(built):
    cfg = config(built.warehouse)
    log = click_log(*DAYS).combine_chunks()
    carried = {"c_user": "user", "c_label_bought": "label_bought", "c_p_true": "p_true"}
    spec = FeatureSpec.of(cfg.dataset, cfg.features)
    batches = worker.featurize(iter(log.to_batches()), spec=spec, carried=carried)
    expected = pa.Table.from_batches(batches)
    found = sorted_rows(built, "features", "event_id")
    assert set(found.column_names) == set(expected.column_names)
    expected = expected.select(found.column_names).sort_by("event_id").combine_chunks()
    for name in found.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_whole_hashes_are_stored_as_int_and_numbers_as_float(built):
    types = dict(built.read("features").dtypes)
    assert {name: types[name] for name in types if name[:2] in ("s_", "x_")} == dict.fromkeys(
        ["s_site", "s_ad", "s_price", "x_site_ad", "x_ad_price"], "int"
    )
    assert types["n_price"] == "float"
    lowest = pc.min(stored.table(built.warehouse, "features")["x_site_ad"])
    assert lowest.as_py() < 0  # neither folded nor reduced


def test_a_rerun_changes_nothing(built):
    before = [
        sorted_rows(built, "features", "event_id"),
        sorted_rows(built, "feature_audit", "ds", "slot", "bits"),
    ]
    build(built, config(built.warehouse), SECOND)
    after = [sorted_rows(built, "features", "event_id"), sorted_rows(built, "feature_audit", "ds", "slot", "bits")]
    assert before == after


def test_the_audit_counts_what_is_there(built):
    audit = {
        (row["ds"], row["slot"], row["bits"]): row
        for row in stored.rows(built.warehouse, "feature_audit")
        if row["ds"] in DAYS
    }
    columns = ["s_site", "s_ad", "s_price", "x_site_ad", "x_ad_price"]
    assert set(audit) == {(ds, slot, bits) for ds in (FIRST, SECOND) for slot in columns for bits in (18, 19, 20)}
    log = click_log(FIRST, SECOND).to_pylist()
    by_day = {ds: [row for row in log if row["ds"] == ds] for ds in (FIRST, SECOND)}
    for ds, rows in by_day.items():
        site, ad = audit[ds, "s_site", 18], audit[ds, "s_ad", 18]
        assert site["rows"] == ROWS
        assert site["distinct"] == len({row["site"] for row in rows})
        assert site["missing_share"] == sum(row["site"] is None for row in rows) / ROWS
        assert audit[ds, "x_site_ad", 18]["missing_share"] == site["missing_share"]
        most = max(sum(row["ad"] == value for row in rows) for value in {row["ad"] for row in rows})
        assert ad["largest_bucket_share"] == pytest.approx(most / ROWS)
    assert audit[FIRST, "s_ad", 18]["unseen_share"] is None
    seen = {row["ad"] for row in by_day[FIRST]}
    new = sum(row["ad"] not in seen for row in by_day[SECOND]) / ROWS
    assert 0 < new < 1
    assert audit[SECOND, "s_ad", 18]["unseen_share"] == pytest.approx(new)


def test_features_hang_on_no_partitioning(built):
    from clickmill.features.driver import build_features
    from clickmill.tables import Scan

    cfg = config(built.warehouse)
    log = built.read("click_log", days=DAYS)
    found = []
    for parts in (1, 3, 17):
        table = build_features(Scan.of(log.repartition(parts)), cfg).rows().toArrow()
        found.append(table.sort_by("event_id").combine_chunks())
    assert found[0] == found[1] == found[2]


def test_a_cross_that_is_added_later_has_no_history_and_disturbs_none(built):
    built.write("click_log", click_log(THIRD), replace={"ds": [THIRD]})
    build(built, config(built.warehouse, crosses=(("site", "ad"), ("ad", "price"), ("site", "price"))), THIRD)
    audit = stored.rows(built.warehouse, "feature_audit")
    unseen = {row["slot"]: row["unseen_share"] for row in audit if (row["ds"], row["bits"]) == (THIRD, 18)}
    assert unseen["x_site_price"] is None
    assert unseen["s_ad"] is not None
