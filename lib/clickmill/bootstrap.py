"""Poisson bootstrap keyed by unit: the same replicates for every model, partition and rerun.

In replicate r a row counts W times, W ~ Poisson(1) drawn from (key of the row's unit, r) and nothing else
(Hanley and MacGibbon 2006; Chamandy et al. 2012). Rows of one unit count together, so that intervals allow
for what they have in common; all models of a day see the same W, so that differences are paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from clickmill import hashing
from clickmill.hashing import Values, splitmix64

MIN_UNITS = 30
"""With fewer units than these there is no interval."""
MAX_LOST = 0.01
"""Share of the replicates that may be undefined (one class alone); with more there is no interval."""
_MOST = 12
"""Greatest count that is drawn: more has a chance of 6e-11."""
_CDF = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(_MOST)])
_THRESHOLDS = np.round(_CDF * 2.0**32).astype(np.uint64)
"""P(W ≤ k)·2^32."""
_UNSURE = 255


def _by_first_bits() -> NDArray[np.uint8]:
    """The count that the first 12 of the 32 bits give; _UNSURE where the others decide."""
    first = np.arange(2**12, dtype=np.uint64) << np.uint64(20)
    least = np.searchsorted(_THRESHOLDS, first, side="right")
    most = np.searchsorted(_THRESHOLDS, first + np.uint64(2**20 - 1), side="right")
    return np.where(least == most, least, _UNSURE).astype(np.uint8)


_TABLES = (_by_first_bits(), _THRESHOLDS)

Array = NDArray[np.float64]
Keys = NDArray[np.uint64]


def unit_keys(units: Values, event_id: Values, seed: int) -> Keys:
    """The key of each row's unit, (n,) uint64; a null unit falls back to the row's event id.

    units, event_id: n strings. Raises ValueError for a seed outside [0, 2^32).
    """
    own = hashing.keyed_words("boot", seed, units)
    lacking = hashing.is_missing(units)
    if not lacking.any():
        return own
    return np.where(lacking, hashing.keyed_words("boot-row", seed, event_id), own)


def block_keys(micros: NDArray[np.int64], hours: int, seed: int) -> Keys:
    """The same for blocks of so many hours. micros: (n,) event times, microseconds since 1970 UTC."""
    blocks = np.unique(micros // (hours * 3_600_000_000), return_inverse=True)
    names = [str(block) for block in blocks[0].tolist()]
    return hashing.keyed_words("boot-time", seed, names)[blocks[1]]


def poisson(keys: Keys, replicates: int) -> NDArray[np.uint8]:
    """How often each row counts in each replicate: (n, replicates), the draws that `Replicates.add` sums."""
    counts: NDArray[np.uint8] = _draw(keys, replicates, *_TABLES)
    return counts


@dataclass
class Replicates:
    """Weighted sums by group, statistic and replicate.

    sums: (groups, statistics, replicates). units: for each group its MIN_UNITS smallest keys, or all it has.
    """

    sums: Array
    units: list[Keys]

    @classmethod
    def empty(cls, groups: int, statistics: int, replicates: int) -> Replicates:
        """No rows."""
        none = [np.empty(0, np.uint64)] * groups
        return cls(np.zeros((groups, statistics, replicates)), none)

    def add(self, keys: Keys, groups: NDArray[np.int32], statistics: Array) -> None:
        """Counts n rows.

        keys: (n,); groups: (n, c), the groups that a row belongs to (one for each way of slicing, -1: none);
        statistics: (n, k), what is summed, sampling weights in it. Costs n·(c·k + 1)·replicates operations,
        memory that hangs on no n.
        """
        _add(keys, groups, np.ascontiguousarray(statistics), self.sums, *_TABLES)
        for group in np.unique(groups[groups >= 0]):
            if len(self.units[group]) < MIN_UNITS:
                found = keys[(groups == group).any(axis=1)]
                self.units[group] = np.unique(np.concatenate([self.units[group], found]))[:MIN_UNITS]

    @classmethod
    def merge(cls, parts: list[Replicates]) -> Replicates:
        """One of all parts, none of which may be missing; the order moves sums by rounding alone (1e-15)."""
        sums = np.sum([part.sums for part in parts], axis=0)
        together = zip(*(part.units for part in parts), strict=True)
        return cls(sums, [np.unique(np.concatenate(units))[:MIN_UNITS] for units in together])


def interval(
    replicates: ArrayLike, units: int, *, level: float = 0.95
) -> tuple[tuple[float, float] | None, str | None]:
    """The percentile interval of a metric's replicates, or None and the reason why there is none.

    replicates: (r,), NaN where the metric is undefined. units: how many there are, up to MIN_UNITS.
    """
    values = np.asarray(replicates, np.float64)
    if units < MIN_UNITS:
        return None, f"{units} units, at least {MIN_UNITS} are needed"
    lost = int(np.isnan(values).sum())
    if lost > MAX_LOST * len(values):
        return None, f"undefined in {lost} of {len(values)} replicates"
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high)), None


@njit(cache=True, nogil=True, inline="always")
def _word(key, pair):  # type: ignore[no-untyped-def]
    """64 bits for two replicates: the unit's own stream of splitmix64 at the place `pair`."""
    return splitmix64(key + pair * np.uint64(0x9E3779B97F4A7C15))


@njit(cache=True, nogil=True, inline="always")
def _count(bits, table, thresholds):  # type: ignore[no-untyped-def]
    """The Poisson(1) count of 32 uniform bits."""
    count = table[bits >> np.uint64(20)]
    if count == _UNSURE:
        count = np.uint8(0)
        while count < len(thresholds) and bits >= thresholds[count]:
            count += np.uint8(1)
    return count


@njit(cache=True, nogil=True)
def _draw(keys, replicates, table, thresholds):  # type: ignore[no-untyped-def]
    out = np.empty((len(keys), replicates), np.uint8)
    for i in range(len(keys)):
        for r in range(replicates):
            word = _word(keys[i], np.uint64(r >> 1))
            bits = word >> np.uint64(32) if r & 1 else word & np.uint64(0xFFFFFFFF)
            out[i, r] = _count(bits, table, thresholds)
    return out


@njit(cache=True, nogil=True)
def _add(keys, groups, statistics, sums, table, thresholds):  # type: ignore[no-untyped-def]
    replicates = sums.shape[2]
    counts = np.zeros(replicates + 1)
    for i in range(len(keys)):
        if i == 0 or keys[i] != keys[i - 1]:
            for pair in range((replicates + 1) >> 1):
                word = _word(keys[i], np.uint64(pair))
                counts[2 * pair] = _count(word & np.uint64(0xFFFFFFFF), table, thresholds)
                counts[2 * pair + 1] = _count(word >> np.uint64(32), table, thresholds)
        for c in range(groups.shape[1]):
            group = groups[i, c]
            if group < 0:
                continue
            for k in range(statistics.shape[1]):
                value = statistics[i, k]
                if value == 0.0:
                    continue
                row = sums[group, k]
                for r in range(replicates):
                    row[r] += value * counts[r]
