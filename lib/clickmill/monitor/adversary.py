"""Adversarial validation: can trees tell the day's rows from earlier ones, and by which columns? No Spark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clickmill import drift
from clickmill.drift import Doubles, Figure, Int32
from clickmill.models.trees import import_xgboost

ROUNDS = 40
PARAMETERS = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "max_depth": 3,
    "eta": 0.2,
    "min_child_weight": 20,
    "nthread": 1,
    "verbosity": 0,
}
COMMON = 3
"""Rows of a value from which on it is common."""
LEAST = 200
"""Rows of each side, below which there is nothing to learn from."""


class Told(NamedTuple):
    """How well the classifier tells them apart on rows that it has not seen."""

    auc: Figure
    by: dict[str, float]
    """Each column's share of what moves its verdicts (mean |SHAP|), the largest first; they add up to 1."""


def commonness(hashes: Int32, known: Int32) -> Doubles:
    """How often each row's hash stands among `known`, up to COMMON, (n,): what a value is to a classifier. (By its
    exact count, which is another among other rows, it would know a value that is common.)"""
    values, counts = np.unique(known, return_counts=True)
    if not len(values):
        return np.zeros(len(hashes))
    place = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
    return np.where(values[place] == hashes, np.minimum(counts[place], COMMON), 0.0)


def tell_apart(now: Mapping[str, Doubles], then: Mapping[str, Doubles], *, seed: int) -> Told | None:
    """What trees learn from a half of the rows of each side, judged on the other halves; None for too few rows.

    now, then: the columns of each side, (n,) and (m,), NaN where there is nothing. As many rows of each side are
    taken, the first ones: they must stand in an order that says nothing of them.
    """
    import_xgboost()
    from xgboost import DMatrix, train

    names = list(now)
    rows = min(len(next(iter(now.values()), ())), len(next(iter(then.values()), ())))
    if rows < LEAST:
        return None
    matrix = np.concatenate([np.column_stack([side[name][:rows] for name in names]) for side in (now, then)])
    label = np.repeat(np.array([1, 0], np.int8), rows)
    learned = np.random.default_rng(seed).permutation(2 * rows) < rows
    held = DMatrix(matrix[~learned], feature_names=names, nthread=1)
    trees = train(
        {**PARAMETERS, "seed": seed}, DMatrix(matrix[learned], label[learned], feature_names=names), ROUNDS
    )
    score = np.asarray(trees.predict(held), np.float64)
    auc = drift.auc_with_interval(label[~learned], score)
    return Told(auc, _shares(np.abs(trees.predict(held, pred_contribs=True)[:, :-1]).mean(axis=0), names))


def _shares(moved: NDArray[np.floating], names: list[str]) -> dict[str, float]:
    total = float(moved.sum())
    order = np.argsort(-moved, kind="stable")
    return {names[j]: float(moved[j]) / total for j in order if moved[j] > 0}
