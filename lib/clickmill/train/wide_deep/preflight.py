"""What every practitioner looks at before a training is left alone: that it begins at the base rate, that gradient
reaches all of it, and (`--overfit-check`) that it learns a few rows by heart. No Spark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from clickmill.errors import PreflightError
from clickmill.loader import Batch, Origin

CLOSE = 1e-5
"""How far from the base rate's the first loss may lie, as a share of it: float32's rounding stays far below."""
REACH_STEPS = 20
"""After so many steps gradient has reached every part. (Not in the first: the head begins at 0.)"""
OVERFIT_ROWS, OVERFIT_STEPS, OVERFIT_SHARE = 32, 200, 0.05
"""So many clicks and non-clicks are learned by heart in so many steps: their loss must fall to such a share."""


def entropy(share: float, base_rate: float) -> float:
    """Log-loss of always saying the base rate, of rows with such a share of clicks."""
    return -(share * math.log(base_rate) + (1 - share) * math.log1p(-base_rate))


def require_base_rate(loss: float, expected: float) -> None:
    """Raises PreflightError where a network that has learned nothing yet says anything else than the base rate."""
    if not abs(loss - expected) <= CLOSE * expected:
        raise PreflightError(
            f"wide_deep: before anything is learned the log-loss of the first rows is {loss:.6f}, and that of the "
            f"base rate is {expected:.6f}: the network does not begin at the log-odds of the sample. No setting "
            "does that: please report it"
        )


def idle(norms: Mapping[str, float]) -> list[str]:
    """The groups of parameters that no gradient reached, by the norms of theirs."""
    return sorted(name for name, norm in norms.items() if not norm > 0)


def require_reached(idle: Sequence[str], steps: int) -> None:
    """Raises PreflightError where there are such groups after so many steps: they do not learn."""
    if idle:
        raise PreflightError(
            f"wide_deep: in {steps} steps no gradient reached {', '.join(idle)}: units before or behind are dead; "
            "lower learning_rate, raise warmup_steps, or set layer_norm: true"
        )


def few(batches: Iterable[Batch], number: int) -> Batch:
    """The first so many clicks and so many non-clicks, or all there are, each of weight 1. Reads no further."""
    wanted, parts, names = {0: number, 1: number}, [], list[str]()
    for batch in batches:
        for label in wanted:
            places = np.flatnonzero(batch.label[: batch.rows] == label)[: wanted[label]]
            wanted[label] -= len(places)
            parts.append((batch.whole[places], batch.real[places], batch.label[places]))
            names += batch.source_of_each(places)
        if not any(wanted.values()):
            break
    whole, real, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    weight, place = np.ones(len(labels), np.float32), np.arange(len(labels))
    origin = Origin(place, tuple(place.tolist()), tuple(names))
    return batch._replace(whole=whole, real=real, label=labels, weight=weight, rows=len(labels), origin=origin)


def require_learned(said: Mapping[str, Any], learning_rate: float) -> None:
    """Raises PreflightError where the loss (`first`, `last`) of `rows` with `clicks` has not fallen to near 0."""
    first, last = said["first"], said["last"]
    if not last < OVERFIT_SHARE * first:
        raise PreflightError(
            f"overfit check: in {OVERFIT_STEPS} steps the loss of {said['rows']} rows, {said['clicks']} of them "
            f"clicks, fell from {first:.4f} to {last:.4f}, and should be near 0: learning_rate {learning_rate}, "
            "clip_norm, dropout or ftrl hold it back"
        )
