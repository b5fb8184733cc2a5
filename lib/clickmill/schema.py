"""One schema a table: its columns, what it is partitioned by, and what must hold for every row.

`Tables` creates tables from these and checks every write against them. A table with `extra` takes
further columns whose names start with one of those prefixes (`""`: any), so that a data set brings
its own slots, crosses and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

STRING, INT, LONG, DOUBLE = pa.string(), pa.int32(), pa.int64(), pa.float64()
DOUBLES = pa.list_(DOUBLE)
TIME, DAY, TINY, FLAG = pa.timestamp("us", tz="UTC"), pa.date32(), pa.int8(), pa.bool_()

STAGES = ("p_sampled", "prior", "calibrated")
"""What the judge looks at: p as the model said it, after the prior correction, after the calibrator."""
LAST_STAGE = STAGES[-1]
EVERYTHING = "all"
"""The slice of all test rows."""
DAY_SLICE = "day="
"""Begins the name of the slice of one test day."""


class OneOf(NamedTuple):
    """A rule: the column holds one of these values."""

    column: str
    values: tuple[str | int, ...]

    @property
    def sql(self) -> str:
        """As Delta's CHECK constraint says it."""
        return f"{self.column} IN ({', '.join(map(repr, self.values))})"

    def holds(self, rows: pa.RecordBatch) -> bool:
        """Whether it holds for every row; not for a null."""
        column = rows.column(self.column)
        return _everywhere(pc.is_in(column, pa.array(self.values, column.type)))


class Between(NamedTuple):
    """A rule: the column lies in [least, most], or in (least, most] where it is to be above."""

    column: str
    least: float
    most: float | None = None
    above: bool = False

    @property
    def sql(self) -> str:
        """As Delta's CHECK constraint says it."""
        low = f"{self.column} {'>' if self.above else '>='} {self.least:g}"
        return low if self.most is None else f"{low} AND {self.column} <= {self.most:g}"

    def holds(self, rows: pa.RecordBatch) -> bool:
        """Whether it holds for every row; not for a null or NaN."""
        column = rows.column(self.column)
        inside = (pc.greater if self.above else pc.greater_equal)(column, self.least)
        if self.most is not None:
            inside = pc.and_(inside, pc.less_equal(column, self.most))
        return _everywhere(inside)


def _everywhere(held: pa.Array) -> bool:
    return not pc.any(pc.invert(held.fill_null(False))).as_py()


Rule = OneOf | Between


@dataclass(frozen=True)
class Table:
    """Columns as name to Arrow type; `required` are never null; `checks` are rules by name."""

    columns: dict[str, pa.DataType]
    partition_by: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    checks: dict[str, Rule] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    @property
    def properties(self) -> dict[str, str]:
        """Delta's table properties: the constraints, and how many columns get minima and maxima in the log.

        Delta would gather those of 32 in every task; nothing asks for more than an impression's id and time.
        """
        constraints = {f"delta.constraints.{key}": rule.sql for key, rule in self.checks.items()}
        return constraints | {"delta.dataSkippingNumIndexedCols": "2" if "event_id" in self.columns else "0"}

    def takes(self, column: str) -> bool:
        """Whether the table has such a column or may get it."""
        return column in self.columns or any(column.startswith(prefix) for prefix in self.extra)

    def broken(self, rows: pa.RecordBatch) -> str | None:
        """Which rule these rows break, in words; None where they keep them all."""
        for column in self.required:
            if rows.column(column).null_count:
                return f"{column} is null"
        for key, rule in self.checks.items():
            if not rule.holds(rows):
                return f"a row breaks {key} ({rule.sql})"
        return None


_LABEL: dict[str, Rule] = {"label_is_0_or_1": OneOf("label", (0, 1))}
_IMPRESSION = {"event_id": STRING, "event_time": TIME, "label": TINY, "ds": DAY}
_IMPRESSION_REQUIRED = ("event_id", "event_time", "label", "ds")
_FEATURE_PREFIXES = ("s_", "x_", "n_", "e_", "c_")
_MODEL_KEYS = {"ds": DAY, "model_id": STRING, "run_id": STRING}

TABLES: dict[str, Table] = {
    "raw_log": Table(
        columns={"event_id": STRING, "time": TIME, "click": TINY, "p_true": DOUBLE, "ds": DAY},
        partition_by=("ds",),
        required=("event_id", "time", "click", "ds"),
        extra=("",),
    ),
    "click_log": Table(
        columns=dict(_IMPRESSION),
        partition_by=("ds",),
        required=_IMPRESSION_REQUIRED,
        checks=_LABEL,
        extra=("",),
    ),
    "rejects": Table(
        columns={
            "source": STRING,
            "line": LONG,
            "reason": STRING,
            "text": STRING,
            "run_id": STRING,
            "ds": DAY,
        },
        partition_by=("ds",),
        required=("source", "reason", "ds"),
    ),
    "features": Table(
        columns=dict(_IMPRESSION),
        partition_by=("ds",),
        required=_IMPRESSION_REQUIRED,
        checks=_LABEL,
        extra=_FEATURE_PREFIXES,
    ),
    "feature_audit": Table(
        columns={
            "slot": STRING,
            "rows": LONG,
            "distinct": LONG,
            "missing_share": DOUBLE,
            "unseen_share": DOUBLE,
            "bits": INT,
            "load": DOUBLE,
            "collision_mass": DOUBLE,
            "largest_bucket_share": DOUBLE,
            "ds": DAY,
        },
        partition_by=("ds",),
        required=("slot", "rows", "distinct", "bits", "ds"),
    ),
    "encodings": Table(
        columns={
            "slot": STRING,
            "hash": INT,
            "period_start": TIME,
            "impressions": LONG,
            "clicks": LONG,
            "ds": DAY,
        },
        partition_by=("ds",),
        required=("slot", "hash", "period_start", "impressions", "clicks", "ds"),
        checks={"impressions_are_there": Between("impressions", 1), "clicks_not_negative": Between("clicks", 0)},
    ),
    "sample": Table(
        columns={**_IMPRESSION, "keep_rate": DOUBLE, "weight": DOUBLE, "sample_id": STRING},
        partition_by=("ds", "sample_id"),
        required=(*_IMPRESSION_REQUIRED, "keep_rate", "weight", "sample_id"),
        checks={
            **_LABEL,
            "keep_rate_in_0_1": Between("keep_rate", 0, 1, above=True),
            "weight_from_1": Between("weight", 1),
        },
        extra=_FEATURE_PREFIXES,
    ),
    "models": Table(
        columns={
            "model_id": STRING,
            "name": STRING,
            "kind": STRING,
            "spec": STRING,
            "stretches": STRING,
            "keep_rate": DOUBLE,
            "correction": STRING,
            "versions": STRING,
            "artifact": STRING,
            "digest": STRING,
            "bytes": LONG,
            "rows": LONG,
            "clicks": LONG,
            "training": STRING,
            "status": STRING,
            "seconds": DOUBLE,
            "run_id": STRING,
            "ds": DAY,
        },
        partition_by=("ds", "name"),
        required=("model_id", "name", "kind", "artifact", "digest", "ds"),
    ),
    "calibrations": Table(
        columns={
            **_MODEL_KEYS,
            "calibration_id": STRING,
            "artifact": STRING,
            "method": STRING,
            "parameters": STRING,
            "stretch": STRING,
            "candidates": STRING,
            "rows": LONG,
            "clicks": LONG,
        },
        partition_by=("ds", "model_id"),
        required=("ds", "model_id", "calibration_id", "method", "parameters"),
    ),
    "predictions": Table(
        columns={
            "event_id": STRING,
            "label": TINY,
            "p_sampled": DOUBLE,
            "p": DOUBLE,
            "calibration_id": STRING,
            "model_id": STRING,
            "ds": DAY,
        },
        partition_by=("ds", "model_id"),
        required=("event_id", "label", "p_sampled", "p", "model_id", "ds"),
        checks={
            **_LABEL,
            "p_in_0_1": Between("p", 0, 1),
            "p_sampled_in_0_1": Between("p_sampled", 0, 1),
        },
    ),
    "metrics": Table(
        columns={
            **_MODEL_KEYS,
            "stage": STRING,
            "slice": STRING,
            "metric": STRING,
            "traffic": STRING,
            "value": DOUBLE,
            "low": DOUBLE,
            "high": DOUBLE,
            "n": LONG,
            "clicks": LONG,
            "reason": STRING,
        },
        partition_by=("ds", "model_id"),
        required=("ds", "model_id", "stage", "slice", "metric", "traffic"),
        checks={"stage_known": OneOf("stage", STAGES)},
    ),
    "reliability": Table(
        columns={
            **_MODEL_KEYS,
            "stage": STRING,
            "bin": INT,
            "p_mean": DOUBLE,
            "ctr": DOUBLE,
            "n": DOUBLE,
            "low": DOUBLE,
            "high": DOUBLE,
        },
        partition_by=("ds", "model_id"),
        required=("ds", "model_id", "stage", "bin"),
    ),
    "replicates": Table(
        columns={
            **_MODEL_KEYS,
            "slice": STRING,
            "calibration_id": STRING,
            "judged": STRING,
            "unit": STRING,
            "units": INT,
            "seed": LONG,
            **dict.fromkeys(("weight", "clicks", "p", "loss", "square"), DOUBLES),
        },
        partition_by=("ds", "model_id"),
        required=("ds", "model_id", "slice", "calibration_id", "judged"),
    ),
    "comparisons": Table(
        columns={
            **_MODEL_KEYS,
            "other_id": STRING,
            "slice": STRING,
            "metric": STRING,
            "difference": DOUBLE,
            "low": DOUBLE,
            "high": DOUBLE,
            "standard_error": DOUBLE,
            "n": LONG,
            "clicks": LONG,
            "q_value": DOUBLE,
            "verdict": STRING,
            "reason": STRING,
        },
        partition_by=("ds", "model_id"),
        required=("ds", "model_id", "other_id", "slice", "metric"),
    ),
    "decisions": Table(
        columns={
            "ds": DAY,
            "at": TIME,
            "run_id": STRING,
            "challenger": STRING,
            "challenger_digest": STRING,
            "champion_before": STRING,
            "champion_before_digest": STRING,
            "champion": STRING,
            "champion_digest": STRING,
            "champion_model": STRING,
            "promoted": FLAG,
            "promotion": LONG,
            "rules": STRING,
        },
        required=("ds", "at", "run_id", "promoted"),
    ),
    "drift": Table(
        columns={
            "ds": DAY,
            "run_id": STRING,
            "against": STRING,
            "column": STRING,
            "statistic": STRING,
            "value": DOUBLE,
            "low": DOUBLE,
            "high": DOUBLE,
            "verdict": STRING,
        },
        partition_by=("ds",),
        required=("ds", "against", "column", "statistic", "value", "verdict"),
        checks={"verdict_known": OneOf("verdict", ("none", "watch", "retrain"))},
    ),
    "runs": Table(
        columns={
            "run_id": STRING,
            "job": STRING,
            "ds": DAY,
            "days": STRING,
            "models": STRING,
            "status": STRING,
            "at": TIME,
            "host": STRING,
            "process": STRING,
            "exit_code": INT,
            "error": STRING,
            "config": STRING,
            "config_digest": STRING,
            "code_version": STRING,
            "versions_in": STRING,
            "versions_out": STRING,
            "rows_in": LONG,
            "rows_out": LONG,
            "rejected": LONG,
            "other_day": LONG,
            "seconds": DOUBLE,
            "driver_peak_mb": DOUBLE,
            "workers_peak_mb": DOUBLE,
        },
        required=("run_id", "job", "status", "at"),
        checks={"status_known": OneOf("status", ("running", "done", "failed", "refused", "lost"))},
    ),
}
"""Every table that clickmill writes, by name."""
