"""The loops over rows: gather of weights, scatter of residuals, loss along a line. n rows, m columns.

Gather and scatter are passes of their own: fused they are slower, since both are bound by random access.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def margins(positions, theta, out):  # type: ignore[no-untyped-def]
    """out (n,) ← θ₀ + Σ_j θ[positions[i, j]]; positions (n, m) int32, theta whole."""
    for i in range(positions.shape[0]):
        total = theta[0]
        for j in range(positions.shape[1]):
            total += theta[positions[i, j]]
        out[i] = total


@njit(cache=True, nogil=True)
def scatter(positions, values, out):  # type: ignore[no-untyped-def]
    """out[positions[i, j]] += values[i], and out[0] += values[i] for the intercept."""
    for i in range(positions.shape[0]):
        value = values[i]
        out[0] += value
        for j in range(positions.shape[1]):
            out[positions[i, j]] += value


@njit(cache=True, nogil=True)
def line(start, step, t, label, weight, residual, curvature):  # type: ignore[no-untyped-def]
    """Loss, slope and second derivative in t of Σ v·log-loss at margins start + t·step.

    Fills residual (n,) with v(p − y) and curvature (n,) with v·p(1 − p). Stable for margins of any size.
    """
    loss, slope, second = 0.0, 0.0, 0.0
    for i in range(len(start)):
        z = start[i] + t * step[i]
        e = math.exp(-abs(z))
        p = 1.0 / (1.0 + e) if z >= 0 else e / (1.0 + e)
        r = weight[i] * (p - label[i])
        w = weight[i] * e / ((1.0 + e) * (1.0 + e))
        loss += weight[i] * (math.log1p(e) + max(z, 0.0) - label[i] * z)
        slope += r * step[i]
        second += w * step[i] * step[i]
        residual[i] = r
        curvature[i] = w
    return loss, slope, second


@njit(cache=True, nogil=True)
def count(cells, counts):  # type: ignore[no-untyped-def]
    """counts[cells[i, j]] += 1."""
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            counts[cells[i, j]] += 1


@njit(cache=True, nogil=True)
def relabel(cells, directory, index, shift, position, fold, out):  # type: ignore[no-untyped-def]
    """out (n, m) int32 ← the position of each of cells (n, m) uint32, or fold[j] where `index` lacks it."""
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            wanted = cells[i, j]
            top = np.int64(wanted) >> shift
            found = fold[j]
            for at in range(directory[top], directory[top + 1]):
                if index[at] == wanted:
                    found = position[at]
                    break
            out[i, j] = found


@njit(cache=True, nogil=True)
def dot(a, b):  # type: ignore[no-untyped-def]
    """Σ a·b in float64, whatever the arrays are stored in; four partial sums, always in the same order."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    end = len(a) - len(a) % 4
    for i in range(0, end, 4):
        s0 += np.float64(a[i]) * b[i]
        s1 += np.float64(a[i + 1]) * b[i + 1]
        s2 += np.float64(a[i + 2]) * b[i + 2]
        s3 += np.float64(a[i + 3]) * b[i + 3]
    for i in range(end, len(a)):
        s0 += np.float64(a[i]) * b[i]
    return (s0 + s1) + (s2 + s3)


@njit(cache=True, nogil=True)
def add(out, factor, a):  # type: ignore[no-untyped-def]
    """out += factor · a, without a temporary."""
    for i in range(len(out)):
        out[i] += factor * a[i]
