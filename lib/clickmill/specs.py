"""What a model is to be like, by kind: the specs below `models:` of a config. Frozen objects."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, field_validator, model_validator

from clickmill.dataset import Strict, misfit

DURATION = re.compile(r"^(\d{1,6})([dh])$")
LONGEST = timedelta(days=3660)


def duration(text: str) -> timedelta:
    """`7d` or `36h` as a timedelta. Raises ValueError for anything else."""
    found = DURATION.match(text)
    if not found:
        raise ValueError(f"{text!r} is not a length of time: write whole days or hours, such as 7d or 36h")
    return timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1]))


def _check_length(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("not a length of time: write whole days or hours, such as 7d or 36h")
    if duration(value) > LONGEST:
        raise ValueError(f"longer than {LONGEST.days}d, the longest that is allowed")
    return value


def _check_some(value: str) -> str:
    if not duration(value):
        raise ValueError("a stretch of no time holds no rows: write 1h or more")
    return value


Length = Annotated[str, pydantic.BeforeValidator(_check_length)]
"""Whole days or hours, `7d` or `36h`; may be none."""
Some = Annotated[Length, pydantic.AfterValidator(_check_some)]
"""A length of an hour or more."""


class Columns(Strict):
    """Which features a model eats; `all` or names from the data set."""

    slots: Literal["all"] | tuple[str, ...] = "all"
    numbers: Literal["all"] | tuple[str, ...] = "all"
    crosses: Literal["all"] | tuple[tuple[str, ...], ...] = "all"


class LogregSpec(Strict):
    """Hashed logistic regression; see `clickmill.train.logreg`."""

    kind: Literal["logreg"] = "logreg"
    columns: Columns = Columns()
    bits: int = Field(22, ge=18, le=32)
    """Weights are indexed by the lowest `bits` bits of a feature's hash."""
    l2: float | tuple[float, ...] = 1e-5
    """Strength of (l2/2)‖θ‖² beside the mean log-loss; of several values the best on validation time is taken."""
    l1: float = Field(0.0, ge=0)
    min_count: int = Field(1, ge=1)
    """Values seen fewer times than this in the training stretch are folded into the slot's rare value."""
    correction: Literal["prior", "weight"] = "prior"
    """`prior` trains unweighted and corrects p; `weight` trains with the weights and is never corrected."""
    max_iterations: int = Field(500, ge=1)
    tolerance: float = Field(1e-6, gt=0)
    """Converged when the gradient norm fell by this factor and the objective changes relatively by less."""
    warm_start: str | None = None
    """Model id (or `champion`) whose weights training starts from."""
    ranks: int | None = Field(None, ge=1)
    """Tasks of the barrier stage; the slots there are, unless given."""

    @field_validator("l2")
    @classmethod
    def _not_negative(cls, l2: float | tuple[float, ...]) -> float | tuple[float, ...]:
        values = l2 if isinstance(l2, tuple) else (l2,)
        if not values or any(value < 0 for value in values):
            raise ValueError("l2 must be ≥ 0")
        return l2


class XgboostSpec(Strict):
    """Gradient-boosted trees on raw numbers and on what is known of each value; see `clickmill.train.xgboost`."""

    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    kind: Literal["xgboost"] = "xgboost"
    columns: Columns = Columns()
    """Slots and crosses whose values are eaten (`all`: those that `encodings` counts), and raw numbers."""
    values: Literal["encodings", "hashes"] = "encodings"
    """How a value is eaten: what was known of it before, or the lowest 24 bits of its hash as a number."""
    history: Some = "7d"
    """So much time before a row's own day (or hour) is counted for its encodings."""
    strength: float = Field(20.0, gt=0)
    """Pseudo-impressions that draw a value's click-through rate towards its slot's."""
    rounds: int = Field(200, ge=1, le=100_000)
    """Trees, at most."""
    early_stopping_rounds: int | None = Field(20, ge=1)
    """Training ends when so many rounds lowered the log-loss of validation time no further; null: it does not."""
    max_depth: int = Field(6, ge=0, le=30)
    """0: no limit (then max_leaves sets one)."""
    max_leaves: int = Field(0, ge=0)
    """0: no limit."""
    grow_policy: Literal["depthwise", "lossguide"] = "depthwise"
    eta: float = Field(0.1, gt=0, le=1)
    subsample: float = Field(1.0, gt=0, le=1)
    colsample: float = Field(1.0, gt=0, le=1)
    """Share of the columns that each tree is grown from."""
    min_child_weight: float = Field(1.0, ge=0)
    gamma: float = Field(0.0, ge=0)
    lambda_: float = Field(1.0, ge=0, alias="lambda")
    alpha: float = Field(0.0, ge=0)
    max_bin: int = Field(256, ge=2, le=65_536)
    monotone: dict[str, Literal[-1, 1]] = Field(default_factory=dict)
    """Columns whose larger values must not lower (1) or raise (-1) p: n_<number>, e_<slot>_rate, ..."""
    seed: int = Field(42, ge=0, lt=2**31)
    correction: Literal["prior", "weight"] = "prior"
    """`prior` trains unweighted and corrects p; `weight` trains with the weights and is never corrected."""
    warm_start: str | None = None
    """Model id whose trees training goes on from."""
    checkpoint_rounds: int = Field(25, ge=1)
    """Trees of a chunk: each has a seed of its own and ends with a checkpoint that a rerun goes on from."""
    device: Literal["cpu", "cuda"] = "cpu"
    """cuda: each rank has a GPU of its own, the one that Spark's resource `gpu` names, else that of its number."""
    memory_mb: int = Field(4096, ge=1)
    """Of a rank's binned rows; more are kept on its disk."""
    ranks: int | None = Field(None, ge=1)
    """Tasks of the barrier stage; the slots there are, unless given."""

    @model_validator(mode="after")
    def _leaves_are_limited(self) -> XgboostSpec:
        if not self.max_depth and not self.max_leaves:
            raise misfit("max_depth 0 sets no limit: then max_leaves must", "max_leaves")
        return self


class TreesLogregSpec(Strict):
    """A logistic regression on hashed values and on the leaves that trees put a row into (He et al. 2014)."""

    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    kind: Literal["trees_logreg"] = "trees_logreg"
    trees: XgboostSpec = XgboostSpec()
    linear: LogregSpec = LogregSpec()
    linear_share: float = Field(0.4, gt=0, lt=1)
    """Share of train time, its end, that the linear part is trained on; the trees are trained on what is before
    it, so that they have not seen the labels of the rows whose leaves are weighed."""

    @property
    def correction(self) -> Literal["prior", "weight"]:
        """That of both parts."""
        return self.linear.correction

    @model_validator(mode="after")
    def _parts_fit(self) -> TreesLogregSpec:
        if self.trees.correction != self.linear.correction:
            message = f"{self.trees.correction}, and that of the linear part is {self.linear.correction}"
            raise misfit(message, "trees", "correction")
        if self.linear.warm_start is not None:
            raise misfit("not for weights of leaves, which are new ones in every model", "linear", "warm_start")
        return self


ModelSpec = Annotated[LogregSpec | XgboostSpec | TreesLogregSpec, Field(discriminator="kind")]
Part = LogregSpec | XgboostSpec


def parts(spec: ModelSpec) -> dict[tuple[str, ...], Part]:
    """What a model is made of, by the keys that stand before it: itself, or trees and linear."""
    if isinstance(spec, TreesLogregSpec):
        return {("trees",): spec.trees, ("linear",): spec.linear}
    return {(): spec}
