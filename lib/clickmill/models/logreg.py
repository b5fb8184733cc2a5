"""The hashed logistic regression that scores: features by their keys, and the weights of these.

A value's key is the index that its hash is reduced to, `bits` bits, where `min_count` is 1; else the whole
hash, since a value is kept or folded by its own count and not by that of all who share its index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.config import Encodings
from clickmill.dataset import Dataset
from clickmill.errors import ArtifactError, MissingColumnsError
from clickmill.hashing import rare_hash, to_index
from clickmill.lookup import Lookup
from clickmill.models.card import Card
from clickmill.specs import Columns, LogregSpec, chosen


def key_bits(spec: LogregSpec) -> int:
    """Bits of the keys that features are looked up by: `bits`, or 32, whole hashes, where values are folded."""
    return spec.bits if spec.min_count == 1 else 32


def key_array(spec: LogregSpec) -> str:
    """The name of the keys among an artifact's arrays: `index`, or `kept`, the hashes of the kept values."""
    return "index" if spec.min_count == 1 else "kept"


def rare_index(slots: tuple[str, ...], bits: int) -> NDArray[np.uint32]:
    """(m,) the index of each slot's rare value."""
    return to_index(np.array([rare_hash(slot) for slot in slots], np.int32), bits).view(np.uint32)


def feature_columns(spec: LogregSpec, dataset: Dataset) -> tuple[str, ...]:
    """The hash columns of `features` that a model eats: slots, numbers, crosses, in the data set's order."""
    return hash_columns(spec.columns, dataset)


def hash_columns(asked: Columns | Encodings, dataset: Dataset) -> tuple[str, ...]:
    """The hash columns of `features` that are asked for: slots, numbers, crosses, in the data set's order."""
    numbers = asked.numbers if isinstance(asked, Columns) else ()
    named = [*chosen(asked.slots, dataset.slots), *chosen(numbers, dataset.numbers)]
    crosses = chosen(asked.crosses, dataset.crosses)
    return (*(f"s_{name}" for name in named), *("x_" + "_".join(cross) for cross in crosses))


def column_slots(columns: tuple[str, ...], dataset: Dataset) -> tuple[str, ...]:
    """The name that each hash column is hashed under: the slot's, or `a×b` for a cross."""
    crosses = {"x_" + "_".join(cross): "×".join(cross) for cross in dataset.crosses}
    return tuple(crosses.get(column) or column.removeprefix("s_") for column in columns)


def hashes(batch: pa.RecordBatch, column: str) -> NDArray[np.int32]:
    """One hash column of a batch, (n,). Raises MissingColumnsError where it is absent or has nulls."""
    place = batch.schema.get_field_index(column)  # (schema.names makes all the names for each column)
    if place < 0:
        raise MissingColumnsError(f"features: missing column {column}; found {batch.schema.names}")
    values = batch.column(place)
    if values.null_count:
        raise MissingColumnsError(
            f"features: column {column} is null in {values.null_count} of {len(values)} rows: "
            "these days were made with other slots or crosses; run build_features for them"
        )
    return np.asarray(values.cast(pa.int32()).to_numpy(zero_copy_only=False), np.int32)


@dataclass(frozen=True)
class LogregModel:
    """margin = intercept + Σ over columns of the weight of that column's value.

    keys: (k,) uint32, rising, of `key_bits` bits; weight: (k,). unseen: (columns,) the weight of each column's
    rare value, which every value without a key is folded into. With `min_count` 1 it is 0, and a value never
    seen weighs 0 unless it shares its index with one that was: only the kept hashes would tell them apart,
    and they would make the artifact of the default, which folds nothing, as large as its vocabulary.
    """

    card: Card
    keys: NDArray[np.uint32]
    weight: NDArray[np.float64]
    unseen: NDArray[np.float64]
    intercept: float
    leaves: tuple[str, ...] = ()
    """Hash columns beside those of `features`: the leaves of trees."""

    @classmethod
    def from_files(
        cls,
        card: Card,
        arrays: Mapping[str, NDArray[Any]],
        _: bytes | None = None,
        *,
        leaves: tuple[str, ...] = (),
    ) -> LogregModel:
        """Raises ArtifactError where an array is missing or has another type or length."""
        keys = key_array(LogregSpec.model_validate(card.spec))
        wanted = {keys: np.uint32, "weight": np.float64, "unseen": np.float64, "intercept": np.float64}
        found = {name: (str(array.dtype), array.ndim) for name, array in arrays.items()}
        if found != {name: (np.dtype(kind).name, 1) for name, kind in wanted.items()}:
            raise ArtifactError(f"{card.model_id}: such a logreg has the arrays {list(wanted)}, found {found}")
        model = cls(card, arrays[keys], arrays["weight"], arrays["unseen"], float(arrays["intercept"][0]), leaves)
        if len(model.weight) != len(model.keys) or len(model.unseen) != len(model.columns):
            raise ArtifactError(
                f"{card.model_id}: {len(model.keys)} keys with {len(model.weight)} weights, "
                f"{len(model.columns)} columns with {len(model.unseen)} weights of unseen values"
            )
        if np.any(model.keys[1:] <= model.keys[:-1]):
            raise ArtifactError(f"{card.model_id}: the keys do not rise")
        return model

    @cached_property
    def spec(self) -> LogregSpec:
        return LogregSpec.model_validate(self.card.spec)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that `margins` needs: of `features`, and of leaves."""
        return (*feature_columns(self.spec, self._dataset), *self.leaves)

    @property
    def encoded(self) -> tuple[str, ...]:
        """None: it eats values by their hashes."""
        return ()

    def looking_up(self, folder: str) -> LogregModel:  # noqa: ARG002  (a Model's)
        """Itself: it looks nothing up."""
        return self

    def margins(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """logit of p_sampled of each of n rows, (n,); of p where `card.correction` is `weight`."""
        out = np.full(batch.num_rows, self.intercept)
        for column, unseen in zip(self.columns, self.unseen, strict=True):
            self._lookup.add_weights(hashes(batch, column), self.weight, unseen, out)
        return out

    def by_index(self) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """What another model can start from: rising indices of `spec.bits` bits, and the weight of each."""
        if self.spec.min_count == 1:
            return self.keys, self.weight
        kept = to_index(self.keys.view(np.int32), self.spec.bits).view(np.uint32)
        rare = rare_index(column_slots(self.columns, self._dataset), self.spec.bits)
        index, first = np.unique(np.concatenate((kept, rare)), return_index=True)  # (equal indices weigh the same)
        return index, np.concatenate((self.weight, self.unseen))[first]

    @cached_property
    def _dataset(self) -> Dataset:
        return Dataset.model_validate(self.card.dataset)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.keys, key_bits(self.spec))

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to workers: arrays and card, without what each process makes of them."""
        made = {"spec", "columns", "_dataset", "_lookup"}
        return {name: value for name, value in self.__dict__.items() if name not in made}
