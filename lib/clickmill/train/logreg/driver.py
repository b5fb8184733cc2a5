"""Trains one logistic regression from `sample` and saves it. Spark only starts the ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa

from clickmill.config import Config
from clickmill.models.logreg import column_slots, feature_columns
from clickmill.specs import LogregSpec
from clickmill.split import Stretches
from clickmill.tables import Tables
from clickmill.train.logreg import worker
from clickmill.train.logreg.warm import start_of
from clickmill.train.logreg.worker import Fitted, Task
from clickmill.train.outcome import Outcome, keep
from clickmill.train.ring import Ring
from clickmill.train.sampled import Source
from clickmill.train.source import on_ranks
from clickmill.train.watch import Say, named


def train(
    tables: Tables,
    cfg: Config,
    *,
    name: str,
    ds: date,
    stretches: Stretches,
    dry_run: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Trains model `name` of the config and returns its row of `models`, its artifact saved.

    Reads the pinned versions of `sample` (train stretch) and `features` (validation stretch). Raises
    NoRowsError, KeepRateError, DegenerateLabelsError for data that cannot be trained on,
    MissingTableError, ConfigError for a warm start that cannot be made, NotEnoughSlotsError, RankError.
    `dry_run`: trains, saves nothing. `say` is told what a warm start begins with, and how far a long training is.
    """
    spec = cfg.models[name]
    assert isinstance(spec, LogregSpec)
    start = time.perf_counter()
    columns = feature_columns(spec, cfg.dataset)
    begin = start_of(tables, spec, name=name, ds=ds, train=stretches.train)
    tell = named(say, name)
    if begin is not None and tell is not None:
        tell(begin.line)
    task = Task(spec, columns, column_slots(columns, cfg.dataset), begin.weights if begin else None)
    fitted = fit(tables, task, stretches=stretches, sample_id=cfg.sampling.sample_id, say=tell)
    if begin is not None:
        fitted.figures["warm_start"] = begin.figures
    outcome = Outcome(
        fitted.keep_rate,
        fitted.figures,
        worker.arrays_of(fitted, spec),
        "trained" if fitted.figures["converged"] else "not converged",
    )
    seconds = time.perf_counter() - start
    return keep(tables, cfg, outcome, name=name, ds=ds, stretches=stretches, seconds=seconds, dry_run=dry_run)


def fit(tables: Tables, task: Task, *, stretches: Stretches, sample_id: str, say: Say | None = None) -> Fitted:
    """Runs the ranks on the rows of `sample` and `features`, through files, or through Spark where it must be."""
    told = on_ranks(
        tables,
        partial(_fit, task=task),
        columns=task.columns,
        stretches=stretches,
        sample_id=sample_id,
        ranks=task.spec.ranks,
        say=say,
    )
    return worker.fitted_from(told)


def _fit(source: Source, ring: Ring, say: Say | None, *, task: Task) -> Iterator[pa.RecordBatch]:
    return worker.rows_of(worker.fit(source, ring, task, say=say), ring.rank)
