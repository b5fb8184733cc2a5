"""What is known of training rows before the first step: counts, keep rate, how numbers are spread. No Spark."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill import reader
from clickmill.errors import InputError
from clickmill.loader import Counted, real
from clickmill.nets.standard import moments
from clickmill.reader import Shard
from clickmill.train.sampled import Doubles, keep_rate_from, numbers, require_both_labels
from clickmill.train.wide_deep.team import Team

COUNTS = 5
"""Rows, clicks, what non-clicks weigh, what all weigh, what clicks weigh."""


@dataclass(frozen=True)
class Known:
    """Of all ranks' rows."""

    rows: int
    clicks: int
    base_rate: float
    """Click rate of the sample, weighted where training is."""
    keep_rate: float
    moments: tuple[tuple[float, float, float], ...]
    """Of each number; see `nets.standard`."""


class TeamRing:
    """A team as what the other trainers add up by."""

    def __init__(self, team: Team) -> None:
        self.rank, self.size, self._team = team.rank, team.size, team

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        import torch

        # (A tensor of its own: the sum is made in place.)
        tensor = torch.from_numpy(np.array(values))
        self._team.sum(tensor)
        return np.asarray(tensor.numpy())


def known(
    pieces: Sequence[Counted],
    columns: Sequence[str],
    team: Team,
    *,
    correction: Literal["prior", "weight"],
    threads: int = 1,
) -> Known:
    """Reads label, weight, keep rate and the numbers `columns` of this rank's share of the row groups.

    Raises NoRowsError, DegenerateLabelsError or KeepRateError on all ranks alike; MissingColumnsError, InputError.
    """
    own = pieces[team.rank :: team.size]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(partial(_of_piece, columns=columns), own))
    ring = TeamRing(team)
    width = COUNTS + 3 * len(columns)
    # (Added up by one thread, in the order of the row groups: the same bits in every run.)
    own_sums = np.sum([np.zeros(width), *(one.sums for one in found)], axis=0)
    rates = set().union(*(one.rates for one in found))
    sums = ring.sum(own_sums)
    rows, clicks, _, weight, weighted = (float(one) for one in sums[:COUNTS])
    require_both_labels("wide_deep", int(rows), int(clicks))
    kept = (float(own_sums[0] - own_sums[1]), float(own_sums[2]))
    rate = keep_rate_from(rates, kept, ring, correction)
    base_rate = weighted / weight if correction == "weight" else clicks / rows
    spread = tuple((float(n), float(total), float(squares)) for n, total, squares in sums[COUNTS:].reshape(-1, 3))
    return Known(int(rows), int(clicks), base_rate, rate, spread)


class _Sums(NamedTuple):
    sums: Doubles
    rates: set[float]


def _of_piece(one: Counted, columns: Sequence[str]) -> _Sums:
    sums, rates = np.zeros(COUNTS + 3 * len(columns)), set[float]()
    wanted = ("label", "weight", "keep_rate", *columns)
    for batch in reader.read(Shard((one.piece,)), columns=wanted, stretch=one.stretch):
        label, weight = numbers(batch, "label"), numbers(batch, "weight")
        if not ((label == 0) | (label == 1)).all():
            raise InputError(f"{one.piece.path}, row group {one.piece.row_group}: a label is neither 0 nor 1")
        rates.update(np.unique(numbers(batch, "keep_rate")).tolist())
        counts = [len(label), label.sum(), weight @ (1 - label), weight.sum(), weight @ label]
        sums += np.concatenate((counts, moments(_real(batch, columns)).ravel()))
    return _Sums(sums, rates)


def _real(batch: pa.RecordBatch, columns: Sequence[str]) -> NDArray[np.float32]:
    """(n, f), as the loader hands them over: NaN where a number is missing, none infinite."""
    found = np.empty((batch.num_rows, len(columns)), np.float32)
    for place, name in enumerate(columns):
        found[:, place] = real(batch, name)
    return found
