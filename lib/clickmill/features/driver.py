"""click_log → features, and features → feature_audit, on Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from clickmill import hashing
from clickmill.config import Config
from clickmill.features import audit, worker
from clickmill.features.worker import FIXED, FeatureSpec
from clickmill.tables import ByWorkers, Scan, Tables

HISTORY_DAYS = 7
"""A value counts as unseen when it did not stand on one of so many days before."""


def raw_columns(cfg: Config) -> list[str]:
    """The columns of click_log that features are made of, once each."""
    spec = FeatureSpec.of(cfg.dataset, cfg.features)
    return list(dict.fromkeys([*FIXED, *spec.slots, *spec.numbers, *_carried(cfg).values()]))


def build_features(log: Scan, cfg: Config) -> ByWorkers:
    """Hashed slots, crosses and buckets, raw numbers and carried columns, a row an impression.

    log: `raw_columns` of click_log.
    """
    spec = FeatureSpec.of(cfg.dataset, cfg.features)
    carried = _carried(cfg)
    hashed = [pa.field(name, pa.int32()) for name in spec.hashed]
    numbers = [pa.field(f"n_{name}", pa.float32()) for name in spec.numbers]
    kept = [log.schema.field(source).with_name(name) for name, source in carried.items()]
    *fixed, day = (log.schema.field(name) for name in FIXED)
    make = partial(worker.featurize, spec=spec, carried=carried)
    return log.through(make, pa.schema([*fixed, *hashed, *numbers, *kept, day]))


def audit_features(tables: Tables, days: Sequence[date], cfg: Config) -> list[dict[str, Any]]:
    """The rows of feature_audit for these days; (slots + numbers + crosses) × bits rows a day reach the driver."""
    spec = FeatureSpec.of(cfg.dataset, cfg.features)
    window = {day - timedelta(days=back) for day in days for back in range(HISTORY_DAYS + 1)}
    rows = tables.scan("features", ["ds", *spec.hashed], days=sorted(window))
    counted = rows.through(worker.count_values, audit.COUNTS).rows()
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
