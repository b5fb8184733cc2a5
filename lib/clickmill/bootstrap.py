"""Poisson bootstrap keyed by unit: the same replicates for every model, partition and rerun.

In replicate r a row counts W times, W ~ Poisson(1) drawn from (key of the row's unit, r) and nothing else
(Hanley and MacGibbon 2006; Chamandy et al. 2012). Rows of one unit count together, so that intervals allow
for what they have in common; all models of a day see the same W, so that differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from clickmill import hashing
from clickmill.hashing import Values, splitmix64

MIN_UNITS = 30
"""With fewer units than these there is no interval."""
ENDS = (0.025, 0.975)
"""Between these quantiles of the replicates lies a 95% interval."""
MAX_LOST = 0.01
"""Share of the replicates that may be undefined (one class alone); with more there is no interval."""
_RISES = tuple(np.uint16(rise) for rise in (24109, 48219, 60273, 64292, 65296, 65497, 65531, 65535))
"""P(W ≤ k)·2^16 for k = 0 to 7, rounded. What is drawn has a mean of exactly 1 and a variance of 0.99997; a count
above 8, of chance 1e-6, is never drawn."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_AT_ONCE = 256
"""Rows whose draws lie side by side while they are added: 400 kB with 200 replicates."""

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
    return np.where(lacking, row_keys(event_id, seed), own)


def row_keys(event_id: Values, seed: int) -> Keys:
    """The same where every row is a unit of its own."""
    return hashing.keyed_words("boot-row", seed, event_id)


def block_keys(micros: NDArray[np.int64], hours: int, seed: int) -> Keys:
    """The same for blocks of so many hours. micros: (n,) event times, microseconds since 1970 UTC."""
    blocks = np.unique(micros // (hours * 3_600_000_000), return_inverse=True)
    names = [str(block) for block in blocks[0].tolist()]
    return hashing.keyed_words("boot-time", seed, names)[blocks[1]]


def poisson(keys: Keys, replicates: int) -> NDArray[np.uint8]:
    """How often each row counts in each replicate: (n, replicates), the draws that `Replicates.add` sums."""
    counts: NDArray[np.uint8] = _draw(keys, replicates)
    return counts


def add_draws(keys: Keys, groups: NDArray[np.int32], statistics: Array, sums: Array) -> None:
    """Adds n rows to sums (groups, statistics, replicates), as `Replicates.add` does."""
    _add(keys, groups, np.ascontiguousarray(statistics), sums)


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
        add_draws(keys, groups, statistics, self.sums)
        lacking = np.array([len(units) < MIN_UNITS for units in self.units])
        if not lacking.any():
            return
        rows = np.bincount(groups[groups >= 0], minlength=len(self.units))
        for group in np.flatnonzero(lacking & (rows > 0)):
            found = keys[(groups == group).any(axis=1)]
            self.units[group] = np.unique(np.concatenate([self.units[group], found]))[:MIN_UNITS]

    @classmethod
    def merge(cls, parts: list[Replicates]) -> Replicates:
        """One of all parts, none of which may be missing; the order moves sums by rounding alone (1e-15)."""
        sums = np.sum([part.sums for part in parts], axis=0)
        together = zip(*(part.units for part in parts), strict=True)
        return cls(sums, [np.unique(np.concatenate(units))[:MIN_UNITS] for units in together])


class Draws(NamedTuple):
    """Of one model and one group, by replicate: Σv, Σvy, Σvp, Σv·log-loss, Σv(p − y)², each (replicates,)."""

    weight: Array
    clicks: Array
    p: Array
    loss: Array
    square: Array

    def figures(self) -> dict[str, Array]:
        """Metrics by replicate, (replicates,) each; NaN where undefined. NE takes the replicate's own rate."""
        with np.errstate(divide="ignore", invalid="ignore"):
            loss, q = self.loss / self.weight, self.clicks / self.weight
            entropy = -(q * np.log(q) + (1 - q) * np.log1p(-q))
            ne = np.where((q > 0) & (q < 1), loss / entropy, np.nan)
            ratio = np.where(self.clicks > 0, self.p / self.clicks, np.nan)
            square = self.square / self.weight
        return {"log_loss": loss, "ne": ne, "rig": 1 - ne, "calibration_ratio": ratio, "brier": square}


def interval(replicates: ArrayLike, units: int) -> tuple[tuple[float, float] | None, str | None]:
    """The 95% percentile interval of a metric's replicates, or None and the reason why there is none.

    replicates: (r,), NaN where the metric is undefined. units: how many there are, up to MIN_UNITS.
    """
    values = np.asarray(replicates, np.float64)
    if units < MIN_UNITS:
        return None, f"{units} units, at least {MIN_UNITS} are needed"
    lost = int(np.isnan(values).sum())
    if lost > MAX_LOST * len(values):
        return None, f"undefined in {lost} of {len(values)} replicates"
    low, high = np.nanquantile(values, ENDS)
    return (float(low), float(high)), None


@njit(cache=True, nogil=True, inline="always")
def _counts(key, words, lanes, counts):  # type: ignore[no-untyped-def]
    """Fills counts (4·w,) from the unit's own stream of w words, each of which gives four 16-bit lanes."""
    for w in range(len(words)):
        words[w] = splitmix64(key + np.uint64(w) * _GOLDEN)
    for r in range(len(lanes)):
        u = lanes[r]
        count = np.uint16(u >= _RISES[0]) + np.uint16(u >= _RISES[1]) + np.uint16(u >= _RISES[2])
        count += np.uint16(u >= _RISES[3]) + np.uint16(u >= _RISES[4]) + np.uint16(u >= _RISES[5])
        counts[r] = np.uint16(count + np.uint16(u >= _RISES[6]) + np.uint16(u >= _RISES[7]))


@njit(cache=True, nogil=True)
def _draw(keys, replicates):  # type: ignore[no-untyped-def]
    words = np.empty((replicates + 3) >> 2, np.uint64)
    lanes, counts = words.view(np.uint16), np.empty(4 * len(words), np.uint16)
    out = np.empty((len(keys), replicates), np.uint8)
    for i in range(len(keys)):
        _counts(keys[i], words, lanes, counts)
        for r in range(replicates):
            out[i, r] = counts[r]
    return out


@njit(cache=True, nogil=True, inline="always")
def _add_chain(one, after, drawn, times, values, sums):  # type: ignore[no-untyped-def]
    """Adds rows of one group, four at a time where there are several: the sums, which no near cache holds, are
    read and written a fourth as often."""
    while one >= 0:
        two = after[one]
        if two < 0:  # alone
            for k in range(values.shape[1]):
                value = values[one, k]
                if value != 0.0:
                    row, drawn_one = sums[k], times[drawn[one]]
                    for r in range(times.shape[1]):
                        row[r] += value * drawn_one[r]
            break
        three = after[two]
        four = after[three] if three >= 0 else -1
        t1, t2 = times[drawn[one]], times[drawn[two]]
        t3, t4 = times[drawn[max(three, 0)]], times[drawn[max(four, 0)]]
        for k in range(values.shape[1]):
            v1, v2 = values[one, k], values[two, k]
            v3, v4 = values[three, k] if three >= 0 else 0.0, values[four, k] if four >= 0 else 0.0
            if v1 != 0.0 or v2 != 0.0 or v3 != 0.0 or v4 != 0.0:
                row = sums[k]
                for r in range(times.shape[1]):
                    row[r] += v1 * t1[r] + v2 * t2[r] + v3 * t3[r] + v4 * t4[r]
        one = after[four] if four >= 0 else -1


@njit(cache=True, nogil=True)
def _add(keys, groups, statistics, sums):  # type: ignore[no-untyped-def]
    replicates = sums.shape[2]
    words = np.empty((replicates + 3) >> 2, np.uint64)
    lanes, counts = words.view(np.uint16), np.empty(4 * len(words), np.uint16)
    times = np.empty((_AT_ONCE, replicates))
    drawn, after = np.empty(_AT_ONCE, np.int64), np.empty(_AT_ONCE, np.int64)
    first = np.full(len(sums), -1, np.int64)
    for start in range(0, len(keys), _AT_ONCE):
        own, values = keys[start : start + _AT_ONCE], statistics[start : start + _AT_ONCE]
        for i in range(len(own)):
            drawn[i] = drawn[i - 1] if i > 0 and own[i] == own[i - 1] else i
            if drawn[i] == i:
                _counts(own[i], words, lanes, counts)
                for r in range(replicates):
                    times[i, r] = counts[r]
        for c in range(groups.shape[1]):
            group = groups[start : start + _AT_ONCE, c]
            for i in range(len(own) - 1, -1, -1):  # the rows of a group become a chain, in their order
                if group[i] >= 0:
                    after[i] = first[group[i]]
                    first[group[i]] = i
            for i in range(len(own)):
                if group[i] >= 0:
                    _add_chain(first[group[i]], after, drawn, times, values, sums[group[i]])
                    first[group[i]] = -1
