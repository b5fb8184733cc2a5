"""What one rank does: read, find the active features, train along the path of l2, judge, hand back. No Spark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.errors import NoRowsError
from clickmill.lookup import Lookup
from clickmill.models.logreg import key_array, key_bits
from clickmill.specs import LogregSpec
from clickmill.train.clock import Clock
from clickmill.train.logreg import kernels, solver
from clickmill.train.logreg.problem import Doubles, Problem
from clickmill.train.logreg.rows import Active, cells, find_active, load
from clickmill.train.logreg.solver import Penalty, Solution
from clickmill.train.report import Row, collected, pieces, report
from clickmill.train.ring import Ring
from clickmill.train.sampled import Batches, Source, keep_rate_of, normalized, numbers, told
from clickmill.train.watch import Say


@dataclass(frozen=True)
class WarmStart:
    """An earlier model: rising indices of our `bits`, weights, intercept, and the keep rate its margins are at."""

    index: NDArray[np.uint32]
    weight: Doubles
    intercept: float
    keep_rate: float


@dataclass(frozen=True)
class Task:
    """All that a rank must know: sent to every rank."""

    spec: LogregSpec
    columns: tuple[str, ...]
    slots: tuple[str, ...]
    """The name that each column is hashed under."""
    warm_start: WarmStart | None = None


@dataclass
class Fitted:
    """The model and its figures; equal on every rank. Arrays as in `models.logreg.LogregModel`."""

    keys: NDArray[np.uint32]
    weight: Doubles
    unseen: Doubles
    intercept: float
    keep_rate: float
    figures: dict[str, Any] = field(default_factory=dict)


def fit(source: Source, ring: Ring, task: Task, *, say: Say | None = None) -> Fitted:
    """Trains on this rank's rows together with the other ranks; every rank gets the same model.

    `say` is told of every batch read and every iteration. A rank without rows takes part. Raises NoRowsError,
    DegenerateLabelsError or KeepRateError on all ranks alike where the rows of all of them cannot be trained
    on, or no rows can choose among several l2.
    """
    spec, clock = task.spec, Clock()
    strengths = sorted(spec.l2 if isinstance(spec.l2, tuple) else (spec.l2,), reverse=True)
    if len(strengths) > 1:
        _require_validation(source, ring, strengths)
    rows = load(told(source.training(), say), task.columns, key_bits(spec))
    clock.done("read")
    keep_rate = keep_rate_of(rows.keep_rates, rows.label, rows.weight, ring, spec.correction)
    active = find_active(rows, ring, slots=task.slots, bits=spec.bits, min_count=spec.min_count)
    for block in rows.cells:
        active.relabel(block)
    clock.done("index")
    weight = rows.weight if spec.correction == "weight" else np.ones(len(rows))
    problem = Problem(rows, weight, len(active), ring)
    reference, base_loss = _base(problem)
    theta = _start(problem, active, task, 1.0 if spec.correction == "weight" else keep_rate)
    path = _path(problem, theta, strengths, spec, reference, say)
    clock.done("solve")
    shift = 0.0 if spec.correction == "weight" else math.log(keep_rate)
    wholes = [problem.whole(solution.theta) for _, solution in path]
    judged = _judge(source.validation(), ring, task, active, wholes, shift)
    best = int(np.argmin(judged.losses))
    training_loss, training_ne = _training_ne(problem, path[best][1].margins, shift)
    clock.done("judge")
    fitted = _fitted(wholes[best], active, spec, keep_rate)
    fitted.figures = _figures(problem, path, best, base_loss, reference)
    fitted.figures |= {
        "train_log_loss": training_loss,
        "train_ne": training_ne,
        **judged.figures(path, best),
        "active": len(active),
        "ranks": ring.size,
        "non_zeros": int(np.count_nonzero(wholes[best][1:-1])),
        "seconds": clock.seconds,
    }
    return fitted


def _require_validation(source: Source, ring: Ring, strengths: list[float]) -> None:
    """Raises NoRowsError before the training where no rank has a row to choose among `strengths` by."""
    has_rows = any(batch.num_rows for batch in source.validation())  # (reads no further than the first)
    if not ring.sum(np.array([has_rows], np.int64))[0]:
        raise NoRowsError(
            f"logreg: l2 is to be chosen from {', '.join(f'{l2:g}' for l2 in strengths)} on validation time, "
            "which has no rows: build features for these days, or give one l2"
        )


def _path(
    problem: Problem, theta: Doubles, strengths: list[float], spec: LogregSpec, reference: float, say: Say | None
) -> list[tuple[float, Solution]]:
    """The solution for each l2, each started from that of the l2 before it, the first from `theta`."""
    path: list[tuple[float, Solution]] = []
    for l2 in strengths:
        solution = solver.minimise(
            problem,
            Penalty(l2, spec.l1),
            theta=path[-1][1].theta if path else theta,
            reference_norm=reference,
            max_iterations=spec.max_iterations,
            tolerance=spec.tolerance,
            tell=None if say is None else partial(_tell, say, l2, reference),
        )
        path.append((l2, solution))
    return path


def _tell(say: Say, l2: float, reference: float, iteration: int, objective: float, norm: float) -> None:
    share = norm / max(reference, 1e-300)
    say(f"l2 {l2:g}: iteration {iteration}, objective {objective:.6f}, gradient {share:.1e} of the base rate's")


def _base(problem: Problem) -> tuple[float, float]:
    """Norm of the loss's gradient, and the loss, where the base rate is all that the model says."""
    margins = np.full(len(problem.rows), problem.base_margin())
    loss = problem.line(margins, margins, 0.0).loss
    gradient = problem.gradient()
    return math.sqrt(float(problem.dots((gradient, gradient))[0])), loss


def _start(problem: Problem, active: Active, task: Task, keep_rate: float) -> Doubles:
    """This rank's slice of the θ to start from: the base rate, or an earlier model moved to our keep rate."""
    warm = task.warm_start
    if warm is None:
        own = problem.zeros()
        if problem.low == 0 and len(own):
            own[0] = problem.base_margin()
        return own
    whole = np.zeros(problem.length)
    found = Lookup(active.index, task.spec.bits).positions(warm.index.view(np.int32))
    known = found >= 0
    whole[active.position[found[known]]] = warm.weight[known]
    whole[0] = warm.intercept + math.log(warm.keep_rate / keep_rate)
    return whole[problem.low : problem.high].copy()


class Judged(NamedTuple):
    """Log-loss of p on validation time for each candidate, (k,); Σ v and Σ v·y of its rows."""

    losses: Doubles
    weight: float
    clicks: float

    def figures(self, path: list[tuple[float, Solution]], best: int) -> dict[str, Any]:
        tried = [
            {"l2": l2, "iterations": found.iterations, "converged": found.converged, "stopped": found.stopped}
            for l2, found in path
        ]
        if not self.weight:
            return {"validation_rows": 0, "validation_log_loss": None, "validation_ne": None, "per_l2": tried}
        loss = float(self.losses[best])
        return {
            "validation_rows": int(self.weight),
            "validation_clicks": int(self.clicks),
            "validation_log_loss": loss,
            "validation_ne": normalized(loss, self.clicks / self.weight),
            "per_l2": [a | {"validation_log_loss": float(b)} for a, b in zip(tried, self.losses, strict=True)],
        }


def _judge(
    batches: Batches, ring: Ring, task: Task, active: Active, wholes: list[Doubles], shift: float
) -> Judged:
    """Scores p (margin + ln w) of validation rows as they stream by: none of them is kept."""
    sums = np.zeros(len(wholes) + 2)
    for batch in batches:
        positions = active.relabel(cells(batch, task.columns, key_bits(task.spec)))
        label, weight = numbers(batch, "label"), np.ones(batch.num_rows)
        margins, scratch, other = (np.empty(batch.num_rows) for _ in range(3))
        for k, whole in enumerate(wholes):
            kernels.margins(positions, whole, margins)
            margins += shift
            sums[k] += kernels.line(margins, margins, 0.0, label, weight, scratch, other)[0]
        sums[-2:] += len(label), label.sum()
    sums = ring.sum(sums)
    return Judged(sums[:-2] / max(sums[-2], 1.0), float(sums[-2]), float(sums[-1]))


def _training_ne(problem: Problem, margins: Doubles, shift: float) -> tuple[float, float | None]:
    """Log-loss and NE of p on the training rows, weighted back to full traffic by `weight`."""
    rows = problem.rows
    moved, scratch, other = margins + shift, np.empty(len(rows)), np.empty(len(rows))
    loss = kernels.line(moved, moved, 0.0, rows.label, rows.weight, scratch, other)[0]
    loss, weight, clicks = problem.ring.sum(np.array([loss, rows.weight.sum(), rows.weight @ rows.label]))
    return float(loss / weight), normalized(float(loss / weight), float(clicks / weight))


def _fitted(whole: Doubles, active: Active, spec: LogregSpec, keep_rate: float) -> Fitted:
    """The model as it is stored: with nothing folded, weights of 0 say no more than an absent index."""
    keys, weight = active.keys, whole[active.place]
    if spec.min_count == 1:
        keys, weight = keys[weight != 0], weight[weight != 0]
    return Fitted(keys, weight, whole[active.fold], float(whole[0]), keep_rate)


def arrays_of(fitted: Fitted, spec: LogregSpec) -> dict[str, NDArray[Any]]:
    """The model as the arrays of its artifact."""
    return {
        key_array(spec): fitted.keys,
        "weight": fitted.weight,
        "unseen": fitted.unseen,
        "intercept": np.array([fitted.intercept]),
    }


def _figures(
    problem: Problem, path: list[tuple[float, Solution]], best: int, base_loss: float, reference: float
) -> dict[str, Any]:
    l2, solution = path[best]
    return {
        "rows": problem.totals.rows,
        "clicks": problem.totals.clicks,
        "zero_loss": math.log(2.0),
        "base_rate_loss": base_loss,
        "base_gradient_norm": reference,
        "l2": l2,
        "loss": solution.loss,
        "objective": solution.objective,
        "iterations": solution.iterations,
        "total_iterations": sum(found.iterations for _, found in path),
        "gradient_norm": solution.gradient_norm,
        "converged": solution.converged,
        "stopped": solution.stopped,
        "history": list(solution.history),
    }


PARTS = ("keys", "weight", "unseen")


def rows_of(fitted: Fitted, rank: int) -> Iterator[pa.RecordBatch]:
    """Rank 0's model as report rows; other ranks say they are done."""
    if rank:
        yield report(rank, "done")
        return
    figures = fitted.figures | {"intercept": fitted.intercept, "keep_rate": fitted.keep_rate}
    yield report(rank, "figures", value=figures)
    for name in PARTS:
        yield from pieces(rank, name, getattr(fitted, name).tobytes())


def fitted_from(rows: Iterable[Row]) -> Fitted:
    """The model from rank 0's rows in their order."""
    figures, content = collected(rows)
    intercept, keep_rate = figures.pop("intercept"), figures.pop("keep_rate")
    return Fitted(
        np.frombuffer(content.get("keys", b""), np.uint32),
        np.frombuffer(content.get("weight", b""), np.float64),
        np.frombuffer(content.get("unseen", b""), np.float64),
        intercept,
        keep_rate,
        figures,
    )
