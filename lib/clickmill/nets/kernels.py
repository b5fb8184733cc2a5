"""The loops over rows below a network on a CPU: rows of tables, numbers, wide weights. b rows; begin ≤ i < end.

Indices in inner loops are unsigned: a signed one may count from the end, which numba looks into for each number,
so that it moves one at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def remix(h):  # type: ignore[no-untyped-def]
    """A second hash of a 32-bit hash, as int64 ≥ 0: MurmurHash3's finalizer of it (Appleby, public domain)."""
    x = np.uint32(h) ^ np.uint32(0x9E3779B9)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.int64(x ^ (x >> np.uint32(16)))


@njit(cache=True, nogil=True)
def look_up(whole, places, mask, offset, column, table, index, out, begin, end):  # type: ignore[no-untyped-def]
    """out[i, column[j]:][:dim] ← the table's row of whole[i, places[j]], or the sum of its two rows.

    index (slots, b) or (2·slots, b), the second hash's below the first's, is filled with these rows' numbers.
    """
    dim, slots = np.uint64(table.shape[1]), len(places)
    two = len(index) > slots
    for i in range(np.uint64(begin), np.uint64(end)):
        for j in range(slots):
            h = whole[i, places[j]]
            row = np.uint64((np.int64(h) & mask[j]) + offset[j])
            index[j, i] = row
            at = np.uint64(column[j])
            if two:
                second = np.uint64((remix(h) & mask[j]) + offset[j])
                index[slots + j, i] = second
                for d in range(dim):
                    out[i, at + d] = table[row, d] + table[second, d]
            else:
                for d in range(dim):
                    out[i, at + d] = table[row, d]


@njit(cache=True, nogil=True)
def squeeze(real, mean, scale, out, at, begin, end):  # type: ignore[no-untyped-def]
    """out[i, at + j] ← number j squeezed and standardised, 0 if missing; out[i, at + f + j] ← whether it is."""
    numbers = real.shape[1]
    for i in range(begin, end):
        for j in range(numbers):
            x = real[i, j]
            missing = math.isnan(x)
            y = np.float32(0) if missing else np.float32(math.copysign(math.log1p(abs(x)), x))
            out[i, at + j] = np.float32(0) if missing else (y - mean[j]) * scale[j]
            out[i, at + numbers + j] = np.float32(missing)


@njit(cache=True, nogil=True)
def add_up(whole, places, mask, weight, index, out, begin, end):  # type: ignore[no-untyped-def]
    """out[i] ← Σ_j weight[whole[i, places[j]] & mask]; index (m, b) is filled with these positions."""
    for i in range(begin, end):
        total = np.float32(0)
        for j in range(len(places)):
            at = np.int64(whole[i, places[j]]) & mask
            index[j, i] = at
            total += weight[at]
        out[i] = total
