"""What every trainer does with a rank's rows: where they come from, their numbers, the keep rate of them all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.errors import DegenerateLabelsError, KeepRateError, MissingColumnsError, NoRowsError
from clickmill.sampling import single_keep_rate
from clickmill.train.ring import Ring, gather_uneven
from clickmill.train.watch import Say

Doubles = NDArray[np.float64]
Batches = Iterable[pa.RecordBatch]


class Source(Protocol):
    """Where a rank's rows come from. Training rows are read once, the first of validation perhaps twice."""

    def training(self) -> Batches:
        """Batches with the model's columns, `label`, `weight`, `keep_rate`."""

    def validation(self) -> Batches:
        """Batches at full traffic with the model's columns and `label`."""


def numbers(batch: pa.RecordBatch, column: str) -> Doubles:
    """A column as (n,) float64. Raises MissingColumnsError where it has nulls."""
    values = batch.column(column)
    if values.null_count:
        raise MissingColumnsError(f"sample: column {column} is null in {values.null_count} rows")
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)


def told(batches: Batches, say: Say | None) -> Iterator[pa.RecordBatch]:
    """The batches; how many of this rank's rows have been read is said after each."""
    total = 0
    for batch in batches:
        yield batch
        total += batch.num_rows
        if say is not None:
            say(f"{total} rows read by the first rank")


def keep_rate_of(
    rates: Sequence[float],
    label: NDArray[np.floating],
    weight: NDArray[np.floating],
    ring: Ring,
    correction: Literal["prior", "weight"],
) -> float:
    """The keep rate of all ranks' rows; under `weight` mixed rates are one average. Raises KeepRateError.

    rates: those of this rank's rows. label, weight: (n,).
    """
    kept = label == 0
    return keep_rate_from(rates, (float(kept.sum()), float(weight[kept].sum())), ring, correction)


def keep_rate_from(
    rates: Iterable[float], kept: tuple[float, float], ring: Ring, correction: Literal["prior", "weight"]
) -> float:
    """As `keep_rate_of`, from how many non-clicks this rank has, and what they weigh."""
    found = np.unique(gather_uneven(ring, np.array(list(rates), np.float64))).tolist()
    if not found or correction == "prior":
        return single_keep_rate(found) if found else 1.0  # no rows at all: told by `require_both_labels`
    if not all(0 < rate <= 1 for rate in found):
        raise KeepRateError(f"keep rates must lie in (0, 1], found {found}")
    number, total = ring.sum(np.array(kept, np.float64))
    return float(found[0]) if len(found) == 1 else float(number / total)


def normalized(loss: float, q: float) -> float | None:
    """Log-loss over the entropy of the click rate q; None where all labels agree."""
    return loss / -(q * math.log(q) + (1 - q) * math.log1p(-q)) if 0 < q < 1 else None


def require_both_labels(kind: str, rows: int, clicks: int) -> None:
    """Raises NoRowsError or DegenerateLabelsError where the rows of all ranks cannot be trained on."""
    if rows == 0:
        raise NoRowsError(f"{kind}: the training stretch has no rows")
    if clicks in (0, rows):
        raise DegenerateLabelsError(f"{kind}: all {rows} training labels are {int(clicks > 0)}: nothing to learn")
