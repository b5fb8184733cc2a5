"""Keeping every click and a keyed share of the non-clicks: the same rows on every rerun and cluster."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clickmill import hashing
from clickmill.errors import KeepRateError
from clickmill.hashing import Values


def keep(event_id: Values, label: ArrayLike, keep_rate: float, seed: int) -> NDArray[np.bool_]:
    """Which impressions stay: all clicks, and non-clicks with u(sample, seed, event_id) < keep_rate.

    event_id: n strings; label: (n,) 0 or 1; keep_rate in (0, 1]. Returns (n,) bool. What is kept at a
    smaller keep rate is kept at every larger one. Raises KeepRateError outside (0, 1].
    """
    check_keep_rate(keep_rate)
    uniform = hashing.keyed_uniform("sample", seed, event_id)
    kept: NDArray[np.bool_] = (np.asarray(label) != 0) | (uniform < keep_rate)
    return kept


def weights(label: ArrayLike, keep_rate: float) -> NDArray[np.float64]:
    """1 for a click, 1/keep_rate for a non-click: Σ weights estimates the rows before sampling. (n,) → (n,)."""
    check_keep_rate(keep_rate)
    return np.where(np.asarray(label) != 0, 1.0, 1.0 / keep_rate)


def check_keep_rate(keep_rate: float) -> None:
    """Raises KeepRateError unless 0 < keep_rate ≤ 1."""
    if not 0.0 < keep_rate <= 1.0:
        raise KeepRateError(f"the keep rate must lie in (0, 1], found {keep_rate}")


def single_keep_rate(rates: Iterable[float]) -> float:
    """The one keep rate of a sample's rows. Raises KeepRateError where there are several, or none."""
    found = sorted(set(rates))
    if len(found) != 1:
        raise KeepRateError(f"a sample has one keep rate, found {found}: rates must not mix")
    check_keep_rate(found[0])
    return found[0]
