"""The gradient-boosted trees that score: columns of `features` → a matrix of floats → margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.config import Encodings
from clickmill.dataset import Dataset
from clickmill.errors import ArtifactError, MissingColumnsError
from clickmill.models.card import Card
from clickmill.models.encoded import Encoder, snapshots_from
from clickmill.models.logreg import hash_columns, hashes
from clickmill.models.trees import booster_from
from clickmill.specs import Columns, XgboostSpec

if TYPE_CHECKING:
    from xgboost import Booster

HASH_BITS = 24
"""A hash that is eaten as a number keeps so many bits: all that a 32-bit float tells apart."""
LARGEST = np.finfo(np.float32).max

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """What trees eat of a row, in this order: raw numbers, hashes as numbers, encodings."""

    numbers: tuple[str, ...]
    """Columns n_… of `features`; a missing one is NaN, never 0."""
    hashed: tuple[str, ...] = ()
    """Hash columns eaten as the number that their lowest 24 bits are."""
    encoder: Encoder | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `features` that are needed."""
        return (*self.numbers, *self.hashed, *(self.encoder.needed if self.encoder else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """(f,) names of the matrix's columns."""
        return (*self.numbers, *self.hashed, *(self.encoder.names if self.encoder else ()))

    def matrix(self, batch: pa.RecordBatch) -> Matrix:
        """(n, f) floats, NaN where there is nothing; what is beyond a 32-bit float is the largest one.

        Raises MissingColumnsError where a column is absent, or a hash column is null.
        """
        out = np.empty((batch.num_rows, len(self.names)), np.float32)
        at = 0
        for name in self.numbers:
            out[:, at] = numbers(batch, name)
            at += 1
        for name in self.hashed:
            out[:, at] = hashes(batch, name) & (2**HASH_BITS - 1)
            at += 1
        if self.encoder is not None:
            for column in self.encoder.encoded(batch):
                out[:, at] = column
                at += 1
        return out


def numbers(batch: pa.RecordBatch, name: str) -> NDArray[np.float32]:
    """A column of numbers of a batch, (n,); NaN where there is none. Raises MissingColumnsError."""
    if name not in batch.schema.names:
        raise MissingColumnsError(f"features: missing column {name}; found {batch.schema.names}")
    values = batch.column(name).cast(pa.float32()).to_numpy(zero_copy_only=False)
    return np.asarray(np.clip(values, -LARGEST, LARGEST))


def inputs_of(spec: XgboostSpec, dataset: Dataset, encoder: Encoder | None) -> Inputs:
    """What a model by this spec eats. encoder: where its values are encoded."""
    chosen = dataset.numbers if spec.columns.numbers == "all" else spec.columns.numbers
    numbers = tuple(f"n_{name}" for name in dataset.numbers if name in chosen)
    if spec.values == "hashes":
        asked = Columns(slots=spec.columns.slots, numbers=(), crosses=spec.columns.crosses)
        return Inputs(numbers, hash_columns(asked, dataset))
    return Inputs(numbers, encoder=encoder)


def encoded_columns(spec: XgboostSpec, counted: Encodings, dataset: Dataset) -> tuple[str, ...]:
    """The hash columns whose values a model by this spec eats encoded: all that are counted, or those named."""
    if spec.values != "encodings":
        return ()
    own = hash_columns(Columns(slots=spec.columns.slots, numbers=(), crosses=spec.columns.crosses), dataset)
    return tuple(column for column in hash_columns(counted, dataset) if column in own)


def encoder_of(encodings: Mapping[str, Any], **known: Any) -> Encoder:
    """From the words of a card; `known`: `folder` or `snapshots`."""
    return Encoder(
        columns=tuple(encodings["columns"]),
        period=encodings["period"],
        window=encodings["window"],
        strength=encodings["strength"],
        lag=encodings["lag"],
        **known,
    )


@dataclass(frozen=True)
class XgboostModel:
    """margin = the trees' sum, base score included."""

    card: Card
    booster: Booster
    inputs: Inputs

    @classmethod
    def from_files(cls, card: Card, arrays: Mapping[str, NDArray[Any]], booster: bytes | None) -> XgboostModel:
        """Raises ArtifactError where the trees or the counts of an encoding are missing or do not fit."""
        if booster is None:
            raise ArtifactError(f"{card.model_id}: such a model has trees, and there are none")
        spec, dataset = XgboostSpec.model_validate(card.spec), Dataset.model_validate(card.dataset)
        encoder = None
        if card.encodings is not None:
            columns = tuple(card.encodings["columns"])
            encoder = encoder_of(card.encodings, snapshots=snapshots_from(columns, arrays))
        model = cls(card, _booster(card, booster), inputs_of(spec, dataset, encoder))
        if tuple(model.booster.feature_names or ()) != model.inputs.names:
            raise ArtifactError(
                f"{card.model_id}: the trees eat {model.booster.feature_names}, its card says {model.inputs.names}"
            )
        return model

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of `features` that `margins` needs."""
        return self.inputs.columns

    @property
    def encoded(self) -> tuple[str, ...]:
        """The hash columns whose values it eats encoded."""
        return self.inputs.encoder.columns if self.inputs.encoder else ()

    def looking_up(self, folder: str) -> XgboostModel:
        """The same trees, where each row is encoded by what the histories in a folder say was known before it."""
        if self.inputs.encoder is None:
            return self
        encoder = replace(self.inputs.encoder, folder=folder, snapshots={})
        return replace(self, inputs=replace(self.inputs, encoder=encoder))

    def margins(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """logit of p_sampled of each of n rows, (n,); of p where `card.correction` is `weight`."""
        if not batch.num_rows:
            return np.empty(0)
        rows = self.inputs.matrix(batch)
        found = self.booster.inplace_predict(rows, predict_type="margin", validate_features=False)
        return np.asarray(found, np.float64)


def _booster(card: Card, content: bytes) -> Booster:
    try:
        return booster_from(content)
    except ValueError as error:  # (an XGBoostError is one)
        raise ArtifactError(f"{card.model_id}: the trees cannot be read: {error}") from None
