"""The truth behind a simulated log: what each value does to the logit. No Spark.

logit p = intercept + Σ slots + Σ planted crosses + Σ curves of numbers + affinities + user + hour of day + drift.
An effect is a keyed normal: a pure function of (seed, slot, value), so that no table of values is
held and any block of rows can be made anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clickmill.hashing import splitmix64

CARDINALITIES = (
    3, 8, 20, 50, 100, 30, 12, 5, 200, 400, 15, 1_000, 60, 2_500, 25, 5_000, 10, 10_000, 40, 4, 30_000, 150,
    100_000, 80, 300_000, 1_000_000,
)  # fmt: skip
"""Values of C1 … C26."""
SLOTS = tuple(f"C{i + 1}" for i in range(len(CARDINALITIES)))
NUMBERS = tuple(f"I{i + 1}" for i in range(13))
SCALES = (
    0.1, 0.15, 0.2, 0.2, 0.25, 0.0, 0.1, 0.0, 0.3, 0.3, 0.0, 0.3, 0.0, 0.25, 0.1, 0.2, 0.0, 0.2, 0.0, 0.1, 0.15,
    0.1, 0.1, 0.0, 0.1, 0.05,
)  # fmt: skip
"""Standard deviation of each slot's effect on the logit; 0: the slot says nothing by itself."""
CROSSES = ((0, 3), (1, 4), (2, 6), (3, 12), (5, 10), (7, 18))
"""Planted crosses, as places in SLOTS; every other cross says nothing."""
CROSS_SCALE = 0.45
AFFINE = ((8, 9), (8, 11), (9, 11))
"""Pairs of places in SLOTS whose values have an affinity: the product of the TRAITS traits of either, summed. So a
pair of values that was never seen is known from others that its two values were seen in."""
TRAITS = 4
USER_SCALE = 0.3
NUMBER_SCALE = 0.15
LARGE = 1_000
"""A slot with so many values or more shows new ones each day."""
CONVERSION_LOGIT = -2.0
DRIFTING = (1, 2, 3)
"""Slots whose effects walk from day to day."""
_MEMORY = 0.95 ** np.arange(90)
"""What is left today of the steps of the last 90 days."""


def effects(seed: int, slot: int, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard normal of each value of a slot, keyed; slots from 1000 on are crosses, users and the like."""
    normals: NDArray[np.float64] = _normals(np.uint64(seed), np.uint64(slot), values)
    return normals


def cross_values(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each pair of values."""
    return left * np.int64(2**31) + right


def logits(columns: dict[str, NDArray[Any]], *, seed: int, affinity: float = 0.0) -> NDArray[np.float64]:
    """(n,) logits without intercept and drift; `affinity` is the standard deviation of what affinities add.

    columns: `slots` (26, n) value numbers, `numbers` (13, n) standard normals behind the numbers,
    `user` (n,), `hour` (n,) in [0, 24).
    """
    slots, numbers, hour = columns["slots"], columns["numbers"], columns["hour"]
    total = USER_SCALE * effects(seed, 1000, columns["user"])
    total += 0.25 * np.sin(2 * np.pi * (hour - 9) / 24)
    for place, scale in enumerate(SCALES):
        if scale:
            total += scale * effects(seed, place, slots[place])
    for number, (left, right) in enumerate(CROSSES):
        pair = cross_values(slots[left], slots[right])
        total += CROSS_SCALE * effects(seed, 2000 + number, pair)
    if affinity:
        total += affinity * affinities(seed, slots)
    for place in range(0, len(NUMBERS), 2):
        total += NUMBER_SCALE * np.sin(1.5 * numbers[place] + place)
    return total


def affinities(seed: int, slots: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) sums over the pairs of AFFINE and over traits, of mean 0 and variance 1 over values drawn evenly."""
    total = np.zeros(slots.shape[1])
    for trait in range(TRAITS):
        own = {
            place: effects(seed, 5000 + 100 * trait + place, slots[place])
            for place in sorted({place for pair in AFFINE for place in pair})
        }
        for left, right in AFFINE:
            total += own[left] * own[right]
    total /= np.sqrt(TRAITS * len(AFFINE))
    return total


def walk(seed: int, day: int, *, step: float) -> dict[int, NDArray[np.float64]]:
    """Where the drifting effects stand on a day (a number of days, of either sign): slot → effect of each value.

    Slot −1 is the intercept. Each moves by steps of standard deviation `step` a day and forgets 5% of
    where it stood (an autoregression of order one), so that it stays near 0 (a standard deviation of 3.2
    steps) and the click-through rate near what was asked, however late the day.
    """
    days = day - np.arange(len(_MEMORY), dtype=np.int64)
    standing = {-1: step * (effects(seed, 3000, days) @ _MEMORY)[None]}
    for place in DRIFTING:
        keys = np.arange(CARDINALITIES[place], dtype=np.int64)[:, None] * 10_000_000 + days
        normals = effects(seed, 3001 + place, keys.ravel()).reshape(keys.shape)
        standing[place] = step * (normals @ _MEMORY)
    return standing


def sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + e^−x)."""
    odds: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logit))
    return odds


def solve_intercept(logit: NDArray[np.float64], ctr: float) -> float:
    """The intercept at which the mean of sigmoid(logit + intercept) is `ctr`, by bisection to 1e-9."""
    low, high = -40.0, 40.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if sigmoid(logit + middle).mean() < ctr:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@njit(cache=True, nogil=True)
def _normals(seed, slot, values):  # type: ignore[no-untyped-def]
    """Sum of the four 16-bit parts of a keyed word, centred and scaled: variance 1, bounded by 3.5."""
    base = splitmix64(np.uint64(splitmix64(seed) ^ (slot * np.uint64(0xD1B54A32D192ED03))))
    out = np.empty(len(values), np.float64)
    for i in range(len(values)):
        word = splitmix64(np.uint64(base ^ np.uint64(values[i])))
        parts = np.float64(0.0)
        for j in range(4):
            parts += np.float64((word >> np.uint64(16 * j)) & np.uint64(0xFFFF)) + 0.5
        out[i] = (parts / 65536.0 - 2.0) * np.sqrt(3.0)
    return out


@njit(cache=True, nogil=True)
def value_digits(seed, slot, values):  # type: ignore[no-untyped-def]
    """Eight hex digits a value, as bytes (8 n,): how Criteo's log spells its categories."""
    base = splitmix64(np.uint64(splitmix64(seed) ^ np.uint64(slot) ^ np.uint64(0x5EED)))
    out = np.empty(8 * len(values), np.uint8)
    for i in range(len(values)):
        word = splitmix64(np.uint64(base ^ np.uint64(values[i])))
        for j in range(8):
            digit = np.int64((word >> np.uint64(4 * j)) & np.uint64(15))
            out[8 * i + j] = digit + (48 if digit < 10 else 87)
    return out
