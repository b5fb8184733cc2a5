"""L-BFGS with a diagonal preconditioner, and OWL-QN where there is an l1: sliced vectors, f64 sums.

Liu & Nocedal 1989; Andrew & Gao 2007 (OWL-QN). H₀ = γ·D⁻¹ with D the Hessian's diagonal. Without l1
the margins move along the direction, so that a line search costs no pass over the rows: an iteration is
one gather (margins of the direction) and one scatter (gradient). With l1 the projection onto the orthant
bends the path, and every trial point costs a gather.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

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


@dataclass
class Memory:
    """The inverse Hessian of L-BFGS: H₀ = γ/D and the last pairs of steps and gradient changes."""

    problem: Problem
    diagonal: Doubles
    gamma: float = 1.0
    pairs: list[tuple[NDArray[np.float32], NDArray[np.float32], float]] = field(default_factory=list)

    def learn(self, step: Doubles, change: Doubles) -> None:
        """Takes in a pair, unless its curvature is not positive."""
        s, y = step.astype(np.float32), change.astype(np.float32)
        sy, yhy, ss, yy = self.problem.dots((s, y), (y, y / self.diagonal), (s, s), (y, y))
        if sy <= 1e-10 * math.sqrt(ss * yy):
            return
        self.pairs = [*self.pairs[-(HISTORY - 1) :], (s, y, 1.0 / sy)]
        self.gamma = sy / yhy

    def direction(self, steepest: Doubles) -> Doubles:
        """−H · steepest, by the two-loop recursion."""
        q, kept = -steepest, []
        for s, y, rho in reversed(self.pairs):
            alpha = rho * float(self.problem.dots((s, q))[0])
            kernels.add(q, -alpha, y)
            kept.append(alpha)
        q *= self.gamma
        q /= self.diagonal
        for (s, y, rho), alpha in zip(self.pairs, reversed(kept), strict=True):
            beta = rho * float(self.problem.dots((y, q))[0])
            kernels.add(q, alpha - beta, s)
        return q


def minimise(
    problem: Problem,
    penalty: Penalty,
    *,
    theta: Doubles,
    reference_norm: float,
    max_iterations: int,
    tolerance: float,
) -> Solution:
    """Minimises the objective from this rank's slice `theta`. Ends the same way on every rank.

    Converged: the (sub)gradient's norm fell to `tolerance` times `reference_norm` (that of the base rate
    alone) and the objective changed relatively by less than `tolerance`.
    """
    point = _at(problem, penalty, theta)
    memory = Memory(problem, _diagonal(problem, penalty))
    history: list[float] = []
    advance = _orthant_step if penalty.l1 else _line_step
    norm, change, stopped = math.inf, math.inf, "iteration limit"
    for iteration in range(max_iterations + 1):
        steepest = penalty.steepest(problem, point.theta, point.gradient)
        norm = math.sqrt(float(problem.dots((steepest, steepest))[0]))
        if norm == 0.0 or (norm <= tolerance * reference_norm and change <= tolerance * abs(point.objective)):
            stopped = "converged"
            break
        if iteration == max_iterations:
            break
        moved = _advanced(problem, penalty, point, steepest, memory, advance)
        if moved is None:
            stopped = "converged" if norm <= tolerance * reference_norm else "no further descent"
            break
        change = point.objective - moved.objective
        memory.learn(moved.theta - point.theta, moved.gradient - point.gradient)
        point = moved
        history.append(point.objective)
        if iteration + 1 in REFRESH:
            memory.diagonal = _diagonal(problem, penalty)
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
    problem: Problem, penalty: Penalty, point: Point, steepest: Doubles, memory: Memory, advance: Advance
) -> Point | None:
    """The next point; where the remembered curvature leads nowhere, by the diagonal alone; None: neither does."""
    moved = advance(problem, penalty, point, steepest, memory.direction(steepest))
    if moved is None and memory.pairs:
        memory.pairs, memory.gamma = [], 1.0
        moved = advance(problem, penalty, point, steepest, memory.direction(steepest))
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
        value = loss + base + penalty.l2 * (t * cross + 0.5 * t * t * square)
        slope += penalty.l2 * (cross + t * square)
        second += penalty.l2 * square
        if abs(slope) <= 0.5 * abs(slope0) and value <= point.objective + SLACK * abs(point.objective):
            break
        low, high = (t, high) if slope < 0 else (low, t)
        newton = t - slope / second if second > 0 else 2 * t
        inside = low < newton < high and newton <= 10 * max(t, 1e-300)
        t = newton if inside else (2 * t if high == math.inf else 0.5 * (low + high))
    else:
        return None
    theta = point.theta + t * direction
    gradient = penalty.smooth_gradient(problem, theta, problem.gradient())
    return Point(theta, point.margins + t * step, gradient, loss, loss + penalty.value(problem, theta))


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
