"""A rank's rows as XGBoost takes them: batches of floats, kept on disk, since it reads them several times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from clickmill.models.trees import import_xgboost
from clickmill.models.xgboost import Inputs, Matrix
from clickmill.train.sampled import Doubles, numbers

if TYPE_CHECKING:
    from xgboost import DMatrix


@dataclass(frozen=True)
class Blocks:
    """n rows: their floats in a file, block after block, and their numbers."""

    file: Path
    sizes: tuple[int, ...]
    """Rows of each block; none, for a rank without rows."""
    names: tuple[str, ...]
    label: Doubles
    weight: Doubles
    """1 where the batches have none."""
    keep_rates: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[Matrix]:
        """(rows, f) each, in order."""
        with self.file.open("rb") as source:
            for rows in self.sizes:
                flat = np.fromfile(source, np.float32, rows * len(self.names))
                yield flat.reshape(rows, len(self.names))

    def first(self, rows: int) -> Matrix:
        """The first rows, or as many as there are."""
        for block in self:
            return block[:rows]
        return np.empty((0, len(self.names)), np.float32)


def written(batches: Iterable[pa.RecordBatch], inputs: Inputs, file: Path) -> Blocks:
    """The batches' rows, encoded and written to a file. Needs `label`; `weight` and `keep_rate` may be absent."""
    sizes, labels, weights = [], [np.empty(0)], [np.empty(0)]
    rates: set[float] = set()
    with file.open("wb") as sink:
        for batch in batches:
            if not batch.num_rows:
                continue
            inputs.matrix(batch).tofile(sink)
            sizes.append(batch.num_rows)
            labels.append(numbers(batch, "label"))
            sampled = "weight" in batch.schema.names
            weights.append(numbers(batch, "weight") if sampled else np.ones(batch.num_rows))
            rates.update(np.unique(numbers(batch, "keep_rate")).tolist() if sampled else ())
    label, weight = np.concatenate(labels), np.concatenate(weights)
    return Blocks(file, tuple(sizes), inputs.names, label, weight, tuple(sorted(rates)))


def binned(
    blocks: Blocks,
    *,
    max_bin: int,
    weighted: bool,
    like: DMatrix | None = None,
    cache: Path | None = None,
) -> DMatrix:
    """The rows as XGBoost's bins; `cache`: a folder that they are kept in, rather than in memory.

    like: the matrix whose bins are taken. A rank without rows gives one that
    weighs nothing: with none at all XGBoost leaves the sums that the other ranks wait for.
    """
    import_xgboost()
    from xgboost import ExtMemQuantileDMatrix, QuantileDMatrix

    handed = _iterator(blocks, weighted=weighted, cache=cache)
    kind = QuantileDMatrix if cache is None else ExtMemQuantileDMatrix
    return kind(handed, max_bin=max_bin, ref=like, nthread=1)


def _iterator(blocks: Blocks, *, weighted: bool, cache: Path | None) -> Any:
    from xgboost import DataIter

    class Handed(DataIter):
        """XGBoost's way of asking for batches."""

        def __init__(self) -> None:
            self._blocks: Iterator[Matrix] = iter(())
            self._at = 0
            super().__init__(cache_prefix=None if cache is None else str(cache / blocks.file.stem))

        def next(self, input_data: Callable[..., Any]) -> bool:
            block = next(self._blocks, None)
            if block is None:
                return False
            rows = slice(self._at, self._at + len(block))
            self._at = rows.stop
            said = {"label": blocks.label[rows]} if len(blocks) else {"label": np.zeros(1)}
            if weighted or not len(blocks):
                said["weight"] = blocks.weight[rows] if len(blocks) else np.zeros(1)
            input_data(data=block, feature_names=list(blocks.names), **said)
            return True

        def reset(self) -> None:
            empty = np.full((1, len(blocks.names)), np.nan, np.float32)
            self._blocks, self._at = iter(blocks if len(blocks) else [empty]), 0

    return Handed()


def bytes_of(blocks: Blocks) -> int:
    """Of the binned rows, at most: xgboost holds a number's bin twice, by row and by column. 5 to 7 bytes were
    measured where numbers are missing, 2.8 where none is."""
    return 7 * len(blocks) * len(blocks.names)
