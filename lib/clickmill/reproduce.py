"""A job run again from its stored config and pinned tables, and whether the result is the same.

The tables that the run read are put into a warehouse of their own at the versions that it read (as links to
their files, not copies); the job runs there, and what it writes is compared with what it wrote then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from clickmill import local_delta
from clickmill.calibration import logistic
from clickmill.config import Config
from clickmill.errors import DifferentError, GateRefusedError, UsageError
from clickmill.job import Run, called, new_run_id
from clickmill.models import artifact
from clickmill.progress import Progress
from clickmill.tables import Tables

FOLDER = "_reproduced"
"""Of a warehouse: runs that are being reproduced."""
TOLERANCE = 1e-4
"""max |Δp| of a model that is the same for people, if not to the bit."""
ROWS_SCORED = 100_000
OF_THE_RUN = {
    "models": {"run_id", "seconds", "artifact", "versions", "training", "digest", "bytes"},
    "decisions": {"run_id", "at"},
}
"""What may differ between two runs that do the same, elsewhere the run's id alone; models are compared apart."""


@dataclass(frozen=True)
class Finding:
    """One table, or model, of the run and of its reproduction."""

    what: str
    same: bool
    detail: str

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{'same' if self.same else 'different'}: {self.what}: {self.detail}"


def reproduce(tables: Tables, run_id: str, *, progress: Progress) -> list[Finding]:
    """Runs the job of `run_id` again, aside, and compares.

    Raises UsageError for a run that cannot be reproduced, MissingTableError
    where a version that it read is gone, and what the job itself raises.
    """
    row = _run(tables, run_id)
    read, written = (
        {name: version for name, version in json.loads(row[column] or "{}").items() if name != "runs"}
        for column in ("versions_in", "versions_out")
    )
    aside = Path(tables.warehouse, FOLDER, run_id)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, version in read.items():
            local_delta.link(tables.path(name), str(aside / name), version)
        again = _again(tables, row, aside, progress)
        progress.say(f"{row['job']} of {row['ds']} runs again, on {_listed(read)}")
        with suppress(GateRefusedError):
            again.job.main(again)
        return list(_compared(tables, again.tables, written, run_id))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_same(findings: Sequence[Finding]) -> None:
    """Raises DifferentError unless all are the same."""
    different = [one.sentence for one in findings if not one.same]
    if different:
        raise DifferentError("; ".join(different))


def _run(tables: Tables, run_id: str) -> dict[str, Any]:
    """The row that says how the run ended."""
    if not tables.is_local:
        raise UsageError(
            f"reproduce: {tables.warehouse} is not on this machine's disk: only such a one is supported"
        )
    rows = tables.rows("runs", where={"run_id": [run_id]})
    if not rows:
        raise UsageError(f"reproduce {run_id}: {tables.path('runs')} has no such run")
    done = [row for row in rows if row["status"] in ("done", "refused")]
    if not done:
        raise UsageError(f"reproduce {run_id}: the run has not ended well: it is {rows[-1]['status']}")
    if done[0]["job"] == "pipeline":
        rest = {row["run_id"]: row["job"] for row in tables.rows("runs") if row["run_id"] > run_id}
        known = ", ".join(f"{job} {one}" for one, job in sorted(rest.items()) if job != "pipeline")
        raise UsageError(f"reproduce {run_id}: a pipeline's steps are runs of their own; later ones: {known}")
    return done[0]


def _again(tables: Tables, row: Mapping[str, Any], aside: Path, progress: Progress) -> Run:
    stored = json.loads(row["config"])
    cfg = Config.model_validate(
        stored | {"warehouse": str(aside), "artifacts": None, "report": None, "spark": {}, "mlflow": None}
    )
    run_id = new_run_id()
    return Run(
        job=called(row["job"]),
        cfg=cfg,
        spark=tables.spark,
        tables=Tables(tables.spark, str(aside), run_id=run_id),
        run_id=run_id,
        ds=row["ds"],
        days=tuple(date.fromisoformat(day) for day in json.loads(row["days"])),
        models=tuple(json.loads(row["models"] or "null") or cfg.models),
        dry_run=False,
        progress=progress,
        is_reproduction=True,
    )


def _compared(then: Tables, now: Tables, written: Mapping[str, int], run_id: str) -> Iterator[Finding]:
    for name, version in written.items():
        made = now.versions_out.get(name)
        if made is None:
            yield Finding(name, same=False, detail="was written then, and not now")
            continue
        first = _own(then, name, version, run_id)
        second = _own(now, name, made, now.run_id)
        yield _rows_compared(name, first, second)
        if name == "models":
            yield from _models_compared(now, first, second)


def _own(tables: Tables, name: str, version: int, run_id: str) -> DataFrame:
    """The rows of the partitions that a run wrote."""
    frame = tables.read(name, version=version)
    parts = local_delta.added(tables.path(name), version, run_id)
    if not parts or not parts[0]:
        return frame.where(F.col("run_id") == run_id) if "run_id" in frame.columns else frame
    keys = list(parts[0])
    wanted = tables.spark.createDataFrame([tuple(part.values()) for part in parts], keys)
    typed = wanted.select(*(F.col(key).cast(frame.schema[key].dataType).alias(key) for key in keys))
    return frame.join(F.broadcast(typed), keys, "left_semi")


def _rows_compared(name: str, first: DataFrame, second: DataFrame) -> Finding:
    columns = sorted(set(first.columns) | set(second.columns))
    lacking = [column for column in columns if column not in first.columns or column not in second.columns]
    if lacking:
        return Finding(name, same=False, detail=f"columns {lacking} are in one of the two only")
    compared = [column for column in columns if column not in OF_THE_RUN.get(name, {"run_id"})]
    one, other = first.select(*compared), second.select(*compared)
    rows, gone = (one.count(), other.count()), one.exceptAll(other)
    lost = gone.count()
    if rows[0] == rows[1] and not lost:
        return Finding(name, same=True, detail=f"{rows[0]:,} rows, to the bit")
    found = rows[1] - rows[0] + lost
    example = next(iter((gone if lost else other.exceptAll(one)).limit(1).toArrow().to_pylist()))
    shown = ", ".join(f"{key}={value!r}" for key, value in example.items())
    told = f"{lost:,} rows were there then and not now, {found:,} now and not then, such as {shown}"
    return Finding(name, same=False, detail=told[:600])


def _models_compared(now: Tables, first: DataFrame, second: DataFrame) -> Iterator[Finding]:
    then = {row["name"]: row for row in first.toArrow().to_pylist()}
    for row in second.toArrow().to_pylist():
        name = row["name"]
        if name not in then:
            continue
        if row["digest"] == then[name]["digest"]:
            yield Finding(f"model {name}", same=True, detail="to the bit")
            continue
        gap = _gap(now, then[name]["artifact"], row["artifact"])
        told = f"max |Δp| {gap:.1e} on {ROWS_SCORED:,} rows at most, tolerance {TOLERANCE:g}"
        yield Finding(f"model {name}", same=gap <= TOLERANCE, detail=told)


def _gap(tables: Tables, first: str, second: str) -> float:
    """The largest difference of p_sampled on rows that the models were trained on."""
    one, other = artifact.load(Path(first)), artifact.load(Path(second))
    columns = list(dict.fromkeys((*one.columns, *other.columns)))
    rows = tables.read("sample").select(*columns).limit(ROWS_SCORED).toArrow()
    gaps = [
        np.abs(logistic(one.margins(batch)) - logistic(other.margins(batch))).max()
        for batch in rows.to_batches()
        if batch.num_rows
    ]
    return float(max(gaps, default=0.0))


def _listed(versions: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "no tables"
