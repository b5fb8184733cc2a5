"""The loops over rows of a training step on a CPU: gradients summed by row of a table, and what they change.

A table has a mark for each row, -1 but while its rows are summed. First the rows in use are collected, then (once
they are sorted) each is given its place, and then gradients are added up, in the order of the batch. Why indices
are unsigned: see `nets.kernels`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def used(index, slots, low, high, mark, out):  # type: ignore[no-untyped-def]
    """out[:k] ← the different values in rows `slots` of index (s, b) that lie in [low, high); returns k."""
    k = 0
    for j in slots:
        for i in range(index.shape[1]):
            row = index[j, i]
            if low <= row < high and mark[row] < 0:
                mark[row] = 0
                out[k] = row
                k += 1
    return k


@njit(cache=True, nogil=True)
def sum_rows(index, slots, low, high, column, gradient, rows, mark, out):  # type: ignore[no-untyped-def]
    """out[n] ← Σ of gradient[i, column[j]:][:dim] over all j in slots, i, whose row index[j, i] is rows[n].

    rows (k,): what `used` found, sorted; gradient (b, width); out (k, dim).
    """
    dim = np.uint64(out.shape[1])
    for n in range(len(rows)):
        mark[rows[n]] = n
    out[:] = 0
    for j in slots:
        at = np.uint64(column[j])
        for i in range(np.uint64(index.shape[1])):
            row = index[j, i]
            if low <= row < high:
                place = np.uint64(mark[row])
                for d in range(dim):
                    out[place, d] += gradient[i, at + d]
    for n in range(len(rows)):
        mark[rows[n]] = -1


@njit(cache=True, nogil=True)
def sum_same(index, slots, low, high, gradient, rows, mark, out):  # type: ignore[no-untyped-def]
    """The same, where all columns of a row have gradient[i]; out (k, 1)."""
    for n in range(len(rows)):
        mark[rows[n]] = n
    out[:] = 0
    for j in slots:
        for i in range(index.shape[1]):
            row = index[j, i]
            if low <= row < high:
                out[mark[row], 0] += gradient[i]
    for n in range(len(rows)):
        mark[rows[n]] = -1


@njit(cache=True, nogil=True)
def merge(index, rows, further, added, found, out):  # type: ignore[no-untyped-def]
    """found[:k] ← the different values of two rising lists, rising; out[:k] ← their rows, added up; returns k."""
    dim, a, b, k = np.uint64(rows.shape[1]), np.uint64(0), np.uint64(0), np.uint64(0)
    ends = np.uint64(len(index)), np.uint64(len(further))
    while a < ends[0] or b < ends[1]:
        own = b == ends[1] or (a < ends[0] and index[a] <= further[b])
        its = a == ends[0] or (b < ends[1] and further[b] <= index[a])
        found[k] = index[a] if own else further[b]
        for d in range(dim):
            if own and its:
                out[k, d] = rows[a, d] + added[b, d]
            else:
                out[k, d] = rows[a, d] if own else added[b, d]
        a, b, k = a + np.uint64(own), b + np.uint64(its), k + np.uint64(1)
    return k


@njit(cache=True, nogil=True)
def squared(rows, begin, end):  # type: ignore[no-untyped-def]
    """Σ of squares of rows[begin:end], in float64."""
    total = 0.0
    for n in range(np.uint64(begin), np.uint64(end)):
        for d in range(np.uint64(rows.shape[1])):
            total += np.float64(rows[n, d]) * rows[n, d]
    return total


@njit(cache=True, nogil=True)
def adagrad(table, state, rows, gradient, scale, rate, tiny, begin, end):  # type: ignore[no-untyped-def]
    """Row-wise Adagrad of rows[begin:end] by gradient · scale; see `optim.rows`."""
    dim = np.uint64(table.shape[1])
    for n in range(np.uint64(begin), np.uint64(end)):
        row = np.uint64(rows[n])
        squares = np.float32(0)
        for d in range(dim):
            squares += gradient[n, d] * gradient[n, d]
        total = state[row] + squares * scale * scale / np.float32(dim)
        state[row] = total
        step = np.float32(rate * scale / (math.sqrt(total) + tiny))
        for d in range(dim):
            table[row, d] -= step * gradient[n, d]


@njit(cache=True, nogil=True)
def adam(table, mean, state, rows, gradient, scale, rate, decays, tiny, begin, end):  # type: ignore[no-untyped-def]
    """Row-wise Adam of rows[begin:end] by gradient · scale; decays: β₁, β₂ and 1 − βᵗ of either."""
    dim = np.uint64(table.shape[1])
    first, second, first_left, second_left = decays
    for n in range(np.uint64(begin), np.uint64(end)):
        row = np.uint64(rows[n])
        squares = np.float32(0)
        for d in range(dim):
            squares += gradient[n, d] * gradient[n, d]
        total = second * state[row] + (np.float32(1) - second) * (squares * scale * scale / np.float32(dim))
        state[row] = total
        step = np.float32(rate / first_left / (math.sqrt(total / second_left) + tiny))
        for d in range(dim):
            own = first * mean[row, d] + (np.float32(1) - first) * (scale * gradient[n, d])
            mean[row, d] = own
            table[row, d] -= step * own


@njit(cache=True, nogil=True)
def ftrl(weight, z, squares, rows, gradient, alpha, beta, l1, l2, begin, end):  # type: ignore[no-untyped-def]
    """FTRL-proximal of the weights rows[begin:end]; see `optim.ftrl`."""
    for n in range(np.uint64(begin), np.uint64(end)):
        row, g = np.uint64(rows[n]), gradient[n]
        before = squares[row]
        after = before + g * g
        root = math.sqrt(after)
        moved = z[row] + g - (root - math.sqrt(before)) / alpha * weight[row]
        z[row], squares[row] = moved, after
        if abs(moved) <= l1:
            weight[row] = np.float32(0)
        else:
            weight[row] = -(moved - math.copysign(l1, moved)) / ((beta + root) / alpha + l2)
