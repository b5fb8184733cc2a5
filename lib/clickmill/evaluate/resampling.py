"""Resampled sums of the judged rows: what intervals and paired differences are made of. No Spark.

A replicate counts every row as often as its unit was drawn (`clickmill.bootstrap`). All models of a day are
counted with the same draws, so that a difference of two of them, replicate by replicate, is a paired one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill import hashing
from clickmill.bootstrap import MIN_UNITS, Draws, Keys, Replicates, add_draws
from clickmill.evaluate.cells import Cells, Judged
from clickmill.evaluate.slices import Int32
from clickmill.metrics import Array

SHARED = 2
"""Σv and Σvy, which all models have in common, come first; then of each model Σvp, Σv·log-loss, Σv(p − y)²."""
OWN = 3
RANK_BINS = 1000
"""Bins of equal mass of a model's resampled ranking."""


@dataclass
class Resampled:
    """What a partition's rows, or all of them, add up to: sums by group, statistic and replicate."""

    replicates: Replicates
    rows: int = 0
    mark: int = 0
    """Σ of a hash of event id and label, modulo 2^64: with `rows` it tells other rows apart, in any order."""

    @classmethod
    def empty(cls, groups: int, models: int, replicates: int) -> Resampled:
        """No rows."""
        return cls(Replicates.empty(groups, SHARED + OWN * models, replicates))

    def add(self, event_id: pa.Array, unit: Keys | None, groups: Int32, judged: Sequence[Judged]) -> None:
        """Counts n rows, as every model judges them.

        unit: None where there are no replicates. groups: (n, ways); the first way, which holds every row, is added
        up by `whole`.
        """
        label = judged[0].label
        words = hashing.keyed_words("judged", 0, event_id) * (2 * label.astype(np.uint64) + 1)
        self.rows += len(words)
        self.mark = (self.mark + int(words.sum(dtype=np.uint64))) % 2**64
        if unit is not None:
            self.replicates.add(unit, np.ascontiguousarray(groups[:, 1:]), statistics(judged))

    @property
    def digest(self) -> str:
        """Names the judged rows."""
        return f"{self.rows}-{self.mark:016x}"

    def to_bytes(self) -> bytes:
        """An `.npz` of plain arrays."""
        out = io.BytesIO()
        units, ends = self.replicates.units, np.cumsum([len(keys) for keys in self.replicates.units])
        counted = np.array([self.rows, self.mark], np.uint64)
        np.savez(out, sums=self.replicates.sums, units=np.concatenate(units), ends=ends, counted=counted)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Resampled:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            units = np.split(arrays["units"], arrays["ends"][:-1])
            rows, mark = (int(number) for number in arrays["counted"])
            return cls(Replicates(arrays["sums"], units), rows, mark)

    @classmethod
    def merge(cls, parts: Sequence[Resampled]) -> Resampled:
        """One of all parts."""
        marks = sum(part.mark for part in parts) % 2**64
        return cls(Replicates.merge([part.replicates for part in parts]), sum(part.rows for part in parts), marks)

    def whole(self, groups: range) -> None:
        """Fills the first group, every row, from groups that hold each row once."""
        held = self.replicates
        held.sums[0] = held.sums[groups.start : groups.stop].sum(axis=0)
        held.units[0] = np.unique(np.concatenate(held.units[groups.start : groups.stop]))[:MIN_UNITS]

    def draws(self, model: int, group: int) -> Draws:
        """The replicates of one model in one group."""
        first = SHARED + OWN * model
        sums = self.replicates.sums[group]
        return Draws(sums[0], sums[1], *sums[first : first + OWN])

    def units(self, group: int) -> int:
        """How many units a group has, counted no further than bootstrap.MIN_UNITS."""
        return len(self.replicates.units[group])

    @property
    def has_intervals(self) -> bool:
        """Whether all rows together have units enough for an interval."""
        return self.units(0) >= MIN_UNITS


def statistics(judged: Sequence[Judged]) -> Array:
    """What is summed of each of n rows, (n, SHARED + OWN·models), from the rows as every model judges them."""
    weight = judged[0].weight
    own = (term for one in judged for term in one.terms[one.place[-1]][:OWN])
    return np.column_stack([weight, weight * judged[0].label, *own])


@dataclass
class Ranked:
    """Weights of one model's non-clicks and clicks, by turns, in bins of p.

    sums: (2·bins, 1, replicates); counts: (2·bins,), the rows as they are.
    """

    sums: Array
    counts: Array

    @classmethod
    def empty(cls, bins: int, replicates: int) -> Ranked:
        """No rows."""
        return cls(np.zeros((2 * bins, 1, replicates)), np.zeros(2 * bins))

    def add(self, bins: NDArray[np.int64], label: NDArray[np.int8], weight: Array, unit: Keys) -> None:
        """Counts n rows. bins: (n,), rising with p."""
        group = (2 * bins + label).astype(np.int32)
        self.counts += np.bincount(group, weight, minlength=len(self.counts))
        add_draws(unit, group[:, None], weight[:, None], self.sums)

    def to_bytes(self) -> bytes:
        """An `.npz` of plain arrays."""
        out = io.BytesIO()
        np.savez(out, sums=self.sums, counts=self.counts)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Ranked:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["sums"], arrays["counts"])

    @classmethod
    def merge(cls, parts: Sequence[Ranked]) -> Ranked:
        """One of all parts."""
        return cls(np.sum([part.sums for part in parts], axis=0), np.sum([part.counts for part in parts], axis=0))

    def aucs(self) -> tuple[float, Array]:
        """AUC of the rows as binned, and of each replicate, NaN where one class is absent."""
        return float(_auc(self.counts[:, None])[0]), _auc(self.sums[:, 0, :])

    def click_rates(self, bins: int) -> Array:
        """Click rate by replicate of those of `bins` bins, each of equally many of ours, that have rows."""
        held = self.counts.reshape(bins, -1).sum(axis=1) > 0
        sums = self.sums[:, 0, :].reshape(bins, -1, 2, self.sums.shape[2]).sum(axis=1)[held]
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[:, 1] / sums.sum(axis=1))


def rank_edges(cells: Cells) -> Array:
    """The p_sampled at which RANK_BINS bins of equal mass end, rising, but the last; a bin may be empty."""
    mass = cells.clicks + cells.others
    middle = np.cumsum(mass) - mass / 2
    place = np.minimum((middle * RANK_BINS / mass.sum()).astype(np.int64), RANK_BINS - 1)
    ends = np.full(RANK_BINS, -np.inf)
    np.maximum.at(ends, place, cells.high)
    return np.asarray(np.maximum.accumulate(ends)[:-1])


def _auc(counts: Array) -> Array:
    """Of columns of counts, non-clicks and clicks of each bin by turns, in rising order."""
    others, clicks = counts[0::2], counts[1::2]
    above = clicks[::-1].cumsum(axis=0)[::-1] - clicks
    with np.errstate(invalid="ignore"):
        return np.asarray((others * (above + clicks / 2)).sum(axis=0) / (others.sum(axis=0) * clicks.sum(axis=0)))
