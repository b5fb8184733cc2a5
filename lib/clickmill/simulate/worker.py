"""Blocks of a day → rows of the log. What runs on executors; no Spark here.

A day is made of blocks of BLOCK_ROWS rows, each from its own counter-based stream (Philox, keyed by
seed, day and block), so that the rows are the same however many partitions make them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clickmill.simulate import truth

BLOCK_ROWS = 10_000
FIRST_DAY = date(2026, 1, 1)
"""Days are counted from this one."""
REFERENCE_ROWS = 400_000
"""Enough for the click-through rate to be within 0.7% of what is asked, in 998 of 1000 seeds."""
ZIPF = 1.15
_REFERENCE = 2**32
"""Streams whose seed has this bit serve the intercept only; a config's seed is smaller."""

RAW_LOG = pa.schema(
    [
        ("event_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("user", pa.string()),
        *((name, pa.int64()) for name in truth.NUMBERS),
        *((name, pa.string()) for name in truth.SLOTS),
        ("click", pa.int8()),
        ("conversion", pa.int8()),
        ("p_true", pa.float64()),
        ("ds", pa.date32()),
    ]
)


@dataclass(frozen=True)
class World:
    """All that the rows hang on. `intercept` gives the click-through rate asked for on a day without drift."""

    seed: int
    users: int
    drift: float
    new_value_share: float
    rows_per_day: int
    affinity: float = 0.0
    intercept: float = 0.0


def intercept_for(world: World, ctr: float) -> float:
    """Solved on REFERENCE_ROWS keyed rows, which no log shows."""
    blocks = range(REFERENCE_ROWS // BLOCK_ROWS)
    drawn = (_causes(_stream(world.seed | _REFERENCE, 0, block), world, 0, BLOCK_ROWS) for block in blocks)
    logits = [truth.logits(causes, seed=world.seed, affinity=world.affinity) for causes in drawn]
    return truth.solve_intercept(np.concatenate(logits), ctr)


def rows(batches: Iterator[pa.RecordBatch], *, world: World, first: date) -> Iterator[pa.RecordBatch]:
    """Batches of block numbers (`id`, counted from day `first` on) → the rows of those blocks."""
    blocks = blocks_a_day(world)
    for batch in batches:
        for number in batch.column("id").to_pylist():
            yield block_rows(world, first + timedelta(days=number // blocks), number % blocks)


def blocks_a_day(world: World) -> int:
    """How many blocks make a day."""
    return -(-world.rows_per_day // BLOCK_ROWS)


def block_rows(world: World, day: date, block: int) -> pa.RecordBatch:
    """One block of a day, as a batch of RAW_LOG."""
    start = block * BLOCK_ROWS
    n = min(BLOCK_ROWS, world.rows_per_day - start)
    since = (day - FIRST_DAY).days
    rng = _stream(world.seed, since, block)
    columns = _causes(rng, world, since, n)
    holes, coins = rng.random((len(truth.NUMBERS) + 4, n)), rng.random((2, n))
    logit = truth.logits(columns, seed=world.seed, affinity=world.affinity) + world.intercept
    standing = truth.walk(world.seed, since, step=world.drift)
    logit += standing.pop(-1)[0]
    for place, effect in standing.items():
        known = np.minimum(columns["slots"][place], len(effect) - 1)
        logit += effect[known]
    p = truth.sigmoid(logit)
    click = coins[0] < p
    wanted = truth.CONVERSION_LOGIT + 0.7 * truth.effects(world.seed, 4000, columns["slots"][4])
    conversion = click & (coins[1] < truth.sigmoid(wanted))
    midnight = np.datetime64(day, "us")
    times = midnight + (columns["hour"] * 3.6e9).astype("timedelta64[us]")
    arrays = [
        _event_ids(day, start, n),
        pa.array(times, pa.timestamp("us", tz="UTC")),
        _texts(world.seed, 1000, columns["user"], None),
        *(_number(columns["numbers"][place], holes[place], place) for place in range(len(truth.NUMBERS))),
        *(_slot(world.seed, columns["slots"][place], holes, place) for place in range(len(truth.SLOTS))),
        pa.array(click.astype(np.int8)),
        pa.array(conversion.astype(np.int8)),
        pa.array(p),
        pa.repeat(pa.scalar(day), n),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_LOG)


def _stream(seed: int, day: int, block: int) -> np.random.Generator:
    """The random numbers of one block of one day (counted from FIRST_DAY)."""
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, (day & 0xFFFFFF) << 40 | block], dtype=np.uint64))
    )


def _causes(rng: np.random.Generator, world: World, day: int, n: int) -> dict[str, NDArray[Any]]:
    """What the logits of n rows hang on: see `truth.logits`."""
    slots = np.empty((len(truth.SLOTS), n), np.int64)
    for place, size in enumerate(truth.CARDINALITIES):
        slots[place] = _zipf(rng.random(n), size)
        if size >= truth.LARGE:
            new = rng.random(n) < world.new_value_share
            # each day has values of its own, a hundredth as many as the slot has
            fresh = size + (day & 0xFFFFFF) * (size // 100) + _zipf(rng.random(n), size // 100)
            slots[place] = np.where(new, fresh, slots[place])
    return {
        "slots": slots,
        "numbers": rng.standard_normal((len(truth.NUMBERS), n)),
        "user": _zipf(rng.random(n), world.users, 0.8),
        "hour": _hours(rng.random(n)),
    }


def _zipf(uniform: NDArray[np.float64], size: int, exponent: float = ZIPF) -> NDArray[np.int64]:
    """Value numbers in [0, size), the k-th about as often as k^−exponent: inverse of the continuous law."""
    power = 1.0 - exponent
    rank = (uniform * ((size + 1.0) ** power - 1.0) + 1.0) ** (1.0 / power)
    values: NDArray[np.int64] = np.minimum(rank.astype(np.int64) - 1, size - 1)
    return values


def _hours(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hour of day in [0, 24): evenings see three times the traffic of the small hours."""
    share = 1.0 + 0.5 * np.sin(2 * np.pi * (np.arange(24) - 13) / 24)
    edges = np.concatenate([[0.0], np.cumsum(share) / share.sum()])
    edges[-1] = 1.0
    hours: NDArray[np.float64] = np.minimum(np.interp(uniform, edges, np.arange(25.0)), np.nextafter(24.0, 0.0))
    return hours


def _event_ids(day: date, start: int, n: int) -> pa.Array:
    """`20260101-000000000`, …: the day and the row's place in it."""
    places = pc.utf8_lpad(pa.array(np.arange(start, start + n)).cast(pa.string()), width=9, padding="0")
    return pc.binary_join_element_wise(pa.scalar(f"{day:%Y%m%d}"), places, "-")


def _number(normals: NDArray[np.float64], holes: NDArray[np.float64], place: int) -> pa.Array:
    """Heavy-tailed counts with holes; I2 goes below zero, as in Criteo's log."""
    spread = 0.6 + 0.15 * place
    values = np.floor(np.exp(1.0 + 0.2 * place + spread * normals)).astype(np.int64)
    if place == 1:
        values -= 3
    return pa.array(values, mask=holes < 0.04 * place)


def _slot(seed: int, values: NDArray[np.int64], holes: NDArray[np.float64], place: int) -> pa.Array:
    """Every sixth slot misses 5% of its values."""
    missing = holes[len(truth.NUMBERS) + place % 4] < 0.05 if place % 6 == 5 else None
    return _texts(seed, place, values, missing)


def _texts(seed: int, slot: int, values: NDArray[np.int64], holes: NDArray[np.bool_] | None) -> pa.Array:
    digits = truth.value_digits(np.uint64(seed), slot, values)
    ends = np.arange(len(values) + 1, dtype=np.int32) * 8
    there = None if holes is None else pa.array(~holes).buffers()[1]
    nulls = 0 if holes is None else int(holes.sum())
    return pa.Array.from_buffers(
        pa.string(), len(values), [there, pa.py_buffer(ends), pa.py_buffer(digits)], nulls
    )
