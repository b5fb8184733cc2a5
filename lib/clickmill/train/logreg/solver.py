"""L-BFGS with a diagonal preconditioner, and OWL-QN where there is an l1: sliced vectors, f64 sums.

Liu & Nocedal 1989; Andrew & Gao 2007 (OWL-QN). H₀ = γ·D⁻¹ with D the Hessian's diagonal. Without l1
the margins move along the direction, so that a line search costs no pass over the rows: an iteration is
one gather (margins of the direction) and one scatter (gradient). With l1 the projection onto the orthant
bends the path, and every trial point costs a gather.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.train.logreg import kernels
from clickmill.train.logreg.problem import Doubles, Problem

HISTORY = 10
"""Curvature pairs kept (as float32: they shape the direction, no sum hangs on them)."""
REFRESH = (3, 8, 20)
"""Iterations after which the Hessian's diagonal is taken anew."""
SLACK = 1e-12
"""Relative rise of the objective that is rounding."""


Pairs = list[tuple[NDArray[np.floating], NDArray[np.floating]]]


@dataclass
class Point:
    """Where an optimiser stands: this rank's slice of θ and gradient of the smooth part, margins, losses."""

    theta: Doubles
    margins: Doubles
    gradient: Doubles
    loss: float
    objective: float


@dataclass(frozen=True)
class Solution:
    """What training arrived at. `theta` is this rank's slice; `history` the objective after each iteration."""

    theta: Doubles
    margins: Doubles
    loss: float
    objective: float
    gradient_norm: float
    iterations: int
    converged: bool
    stopped: str
    history: tuple[float, ...]


@dataclass(frozen=True)
class Penalty:
    l2: float
    l1: float = 0.0

    def value(self, problem: Problem, theta: Doubles) -> float:
        """(l2/2)‖θ‖² + l1‖θ‖₁ without the intercept."""
        own = problem.penalised(theta)
        squares, absolute = problem.ring.sum(np.array([kernels.dot(own, own), np.abs(own).sum()]))
        return float(0.5 * self.l2 * squares + self.l1 * absolute)

    def smooth_gradient(self, problem: Problem, theta: Doubles, gradient: Doubles) -> Doubles:
        """Adds l2·θ to the loss's gradient, in place."""
        kernels.add(problem.penalised(gradient), self.l2, problem.penalised(theta))
        return gradient

    def steepest(self, problem: Problem, theta: Doubles, gradient: Doubles) -> Doubles:
        """The gradient, or with l1 the subgradient of least norm: 0 where θ = 0 is best."""
        if not self.l1:
            return gradient
        out = gradient.copy()
        own, at = problem.penalised(out), problem.penalised(theta)
        shrunk = np.sign(own) * np.maximum(np.abs(own) - self.l1, 0.0)
        own[:] = np.where(at != 0, own + self.l1 * np.sign(at), shrunk)
        return out


class Memory:
    """The inverse Hessian of L-BFGS in its compact form: every scalar product of an iteration in one sum.

    Byrd, Nocedal & Schnabel 1994, with H₀ = γ/D: −H g = −γ/D·(g − Y u) − S v, where u = R⁻¹ Sᵀg,
    v = R⁻ᵀ((E + γW) u − γ YᵀD⁻¹g), R the upper triangle of SᵀY, E its diagonal, W = YᵀD⁻¹Y. S and Y
    hold the last k steps and gradient changes, this rank's slices of them.
    """

    def __init__(self, problem: Problem, diagonal: Doubles) -> None:
        self.problem, self.diagonal = problem, diagonal
        self.forget()

    def forget(self) -> None:
        """Back to D alone."""
        self.steps: list[NDArray[np.float32]] = []
        self.changes: list[NDArray[np.float32]] = []
        self.sy, self.w, self.gamma = np.zeros((0, 0)), np.zeros((0, 0)), 1.0

    def learn(self, step: Doubles, change: Doubles) -> None:
        """Takes in a pair, unless its curvature is not positive."""
        s, y = step.astype(np.float32), change.astype(np.float32)
        steps, changes, scaled = [*self.steps, s], [*self.changes, y], y / self.diagonal
        pairs: Pairs = [(s, s), (y, y), *((old, y) for old in steps), *((old, scaled) for old in changes)]
        ss, yy, *rest = self.problem.dots(*pairs).tolist()
        sy, w = np.array(rest[: len(steps)]), np.array(rest[len(steps) :])
        if sy[-1] <= 1e-10 * math.sqrt(ss * yy):
            return
        first = int(len(steps) > HISTORY)
        self.steps, self.changes, self.gamma = steps[first:], changes[first:], float(sy[-1] / w[-1])
        self.sy, self.w = np.pad(self.sy, (0, 1)), np.pad(self.w, (0, 1))
        self.sy[:, -1], self.w[:, -1], self.w[-1] = sy, w, w
        self.sy, self.w = self.sy[first:, first:], self.w[first:, first:]

    def rescale(self, diagonal: Doubles) -> None:
        """Takes another D."""
        self.diagonal = diagonal
        k = len(self.changes)
        pairs: Pairs = [(a, scaled) for scaled in (b / diagonal for b in self.changes) for a in self.changes]
        if k:
            self.w = self.problem.dots(*pairs).reshape(k, k)
            self.gamma = float(self.sy[-1, -1] / self.w[-1, -1])

    def look(self, steepest: Doubles) -> Doubles:
        """What `direction` must know of the (sub)gradient g: gᵀg, Sᵀg, YᵀD⁻¹g. One sum over the ranks."""
        scaled = steepest / self.diagonal
        pairs: Pairs = [
            (steepest, steepest),
            *((s, steepest) for s in self.steps),
            *((y, scaled) for y in self.changes),
        ]
        return self.problem.dots(*pairs)

    def direction(self, steepest: Doubles, seen: Doubles) -> Doubles:
        """−H · steepest, given what `look` saw of it."""
        k = len(self.steps)
        r = np.triu(self.sy)
        u = np.linalg.solve(r, seen[1 : k + 1])
        v = np.linalg.solve(r.T, (np.diag(np.diag(r)) + self.gamma * self.w) @ u - self.gamma * seen[k + 1 :])
        out = -steepest
        for factor, y in zip(u.tolist(), self.changes, strict=True):
            kernels.add(out, factor, y)
        out *= self.gamma
        out /= self.diagonal
        for factor, s in zip(v.tolist(), self.steps, strict=True):
            kernels.add(out, -factor, s)
        return out


Tell = Callable[[int, float, float], None]
"""Iterations made, the objective after them, the (sub)gradient's norm before the last of them."""


def minimise(
    problem: Problem,
    penalty: Penalty,
    *,
    theta: Doubles,
    reference_norm: float,
    max_iterations: int,
    tolerance: float,
    tell: Tell | None = None,
) -> Solution:
    """Minimises the objective from this rank's slice `theta`. Ends the same way on every rank.

    Converged: the (sub)gradient's norm fell to `tolerance` times `reference_norm` (that of the base rate
    alone) and the objective changed relatively by less than `tolerance`. `tell` hears of every iteration made.
    """
    point = _at(problem, penalty, theta)
    memory = Memory(problem, _diagonal(problem, penalty))
    history: list[float] = []
    advance = _orthant_step if penalty.l1 else _line_step
    norm, change, stopped = math.inf, math.inf, "iteration limit"
    for iteration in range(max_iterations + 1):
        steepest = penalty.steepest(problem, point.theta, point.gradient)
        seen = memory.look(steepest)
        norm = math.sqrt(float(seen[0]))
        if norm == 0.0 or (norm <= tolerance * reference_norm and change <= tolerance * abs(point.objective)):
            stopped = "converged"
            break
        if iteration == max_iterations:
            break
        moved = _advanced(problem, penalty, point, steepest, seen, memory, advance)
        if moved is None:
            stopped = "converged" if norm <= tolerance * reference_norm else "no further descent"
            break
        change = point.objective - moved.objective
        memory.learn(moved.theta - point.theta, moved.gradient - point.gradient)
        point = moved
        history.append(point.objective)
        if tell is not None:
            tell(len(history), point.objective, norm)
        if iteration + 1 in REFRESH:
            memory.rescale(_diagonal(problem, penalty))
    return Solution(
        theta=point.theta,
        margins=point.margins,
        loss=point.loss,
        objective=point.objective,
        gradient_norm=norm,
        iterations=len(history),
        converged=stopped == "converged",
        stopped=stopped,
        history=tuple(history),
    )


Advance = Callable[[Problem, Penalty, Point, Doubles, Doubles], Point | None]


def _advanced(
    problem: Problem,
    penalty: Penalty,
    point: Point,
    steepest: Doubles,
    seen: Doubles,
    memory: Memory,
    advance: Advance,
) -> Point | None:
    """The next point; where the remembered curvature leads nowhere, by the diagonal alone; None: neither does."""
    moved = advance(problem, penalty, point, steepest, memory.direction(steepest, seen))
    if moved is None and memory.steps:
        memory.forget()
        moved = advance(problem, penalty, point, steepest, memory.direction(steepest, seen[:1]))
    return moved


def _at(problem: Problem, penalty: Penalty, theta: Doubles) -> Point:
    return _arrived(problem, penalty, theta, problem.margins(theta))


def _arrived(problem: Problem, penalty: Penalty, theta: Doubles, margins: Doubles) -> Point:
    loss = problem.line(margins, margins, 0.0).loss
    gradient = penalty.smooth_gradient(problem, theta, problem.gradient())
    return Point(theta, margins, gradient, loss, loss + penalty.value(problem, theta))


def _diagonal(problem: Problem, penalty: Penalty) -> Doubles:
    """D at the last margins, kept away from 0."""
    found = problem.diagonal()
    problem.penalised(found)[:] += penalty.l2
    return np.maximum(found, 1e-12)


def _line_step(
    problem: Problem, penalty: Penalty, point: Point, steepest: Doubles, direction: Doubles
) -> Point | None:
    """Along the direction to where the slope is at most half of the start's: by Newton's method in t."""
    at, along = problem.penalised(point.theta), problem.penalised(direction)
    slope0, cross, square = problem.dots((steepest, direction), (at, along), (along, along)).tolist()
    if not slope0 < 0:
        return None
    step = problem.margins(direction)
    base = point.objective - point.loss
    low, high, t = 0.0, math.inf, 1.0
    for _ in range(30):
        loss, slope, second = problem.line(point.margins, step, t)
        objective = loss + base + penalty.l2 * (t * cross + 0.5 * t * t * square)
        slope += penalty.l2 * (cross + t * square)
        second += penalty.l2 * square
        if abs(slope) <= 0.5 * abs(slope0) and objective <= point.objective + SLACK * abs(point.objective):
            break
        low, high = (t, high) if slope < 0 else (low, t)
        newton = t - slope / second if second > 0 else 2 * t
        inside = low < newton < high and newton <= 10 * max(t, 1e-300)
        t = newton if inside else (2 * t if high == math.inf else 0.5 * (low + high))
    else:
        return None
    theta = point.theta + t * direction
    gradient = penalty.smooth_gradient(problem, theta, problem.gradient())
    return Point(theta, point.margins + t * step, gradient, loss, objective)


def _orthant_step(
    problem: Problem, penalty: Penalty, point: Point, steepest: Doubles, direction: Doubles
) -> Point | None:
    """OWL-QN: backtracks along the direction projected onto the orthant that θ and −steepest point into."""
    along, down = problem.penalised(direction), problem.penalised(steepest)
    along[along * down > 0] = 0.0
    orthant = np.where(
        problem.penalised(point.theta) != 0, np.sign(problem.penalised(point.theta)), -np.sign(down)
    )
    t = 1.0
    for _ in range(30):
        theta = point.theta + t * direction
        own = problem.penalised(theta)
        own[own * orthant <= 0] = 0.0
        expected = float(problem.dots((steepest, theta - point.theta))[0])
        if not expected < 0:
            return None
        margins = problem.margins(theta)
        loss = problem.line(margins, margins, 0.0).loss
        objective = loss + penalty.value(problem, theta)
        if objective <= point.objective + 1e-4 * expected + SLACK * abs(point.objective):
            gradient = penalty.smooth_gradient(problem, theta, problem.gradient())
            return Point(theta, margins, gradient, loss, objective)
        t *= 0.5
    return None
