"""The hashed logistic regression that scores: active indices and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.config import Dataset, LogregSpec
from clickmill.errors import ArtifactError, MissingColumnsError
from clickmill.models.card import Card
from clickmill.models.lookup import Lookup

ARRAYS = {"index": np.uint32, "weight": np.float64, "unseen": np.float64, "intercept": np.float64}


def feature_columns(spec: LogregSpec, dataset: Dataset) -> tuple[str, ...]:
    """The hash columns of `features` that a model eats: slots, numbers, crosses, in the data set's order."""
    asked = spec.columns
    named = [*_chosen(asked.slots, dataset.slots), *_chosen(asked.numbers, dataset.numbers)]
    crosses = _chosen(asked.crosses, dataset.crosses)
    return (*(f"s_{name}" for name in named), *("x_" + "_".join(cross) for cross in crosses))


def column_slots(columns: tuple[str, ...], dataset: Dataset) -> tuple[str, ...]:
    """The name that each hash column is hashed under: the slot's, or `a×b` for a cross."""
    crosses = {"x_" + "_".join(cross): "×".join(cross) for cross in dataset.crosses}
    return tuple(crosses.get(column) or column.removeprefix("s_") for column in columns)


def hashes(batch: pa.RecordBatch, column: str) -> NDArray[np.int32]:
    """One hash column of a batch, (n,). Raises MissingColumnsError where it is absent or has nulls."""
    if column not in batch.schema.names:
        raise MissingColumnsError(f"features: missing column {column}; found {batch.schema.names}")
    values = batch.column(column)
    if values.null_count:
        raise MissingColumnsError(
            f"features: column {column} is null in {values.null_count} of {len(values)} rows: "
            "these days were made with other slots or crosses; run build_features for them"
        )
    return np.asarray(values.cast(pa.int32()).to_numpy(zero_copy_only=False), np.int32)


@dataclass(frozen=True)
class LogregModel:
    """margin = intercept + Σ over columns of the weight of that column's index.

    index: (d,) uint32, rising; weight: (d,); unseen: (columns,) the weight of each column's rare value,
    which every value outside `index` is folded into (0 where training folded nothing).
    """

    card: Card
    index: NDArray[np.uint32]
    weight: NDArray[np.float64]
    unseen: NDArray[np.float64]
    intercept: float

    @classmethod
    def from_arrays(cls, card: Card, arrays: Mapping[str, NDArray[Any]]) -> LogregModel:
        """Raises ArtifactError where an array is missing or has another type or length."""
        found = {name: (str(array.dtype), array.ndim) for name, array in arrays.items()}
        if found != {name: (np.dtype(kind).name, 1) for name, kind in ARRAYS.items()}:
            raise ArtifactError(f"{card.model_id}: a logreg has the arrays {list(ARRAYS)}, found {found}")
        model = cls(card, arrays["index"], arrays["weight"], arrays["unseen"], float(arrays["intercept"][0]))
        if len(model.weight) != len(model.index) or len(model.unseen) != len(model.columns):
            raise ArtifactError(
                f"{card.model_id}: {len(model.index)} indices with {len(model.weight)} weights, "
                f"{len(model.columns)} columns with {len(model.unseen)} weights of unseen values"
            )
        if np.any(model.index[1:] <= model.index[:-1]):
            raise ArtifactError(f"{card.model_id}: the indices do not rise")
        return model

    @cached_property
    def spec(self) -> LogregSpec:
        return LogregSpec.model_validate(self.card.spec)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of `features` that `margins` needs."""
        return feature_columns(self.spec, Dataset.model_validate(self.card.dataset))

    def margins(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """logit of p_sampled of each of n rows, (n,); of p where `card.correction` is `weight`."""
        out = np.full(batch.num_rows, self.intercept)
        for column, unseen in zip(self.columns, self.unseen, strict=True):
            self._lookup.add_weights(hashes(batch, column), self.weight, unseen, out)
        return out

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.index, self.spec.bits)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to workers: arrays and card, without what each process makes of them."""
        made = {"spec", "columns", "_lookup"}
        return {name: value for name, value in self.__dict__.items() if name not in made}


def _chosen(asked: Any, known: tuple[Any, ...]) -> tuple[Any, ...]:
    return known if asked == "all" else tuple(item for item in known if item in asked)
