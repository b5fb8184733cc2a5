"""Trains gradient-boosted trees from `sample` and saves them. Spark only starts the ranks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from clickmill import __version__
from clickmill.config import PERIOD, Config, digest
from clickmill.errors import ConfigError, nearest
from clickmill.histories.driver import histories, history_days, lacking
from clickmill.models.xgboost import Inputs, encoded_columns, encoder_of, inputs_of
from clickmill.session import is_local
from clickmill.specs import XgboostSpec, duration
from clickmill.split import Stretch, Stretches
from clickmill.tables import Tables
from clickmill.train import driver, gpu
from clickmill.train.outcome import Outcome, keep
from clickmill.train.ring import Ring
from clickmill.train.sampled import Source
from clickmill.train.source import on_ranks
from clickmill.train.watch import Say, named
from clickmill.train.xgboost import worker
from clickmill.train.xgboost.checkpoint import Checkpoint
from clickmill.train.xgboost.warm import start_of
from clickmill.train.xgboost.worker import Fitted, Task

CHECKPOINTS = ".checkpoints"


@dataclass
class Grown:
    """Trained trees, and how rows are encoded for them as long as histories last."""

    fitted: Fitted
    inputs: Inputs
    figures: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    """The counts that travel with the model."""
    read: tuple[str, ...]
    """Tables."""
    encodings: dict[str, Any] | None
    """See `Card.encodings`."""
    checkpoints: Path

    def forget(self) -> None:
        """Removes the checkpoints, once the model is saved."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


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

    Reads the pinned versions of `sample` (train stretch), `features` (validation stretch) and `encodings` (both,
    and the time before that they look back to). Raises NoRowsError, KeepRateError, DegenerateLabelsError for data
    that cannot be trained on, MissingColumnsError for values that were not counted, MissingTableError, ConfigError
    for columns and warm starts that do not fit, NotEnoughSlotsError, RankError.
    `dry_run`: trains, saves nothing. `say` is told how far the training is.
    """
    spec, start = cfg.models[name], time.perf_counter()
    assert isinstance(spec, XgboostSpec)
    tell = named(say, name)
    with grown(tables, cfg, spec, name=name, ds=ds, stretches=stretches, dry_run=dry_run, say=tell) as found:
        outcome = Outcome(
            found.fitted.keep_rate,
            found.figures,
            found.arrays,
            "trained",
            further=found.fitted.booster,
            tables=found.read,
            encodings=found.encodings,
        )
        seconds = time.perf_counter() - start
        row = keep(tables, cfg, outcome, name=name, ds=ds, stretches=stretches, seconds=seconds, dry_run=dry_run)
        found.forget()
    return row


@contextmanager
def grown(
    tables: Tables,
    cfg: Config,
    spec: XgboostSpec,
    *,
    name: str,
    ds: date,
    stretches: Stretches,
    dry_run: bool,
    say: Say | None,
) -> Iterator[Grown]:
    """Trees of model `name` of the config by `spec`, the model's or a part of it; raises as `train` does."""
    where = f"models.{name}" if spec == cfg.models[name] else f"models.{name}.trees"
    ranks = driver.ranks_for(tables.spark, spec.ranks)
    if spec.device == "cuda" and is_local(tables.spark):  # (elsewhere the ranks look on their own machines)
        gpu.present()
    encodings = _encodings(cfg, spec, stretches)
    if encodings and say is not None:
        for line in lacking(tables, _days(encodings, stretches)):
            say(line)
    read = ("sample", "features", "encodings") if encodings else ("sample", "features")
    with _known(tables, cfg, encodings, stretches) as folder:
        encoder = encoder_of(encodings, folder=folder) if encodings else None
        inputs = inputs_of(spec, cfg.dataset, encoder)
        _check(where, spec, inputs)
        warm = start_of(tables, spec, inputs, train=stretches.train)
        place = _place(tables, cfg, name, ds, stretches, read, ranks, warm.figures)
        begin = Checkpoint.latest(place) or warm.checkpoint
        if begin.losses and say is not None:
            say(f"goes on after round {len(begin.losses)}, where an earlier run stopped")
        task = Task(
            spec,
            inputs,
            begin,
            None if begin.losses else warm.keep_rate,
            None if dry_run else str(place),
        )
        told = on_ranks(
            tables,
            partial(_fit, task=task),
            columns=inputs.columns,
            stretches=stretches,
            sample_id=cfg.sampling.sample_id,
            ranks=ranks,
            say=say,
        )
        fitted = worker.fitted_from(told)
        arrays = encoder.arrays(_micros(stretches.test)) if encoder else {}
        figures = fitted.figures | ({"warm_start": warm.figures} if warm.figures else {})
        yield Grown(fitted, inputs, figures, arrays, read, encodings or None, place)


def _fit(source: Source, ring: Ring, say: Say | None, *, task: Task) -> Iterator[pa.RecordBatch]:
    if task.spec.device == "cuda":
        task = replace(task, device=gpu.device(ring.rank, _addresses(), gpu.present()))
    return worker.rows_of(worker.fit(source, ring, task, say=say), ring.rank)


def _addresses() -> list[str]:
    """The GPUs that Spark gave this task."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None, "a rank is a task of Spark's"
    given = context.resources().get("gpu")
    return list(given.addresses) if given else []


def _encodings(cfg: Config, spec: XgboostSpec, stretches: Stretches) -> dict[str, Any]:
    """How values are encoded, as the card says it; empty where none are."""
    columns = encoded_columns(spec, cfg.encodings, cfg.dataset)
    if not columns:
        return {}
    period = duration(PERIOD[cfg.encodings.period])
    return {
        "columns": list(columns),
        "period": cfg.encodings.period,
        "window": duration(spec.history) // period,
        "lag": -(-duration(cfg.split.label_delay) // period),
        "strength": spec.strength,
        "as_of": stretches.test.end.isoformat(),
    }


def _known(tables: Tables, cfg: Config, encodings: dict[str, Any], stretches: Stretches) -> Any:
    """The histories of all that is encoded, from what train time looks back to until the end of test time."""
    if not encodings:
        return nullcontext()
    return histories(tables, cfg, encodings["columns"], _days(encodings, stretches))


def _days(encodings: Mapping[str, Any], stretches: Stretches) -> tuple[date, ...]:
    """All that the rows of the three stretches look back to, and the stretches' own."""
    reach = (encodings["window"] + encodings["lag"]) * duration(PERIOD[encodings["period"]])
    return history_days(Stretch(stretches.train.start, stretches.test.end), reach)


def _check(where: str, spec: XgboostSpec, inputs: Inputs) -> None:
    """Raises ConfigError where there is nothing to eat, or a constraint names a column that is not eaten."""
    if not inputs.names:
        raise ConfigError(f"{where}.columns: no numbers, and no slots or crosses that `encodings` counts")
    for column in spec.monotone:
        if column not in inputs.names:
            known = ", ".join(inputs.names)
            raise ConfigError(
                f"{where}.monotone: {column!r} is no column of this model{nearest(column, inputs.names)}; "
                f"its columns are {known}"
            )


def _place(
    tables: Tables,
    cfg: Config,
    name: str,
    ds: date,
    stretches: Stretches,
    read: tuple[str, ...],
    ranks: int,
    warm: dict[str, Any],
) -> Path:
    """The folder of this training's checkpoints: one that reads as little as another version has another."""
    versions = {table: tables.version(table) for table in read}
    spec = cfg.models[name].model_dump(mode="json")
    own = [name, ds, spec, stretches.to_dict(), versions, cfg.sampling.sample_id, ranks, warm, __version__]
    return Path(cfg.artifact_root, CHECKPOINTS, digest([*own, tables.warehouse]))


def _micros(test: Stretch) -> int:
    """The moment of the artifact's own counts: the end of test time, in microseconds since 1970."""
    return int(test.end.replace(tzinfo=UTC).timestamp() * 1_000_000)
