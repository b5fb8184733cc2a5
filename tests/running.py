"""A job's own code on a test's tables: no command line, no row of `runs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from clickmill.config import Config
from clickmill.progress import Progress

QUICK_JVM = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
"""For the environment of a process that starts Spark for a moment: its JVM compiles quickly."""

if TYPE_CHECKING:
    from clickmill.job import Job, Run
    from clickmill.tables import Tables


def prepared(tables: Tables, job: Job, cfg: Config, days: Sequence[date], models: tuple[str, ...] = ()) -> Run:
    """A run of the job for the days, not yet started."""
    from clickmill.job import Run

    return Run(
        job=job,
        cfg=cfg,
        spark=tables.spark,
        tables=tables,
        run_id=tables.run_id,
        ds=days[-1],
        days=tuple(days),
        models=models,
        dry_run=tables.dry_run,
        progress=Progress(quiet=True),
    )


def run(tables: Tables, job: Job, cfg: Config, days: Sequence[date], models: tuple[str, ...] = ()) -> Run:
    """Runs the job for the days; the run, for its counts and result."""
    known = prepared(tables, job, cfg, days, models)
    job.main(known)
    return known
