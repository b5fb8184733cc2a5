"""click_log → features, and features → feature_audit, on Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import FloatType, IntegerType, StructField, StructType

from clickmill import hashing
from clickmill.config import Config
from clickmill.features import audit, worker
from clickmill.features.worker import FIXED, FeatureSpec
from clickmill.tables import ByWorkers, Tables

HISTORY_DAYS = 7
"""A value counts as unseen when it did not stand on one of so many days before."""


def build_features(log: DataFrame, cfg: Config) -> ByWorkers:
    """Hashed slots, crosses and buckets, raw numbers and carried columns, a row an impression."""
    spec = FeatureSpec.of(cfg.dataset, cfg.features)
    carried = _carried(cfg)
    needed = list(dict.fromkeys([*FIXED, *spec.slots, *spec.numbers, *carried.values()]))
    types = {field.name: field for field in log.schema}
    hashed = [StructField(name, IntegerType()) for name in spec.hashed]
    numbers = [StructField(f"n_{name}", FloatType()) for name in spec.numbers]
    kept = [StructField(name, types[source].dataType) for name, source in carried.items()]
    schema = StructType([*(types[name] for name in FIXED[:-1]), *hashed, *numbers, *kept, types["ds"]])
    make = partial(worker.featurize, spec=spec, carried=carried)
    return ByWorkers(log.select(*needed), make, to_arrow_schema(schema, timezone="UTC"))


def audit_features(tables: Tables, days: Sequence[date], cfg: Config) -> list[dict[str, Any]]:
    """The rows of feature_audit for these days; (slots + numbers + crosses) × bits rows a day reach the driver."""
    spec = FeatureSpec.of(cfg.dataset, cfg.features)
    window = {day - timedelta(days=back) for day in days for back in range(HISTORY_DAYS + 1)}
    rows = tables.read("features", days=sorted(window)).select("ds", *spec.hashed)
    counted = rows.mapInArrow(worker.count_values, from_arrow_schema(audit.COUNTS))
    missing = {column: _missing(parts) for column, parts in spec.hashed.items()}
    asked, bits = tuple(days), cfg.features.audit_bits

    def one(table: pa.Table) -> pa.Table:  # a plain function: Spark reads its annotations, which a partial has not
        return audit.audit_shard(table, days=asked, history=HISTORY_DAYS, bits=bits, missing=missing)

    audited = counted.groupBy("slot", "shard").applyInArrow(one, from_arrow_schema(audit.PARTS))
    sums = [F.sum(name).alias(name) for name in audit.SUMS]
    greatest = [F.max(name).alias(name) for name in ("largest", "history")]
    totals = audited.groupBy("ds", "slot", "bits").agg(*sums, *greatest)
    return audit.shares(row.asDict() for row in totals.collect())


def _carried(cfg: Config) -> dict[str, str]:
    """Carried column → column of click_log: slice columns, bootstrap unit, extra labels, the truth."""
    carried = {f"c_{name}": name for name in cfg.dataset.carry}
    carried |= {f"c_label_{task}": f"label_{task}" for task in cfg.dataset.labels}
    return carried | ({"c_p_true": "p_true"} if cfg.dataset.p_true else {})


def _missing(parts: tuple[str, ...]) -> int:
    return int(hashing.missing_hash(parts[0] if len(parts) == 1 else hashing.cross_name(parts)))
