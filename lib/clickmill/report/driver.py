"""The small tables of a day → `ReportData`, and the page into its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyarrow import fs
from pyspark.sql import functions as F

from clickmill.errors import PlatformError
from clickmill.report.data import ReportData, RunInfo
from clickmill.report.page import render
from clickmill.report.shape import report_data
from clickmill.schema import DAY_SLICE, EVERYTHING, LAST_STAGE, TABLES
from clickmill.tables import Tables

HISTORY_DAYS = 28
"""NE by day goes back so far."""


def collect(
    tables: Tables,
    *,
    ds: date,
    days: Sequence[date],
    dataset: str,
    run: RunInfo,
    stretches: Mapping[str, tuple[datetime, datetime]],
    model_ids: Sequence[str] | None = None,
    decision: Mapping[str, Any] | None = None,
) -> ReportData:
    """What the report of `ds` shows, at this run's pinned versions.

    days: the window, whose rejects and newest feature audit are shown. model_ids: those of the
    judged models that are shown; all unless given. decision: the gate's, as `--json` shows it.
    A table that is not there leaves its section empty.
    What comes to the driver is bounded by models × stages × metrics, models² × slices, slots × bits and reasons.
    """
    shown_only = {} if model_ids is None else {"model_id": model_ids}
    metrics = tables.rows_if_any("metrics", days=[ds], where={"slice": [EVERYTHING], **shown_only})
    shown = sorted({row["model_id"] for row in metrics})
    back = [ds - timedelta(days=step) for step in range(HISTORY_DAYS)]
    names = {row["model_id"]: row["name"] for row in tables.rows_if_any("models", columns=("model_id", "name"))}
    wanted = {names.get(model_id) for model_id in shown}
    same_name = sorted(model_id for model_id, name in names.items() if name in wanted) + shown
    in_slices = {"metric": ["ne", "calibration_ratio"], "stage": [LAST_STAGE]}
    history = {**in_slices, "model_id": same_name}
    return report_data(
        ds=ds,
        dataset=dataset,
        run=run,
        metrics=metrics,
        history=[
            row
            for row in tables.rows_if_any("metrics", days=back, where=history)
            if row["slice"].startswith(DAY_SLICE)
        ],
        reliability=tables.rows_if_any("reliability", days=[ds], where={"model_id": shown}),
        models=tables.rows_if_any("models", where={"model_id": same_name}),
        calibrations=tables.rows_if_any("calibrations", days=[ds], where={"model_id": shown}),
        audit=_newest_audit(tables, days),
        rejects=_rejects(tables, days),
        rejects_days=days,
        versions={name: tables.version(name) for name in TABLES if name != "runs" and tables.exists(name)},
        stretches=stretches,
        comparisons=tables.rows_if_any(
            "comparisons",
            days=[ds],
            where={"model_id": shown, "other_id": shown, "metric": ["ne"]},
        ),
        slices=tables.rows_if_any("metrics", days=[ds], where={**in_slices, "model_id": shown}),
        decision=decision,
    )


def save(data: ReportData, path: str) -> str:
    """Writes the page to a local path or URI, beside its place first, and returns where it is."""
    try:
        place, inner = fs.FileSystem.from_uri(path)
        folder, _, name = inner.rpartition("/")
        place.create_dir(folder, recursive=True)
        aside = f"{folder}/.{name}.{data.run.run_id}"
        with place.open_output_stream(aside) as out:
            out.write(render(data).encode("utf-8"))
        place.move(aside, inner)
    except (OSError, pa.ArrowInvalid) as error:
        raise PlatformError(
            f"report: cannot be written to {path!r}: {error}; set `report` to another path"
        ) from error
    return path


def _newest_audit(tables: Tables, days: Sequence[date]) -> list[dict[str, Any]]:
    """The audit of the window's last day that has one."""
    audit = tables.rows_if_any("feature_audit", days=days)
    newest = max((row["ds"] for row in audit), default=None)
    return [row for row in audit if row["ds"] == newest]


def _rejects(tables: Tables, days: Sequence[date]) -> list[dict[str, Any]]:
    """A row a reason: how many lines, and the first line of the first source as its example."""
    if not tables.exists("rejects"):
        return []
    rejects = tables.read("rejects", days=days)
    example = F.min(F.struct("source", "line", F.substring("text", 1, 200).alias("text"))).alias("example")
    counted = rejects.groupBy("reason").agg(F.count(F.lit(1)).alias("lines"), example)
    wanted = counted.select("reason", "lines", "example.source", "example.line", "example.text")
    return [row.asDict() for row in wanted.collect()]
