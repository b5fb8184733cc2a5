"""Trees and the logistic regression on their leaves, as one model that scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.errors import ArtifactError
from clickmill.models.card import Card
from clickmill.models.leaves import Leaves
from clickmill.models.logreg import LogregModel
from clickmill.models.xgboost import XgboostModel


@dataclass(frozen=True)
class TreesLogregModel:
    """margin = the linear part's, over the hashed values of `features` and the leaves of the trees."""

    card: Card
    trees: XgboostModel
    linear: LogregModel
    leaves: Leaves

    @classmethod
    def from_files(cls, card: Card, arrays: Mapping[str, NDArray[Any]], booster: bytes | None) -> TreesLogregModel:
        """Raises ArtifactError where either part is missing or does not fit."""
        for part in ("trees", "linear"):
            if part not in card.spec:
                raise ArtifactError(f"{card.model_id}: its card has no spec of {part}")
        trees = XgboostModel.from_files(_part(card, "xgboost", "trees"), arrays, booster)
        assert booster is not None  # (else refused above)
        leaves = Leaves(booster, trees.inputs)
        own = {name: array for name, array in arrays.items() if "." not in name}
        linear = LogregModel.from_files(_part(card, "logreg", "linear"), own, leaves=leaves.names)
        return cls(card, trees, linear, leaves)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of `features` that `margins` needs."""
        own = [column for column in self.linear.columns if column not in self.leaves.names]
        return tuple(dict.fromkeys((*own, *self.trees.columns)))

    @property
    def encoded(self) -> tuple[str, ...]:
        """The hash columns whose values the trees eat encoded."""
        return self.trees.encoded

    def looking_up(self, folder: str) -> TreesLogregModel:
        """The same model, whose trees encode each row by what histories say was known before it."""
        trees = self.trees.looking_up(folder)
        return replace(self, trees=trees, leaves=replace(self.leaves, inputs=trees.inputs))

    def margins(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """logit of p_sampled of each of n rows, (n,); of p where `card.correction` is `weight`."""
        return self.linear.margins(self.leaves.beside(batch))


def _part(card: Card, kind: str, name: str) -> Card:
    return card.model_copy(update={"kind": kind, "spec": card.spec[name]})
