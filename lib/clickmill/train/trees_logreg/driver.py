"""Trains trees on the first part of train time, a logistic regression on their leaves on its end; saves both."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa

from clickmill.config import Config
from clickmill.errors import ConfigError
from clickmill.models.leaves import Leaves
from clickmill.models.logreg import column_slots, feature_columns
from clickmill.specs import TreesLogregSpec
from clickmill.split import HOUR, Stretch, Stretches
from clickmill.tables import Tables
from clickmill.train.logreg import worker as linear
from clickmill.train.outcome import Outcome, keep
from clickmill.train.ring import Ring
from clickmill.train.sampled import Source
from clickmill.train.source import on_ranks
from clickmill.train.trees_logreg import worker
from clickmill.train.trees_logreg.worker import Task
from clickmill.train.watch import Say, named
from clickmill.train.xgboost.driver import grown


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

    Reads and raises what `train.xgboost` and `train.logreg` do; each part needs rows with both labels in its own
    end of train time. `dry_run`: trains, saves nothing. `say` is told how far the training is.
    """
    spec, start = cfg.models[name], time.perf_counter()
    assert isinstance(spec, TreesLogregSpec)
    early, late = halves(stretches, spec.linear_share)
    tell = named(say, name)
    if tell is not None:
        tell(f"trees on {early.train}, the linear part on {late.train}")
    with grown(tables, cfg, spec.trees, name=name, ds=ds, stretches=early, dry_run=dry_run, say=tell) as trees:
        leaves = Leaves(trees.fitted.booster, trees.inputs)
        own = feature_columns(spec.linear, cfg.dataset)
        columns = (*own, *leaves.names)
        task = Task(leaves, linear.Task(spec.linear, columns, column_slots(columns, cfg.dataset)))
        told = on_ranks(
            tables,
            partial(_fit, task=task),
            columns=tuple(dict.fromkeys((*own, *trees.inputs.columns))),
            stretches=late,
            sample_id=cfg.sampling.sample_id,
            ranks=spec.linear.ranks,
            say=tell,
        )
        fitted = linear.fitted_from(told)
        figures = _together(trees.figures, fitted.figures)
        outcome = Outcome(
            fitted.keep_rate,
            figures,
            linear.arrays_of(fitted, spec.linear) | trees.arrays,
            "trained" if figures["converged"] else "not converged",
            further=trees.fitted.booster,
            tables=trees.read,
            encodings=trees.encodings,
        )
        seconds = time.perf_counter() - start
        row = keep(tables, cfg, outcome, name=name, ds=ds, stretches=stretches, seconds=seconds, dry_run=dry_run)
        trees.forget()
    return row


def halves(stretches: Stretches, share: float) -> tuple[Stretches, Stretches]:
    """The stretches of the trees, and those of the linear part: train time is cut at the full hour nearest to
    `share` of it before its end. Raises ConfigError where it has one hour only."""
    start, end = stretches.train
    hours = (end - start) // HOUR
    if hours < 2:
        raise ConfigError(f"split.train: {hours}h cannot be shared by trees and a linear part: give it 2h or more")
    cut = end - min(max(round(hours * share), 1), hours - 1) * HOUR
    return stretches._replace(train=Stretch(start, cut)), stretches._replace(train=Stretch(cut, end))


def _fit(source: Source, ring: Ring, say: Say | None, *, task: Task) -> Iterator[pa.RecordBatch]:
    return linear.rows_of(worker.fit(source, ring, task, say=say), ring.rank)


def _together(trees: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of both parts; how long each took stands apart, since a card leaves it out."""
    both = {"trees": dict(trees), "linear": dict(own)}
    seconds = {part: figures.pop("seconds") for part, figures in both.items()}
    said = {name: own[name] for name in ("converged", "stopped", "iterations", "validation_ne", "train_ne")}
    counts = {name: trees[name] + own[name] for name in ("rows", "clicks")}
    return {**counts, **said, **both, "seconds": seconds}
