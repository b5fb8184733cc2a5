"""What one rank does: read and bin, grow trees chunk by chunk, judge each round, hand back. No Spark."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.errors import NoRowsError
from clickmill.models.trees import import_xgboost, moved
from clickmill.models.xgboost import Inputs
from clickmill.specs import XgboostSpec
from clickmill.train.clock import Clock
from clickmill.train.report import Row, collected, pieces, report
from clickmill.train.ring import BrokenRingError, Ring
from clickmill.train.sampled import Source, keep_rate_of, normalized, require_both_labels, told
from clickmill.train.watch import Say
from clickmill.train.xgboost import kernels
from clickmill.train.xgboost.blocks import Blocks, binned, bytes_of, written
from clickmill.train.xgboost.checkpoint import Checkpoint

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix

EXPLAINED = 1_000
"""Rows of validation time (of training, where it has none) that SHAP values are summed up over, about."""


@dataclass(frozen=True)
class Task:
    """All that a rank must know: sent to every rank."""

    spec: XgboostSpec
    inputs: Inputs
    start: Checkpoint = field(default_factory=Checkpoint)
    """Where an earlier run of the same training stopped, or the trees of a warm start."""
    warm_keep_rate: float | None = None
    """That the margins of a warm start's trees are at."""
    folder: str | None = None
    """Checkpoints are left there by the first rank."""
    device: str = "cpu"


@dataclass
class Fitted:
    """The trees and their figures; equal on every rank."""

    booster: bytes
    keep_rate: float
    figures: dict[str, Any] = field(default_factory=dict)


class Judged(NamedTuple):
    """Rows whose loss is followed: p's, from margins moved by `shift`, and Σ v, Σ v·y of all ranks' rows."""

    matrix: DMatrix
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    shift: float
    total: float
    clicks: float

    @classmethod
    def of(cls, matrix: DMatrix, blocks: Blocks, shift: float, ring: Ring) -> Judged:
        sums = ring.sum(np.array([blocks.weight.sum(), blocks.weight @ blocks.label]))
        return cls(matrix, blocks.label, blocks.weight, shift, float(sums[0]), float(sums[1]))

    def summed(self, booster: Booster) -> float:
        """Σ v · log-loss of this rank's rows."""
        margins = booster.predict(self.matrix, output_margin=True)[: len(self.label)]
        return float(kernels.log_loss(margins, self.shift, self.label, self.weight))


def fit(source: Source, ring: Ring, task: Task, *, say: Say | None = None) -> Fitted:
    """Trains on this rank's rows together with the other ranks; every rank gets the same trees.

    `say` is told of every batch read and every round. A rank without rows takes part. Raises NoRowsError,
    DegenerateLabelsError or KeepRateError on all ranks alike where the rows of all of them cannot be trained on,
    or none of validation time can tell when to stop.
    """
    import_xgboost()
    with tempfile.TemporaryDirectory(prefix="clickmill-trees-") as folder:
        return _fit(source, ring, task, Path(folder), say)


def _fit(source: Source, ring: Ring, task: Task, folder: Path, say: Say | None) -> Fitted:
    spec, clock = task.spec, Clock()
    rows = written(told(source.training(), say), task.inputs, folder / "training")
    seen = written(source.validation(), task.inputs, folder / "validation")
    clock.done("read")
    keep_rate = keep_rate_of(rows.keep_rates, rows.label, rows.weight, ring, spec.correction)
    number, clicks, weight, weighted_clicks, validated = ring.sum(
        np.array([len(rows), rows.label.sum(), rows.weight.sum(), rows.weight @ rows.label, len(seen)])
    )
    require_both_labels("xgboost", int(number), int(clicks))
    if spec.early_stopping_rounds is not None and not validated:
        raise NoRowsError(
            "xgboost: validation time, which tells when to stop, has no rows: build features for these days, or "
            "set early_stopping_rounds: null"
        )
    is_weighted = spec.correction == "weight"
    q = float(weighted_clicks / weight) if is_weighted else float(clicks / number)
    shift = 0.0 if is_weighted else math.log(keep_rate)
    cache = _cache(rows, seen, spec, folder, say)
    matrix = binned(rows, max_bin=spec.max_bin, weighted=is_weighted, cache=cache)
    other = binned(seen, max_bin=spec.max_bin, weighted=False, like=matrix, cache=cache)
    clock.done("bin")
    judged = (Judged.of(matrix, rows, shift, ring), Judged.of(other, seen, shift, ring))
    own_rate = 1.0 if is_weighted else keep_rate
    start = task.start
    if task.warm_keep_rate is not None and start.trees is not None:
        start = start._replace(trees=moved(start.trees, math.log(task.warm_keep_rate / own_rate)))
    grown = _grow(matrix, judged, ring, replace(task, start=start), q, say)
    clock.done("grow")
    best = grown.best(spec)
    booster = _cut(grown.booster, task.start.before + best + 1)
    explained = _explained(booster, seen if validated else rows, ring)
    clock.done("explain")
    figures = {
        "rows": int(number),
        "clicks": int(clicks),
        "base_rate": q,
        "rounds": best + 1,
        "rounds_before": task.start.before,
        "grown": len(grown.losses),
        "stops_early": spec.early_stopping_rounds is not None,
        "stopped": grown.reason(spec),
        "train_log_loss": grown.losses[best][0],
        "train_ne": _nes(grown.losses[best], judged)[0],
        "validation_rows": int(validated),
        "validation_clicks": int(judged[1].clicks),
        "validation_log_loss": grown.losses[best][1] if validated else None,
        "validation_ne": _nes(grown.losses[best], judged)[1],
        "history": [
            [training, validation if validated else None, *_nes((training, validation), judged)]
            for training, validation in grown.losses
        ],
        "columns": len(rows.names),
        "leaves": _leaves(booster),
        "gain": _importances(booster, "total_gain"),
        "cover": _importances(booster, "total_cover"),
        "shap": explained,
        "external_memory": cache is not None,
        "ranks": ring.size,
        "seconds": clock.seconds,
    }
    return Fitted(_raw(booster), keep_rate, figures)


def _cache(rows: Blocks, seen: Blocks, spec: XgboostSpec, folder: Path, say: Say | None) -> Path | None:
    """The folder for a rank's bins where they are more than its memory may hold, and a line that says so."""
    needed = bytes_of(rows) + bytes_of(seen)
    if needed <= spec.memory_mb * 2**20:
        return None
    if say is not None:
        say(f"{needed / 2**20:,.0f} MB of binned rows, more than memory_mb {spec.memory_mb}: kept on disk")
    return folder


@dataclass
class Grown:
    """Trees so far, and after each the log-loss of p on training and validation rows."""

    booster: Booster
    losses: list[tuple[float, float]]

    def best(self, spec: XgboostSpec) -> int:
        """The round after which validation time's loss was least; the last where nothing stops early."""
        if spec.early_stopping_rounds is None:
            return len(self.losses) - 1
        return int(np.argmin([loss for _, loss in self.losses]))

    def is_done(self, spec: XgboostSpec) -> bool:
        if len(self.losses) >= spec.rounds:
            return True
        patience = spec.early_stopping_rounds
        return patience is not None and bool(self.losses) and len(self.losses) - 1 - self.best(spec) >= patience

    def reason(self, spec: XgboostSpec) -> str:
        """Why there are no more."""
        if len(self.losses) >= spec.rounds:
            return "rounds"
        return "validation loss"


def _grow(
    matrix: DMatrix, judged: tuple[Judged, Judged], ring: Ring, task: Task, q: float, say: Say | None
) -> Grown:
    """Grows trees chunk by chunk: each starts from the trees before it alone, as after a checkpoint."""
    from xgboost.core import XGBoostError

    spec, start = task.spec, task.start
    grown = Grown(_booster(task, q, len(start.losses), start.trees, matrix, judged), list(start.losses))
    before = start.before
    try:
        while not grown.is_done(spec):
            done = len(grown.losses)
            if done % spec.checkpoint_rounds == 0 and done > len(start.losses):
                trees = _raw(grown.booster)
                if task.folder is not None and ring.rank == 0:
                    Checkpoint(trees, tuple(grown.losses), before).save(Path(task.folder))
                grown.booster = _booster(task, q, done, trees, matrix, judged)
            grown.booster.update(matrix, before + done)
            sums = ring.sum(np.array([one.summed(grown.booster) for one in judged]))
            losses = [float(own / max(one.total, 1.0)) for own, one in zip(sums, judged, strict=True)]
            grown.losses.append((losses[0], losses[1]))
            if say is not None:
                say(f"round {done + 1}: log-loss {losses[0]:.6f} in training, {losses[1]:.6f} in validation")
    except XGBoostError as error:
        if ring.size > 1:
            raise BrokenRingError(f"rank {ring.rank}: a neighbour left the ring") from error
        raise
    return grown


def _booster(
    task: Task, q: float, done: int, trees: bytes | None, matrix: DMatrix, judged: tuple[Judged, Judged]
) -> Booster:
    """Ready to grow the chunk that begins after `done` rounds."""
    from xgboost import Booster

    spec = task.spec
    names = task.inputs.names
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "disable_default_eval_metric": True,
        "verbosity": 0,
        "nthread": 1,
        "device": task.device,
        "seed": chunk_seed(spec.seed, done // spec.checkpoint_rounds),
        "max_depth": spec.max_depth,
        "max_leaves": spec.max_leaves,
        "grow_policy": spec.grow_policy,
        "eta": spec.eta,
        "subsample": spec.subsample,
        "colsample_bytree": spec.colsample,
        "min_child_weight": spec.min_child_weight,
        "gamma": spec.gamma,
        "lambda": spec.lambda_,
        "alpha": spec.alpha,
        "max_bin": spec.max_bin,
    }
    if trees is None:
        parameters["base_score"] = q
    if spec.monotone:
        parameters["monotone_constraints"] = f"({','.join(str(spec.monotone.get(name, 0)) for name in names)})"
    content = None if trees is None else bytearray(trees)
    return Booster(parameters, cache=[matrix, judged[1].matrix], model_file=content)


def chunk_seed(seed: int, chunk: int) -> int:
    """The seed of a chunk's draws of rows and columns."""
    return (seed + 1_000_003 * chunk) % 2**31


def _cut(booster: Booster, rounds: int) -> Booster:
    return booster if booster.num_boosted_rounds() == rounds else booster[:rounds]


def _raw(booster: Booster) -> bytes:
    return bytes(booster.save_raw("ubj"))


def _nes(losses: tuple[float, float], judged: tuple[Judged, Judged]) -> list[float | None]:
    """NE of training and validation rows; None where there are none, or their labels agree."""
    pairs = zip(losses, judged, strict=True)
    return [normalized(loss, one.clicks / one.total) if one.total else None for loss, one in pairs]


def _leaves(booster: Booster) -> int:
    return sum(tree.count("leaf=") for tree in booster.get_dump())


def _importances(booster: Booster, kind: str) -> dict[str, float]:
    """By column, the largest first; columns that no tree asks for are left out."""
    found = {name: float(np.sum(value)) for name, value in booster.get_score(importance_type=kind).items()}
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _explained(booster: Booster, blocks: Blocks, ring: Ring) -> dict[str, float]:
    """Mean |SHAP value| of the margin by column over about EXPLAINED rows of all ranks (exact: Lundberg 2018)."""
    from xgboost import DMatrix

    own = blocks.first(EXPLAINED // ring.size)
    rows = own if len(own) else np.full((1, len(blocks.names)), np.nan, np.float32)
    values = booster.predict(DMatrix(rows, feature_names=list(blocks.names), nthread=1), pred_contribs=True)
    sums = ring.sum(np.append(np.abs(values[: len(own), :-1]).sum(axis=0, dtype=np.float64), len(own)))
    means = sums[:-1] / max(sums[-1], 1.0)
    order = np.argsort(-means, kind="stable")
    return {blocks.names[j]: float(means[j]) for j in order if means[j] > 0}


def fitted_from(rows: Iterable[Row]) -> Fitted:
    """The model from rank 0's rows."""
    figures, content = collected(rows)
    return Fitted(content["booster"], figures.pop("keep_rate"), figures)


def rows_of(fitted: Fitted, rank: int) -> Iterator[pa.RecordBatch]:
    """Rank 0's model as report rows; other ranks say they are done."""
    if rank:
        yield report(rank, "done")
        return
    yield report(rank, "figures", value=fitted.figures | {"keep_rate": fitted.keep_rate})
    yield from pieces(rank, "booster", fitted.booster)
