"""The passes over the rows: gather (margins), scatter (gradients), and the losses of margins.

A row is k positions into a weight vector of d + 1 numbers; the last one belongs to values that have no
weight and stays 0. Gather and scatter are separate passes because fused they are slower: both are bound
by random access, and apart each keeps one array in the cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def gather(positions, weights, out):  # type: ignore[no-untyped-def]
    """out (n,) = Σ over k of weights[positions (n, k)]."""
    n, k = positions.shape
    for i in range(n):
        total = 0.0
        for j in range(k):
            total += weights[positions[i, j]]
        out[i] = total


@njit(cache=True, nogil=True)
def scatter(positions, values, out):  # type: ignore[no-untyped-def]
    """out (d + 1,) += values (n,) at each of a row's k positions."""
    n, k = positions.shape
    for i in range(n):
        value = values[i]
        for j in range(k):
            out[positions[i, j]] += value


@njit(cache=True, nogil=True)
def count(indices, mask, counts):  # type: ignore[no-untyped-def]
    """counts (mask + 1,) += 1 at the lowest bits of each hash."""
    n, k = indices.shape
    for i in range(n):
        for j in range(k):
            counts[indices[i, j] & mask] += 1


@njit(cache=True, nogil=True)
def relabel(hashes, mask, position, unseen):  # type: ignore[no-untyped-def]
    """Replaces hashes (n, k) by position[hash & mask], or by their column's `unseen` (k,) where that is -1."""
    n, k = hashes.shape
    for i in range(n):
        for j in range(k):
            at = position[hashes[i, j] & mask]
            hashes[i, j] = at if at >= 0 else unseen[j]


@njit(cache=True, nogil=True)
def loss(margins, label, weight):  # type: ignore[no-untyped-def]
    """Σ of weight × log-loss of the rows, margins (n,) being logits."""
    total = 0.0
    for i in range(len(margins)):
        total += weight[i] * _loss(margins[i], label[i])
    return total


@njit(cache=True, nogil=True)
def along(margins, direction, step, label, weight):  # type: ignore[no-untyped-def]
    """Σ of weight × log-loss at margins + step × direction, and its first and second derivative by the step."""
    value, slope, bend = 0.0, 0.0, 0.0
    for i in range(len(margins)):
        margin = margins[i] + step * direction[i]
        p = _p(margin)
        value += weight[i] * _loss(margin, label[i])
        slope += weight[i] * (p - label[i]) * direction[i]
        bend += weight[i] * p * (1.0 - p) * direction[i] * direction[i]
    return value, slope, bend


@njit(cache=True, nogil=True)
def residuals(margins, label, weight, out):  # type: ignore[no-untyped-def]
    """out (n,) = weight × (p − label): the derivative of the summed loss by each row's margin."""
    for i in range(len(margins)):
        out[i] = weight[i] * (_p(margins[i]) - label[i])


@njit(cache=True, nogil=True)
def curvatures(margins, weight, out):  # type: ignore[no-untyped-def]
    """out (n,) = weight × p(1 − p): the second derivative of the summed loss by each row's margin."""
    for i in range(len(margins)):
        p = _p(margins[i])
        out[i] = weight[i] * p * (1.0 - p)


@njit(cache=True, nogil=True, inline="always")
def _p(margin):  # type: ignore[no-untyped-def]
    if margin >= 0.0:
        return 1.0 / (1.0 + np.exp(-margin))
    e = np.exp(margin)
    return e / (1.0 + e)


@njit(cache=True, nogil=True, inline="always")
def _loss(margin, label):  # type: ignore[no-untyped-def]
    """log(1 + exp(−margin)) for a click, log(1 + exp(margin)) else, without overflow."""
    against = -margin if label > 0.5 else margin
    if against > 0.0:
        return against + np.log1p(np.exp(-against))
    return np.log1p(np.exp(against))
