"""Positions of hashed features among the active ones: sorted indices behind a directory of their top bits."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clickmill.hashing import to_index

UInt32 = NDArray[np.uint32]
Int32 = NDArray[np.int32]


class Lookup:
    """Finds indices of `bits` bits in a sorted array in about one step, since hashes spread evenly.

    index: (d,) uint32, rising, each below 2^bits. Takes 4 bytes for each of d to 2d directory entries.
    """

    def __init__(self, index: UInt32, bits: int) -> None:
        self.index, self.bits = index, bits
        held = min(max(len(index).bit_length(), 1), bits)
        self.shift = bits - held
        starts = np.arange(2**held + 1, dtype=np.uint64) << np.uint64(self.shift)
        self.directory: Int32 = np.searchsorted(index.astype(np.uint64), starts).astype(np.int32)

    def positions(self, hashes: Int32) -> Int32:
        """Where each of (n,) whole hashes stands in `index` once reduced to `bits` bits; -1: it does not. (n,)"""
        found: Int32 = _find(self._reduced(hashes), self.directory, self.index, self.shift)
        return found

    def add_weights(
        self, hashes: Int32, weights: NDArray[np.float64], unseen: float, out: NDArray[np.float64]
    ) -> None:
        """Adds to out (n,) the weights (d,) of (n,) whole hashes, or `unseen` where a hash is not in `index`."""
        _add(self._reduced(hashes), self.directory, self.index, self.shift, weights, unseen, out)

    def _reduced(self, hashes: Int32) -> UInt32:
        return np.ascontiguousarray(to_index(hashes, self.bits)).view(np.uint32)


@njit(cache=True, nogil=True, inline="always")
def _place(wanted, directory, index, shift):  # type: ignore[no-untyped-def]
    top = np.int64(wanted) >> shift
    for at in range(directory[top], directory[top + 1]):
        if index[at] == wanted:
            return at
    return -1


@njit(cache=True, nogil=True)
def _find(wanted, directory, index, shift):  # type: ignore[no-untyped-def]
    out = np.empty(len(wanted), np.int32)
    for i in range(len(wanted)):
        out[i] = _place(wanted[i], directory, index, shift)
    return out


@njit(cache=True, nogil=True)
def _add(wanted, directory, index, shift, weights, unseen, out):  # type: ignore[no-untyped-def]
    for i in range(len(wanted)):
        at = _place(wanted[i], directory, index, shift)
        out[i] += weights[at] if at >= 0 else unseen
