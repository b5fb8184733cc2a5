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


def chosen(asked: Any, known: tuple[Any, ...]) -> tuple[Any, ...]:
    """Those of the data set's names that are asked for (`all`, or names), in the data set's order."""
    return known if asked == "all" else tuple(item for item in known if item in asked)


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


class Embedding(Strict):
    """The rows of numbers that stand for a slot's values."""

    dim: int = Field(16, ge=1, le=1024)
    dims: dict[str, int] = Field(default_factory=dict)
    """Of single slots, instead of `dim`."""
    bits: dict[str, int] = Field(default_factory=dict)
    """A slot's table has 2^bits rows; unless given, the fewest at which `feature_audit` saw under 1% of the slot's
    impressions share a row with another value."""
    max_bits: int = Field(20, ge=1, le=32)
    """Above what is chosen so."""
    share: tuple[tuple[str, ...], ...] = ()
    """Slots whose values lie in one table."""
    rows_per_value: Literal[1, 2] = 1
    """2: a value is the sum of two rows, by two hashes, so that few share both (Svenstrup et al. 2017)."""

    @model_validator(mode="after")
    def _fits(self) -> Embedding:
        for key, own, most in (("dims", self.dims, 1024), ("bits", self.bits, 32)):
            for slot, value in own.items():
                if not 1 <= value <= most:
                    raise misfit(f"{value} must lie from 1 to {most}", key, slot)
        shared = [slot for group in self.share for slot in group]
        if len(shared) != len(set(shared)):
            raise misfit("a slot stands in two groups", "share")
        return self


class Ftrl(Strict):
    """FTRL-proximal of the wide part (McMahan et al. 2013); it sees the sum of a batch's gradients."""

    alpha: float = Field(0.05, gt=0)
    beta: float = Field(1.0, ge=0)
    l1: float = Field(1.0, ge=0)
    l2: float = Field(1.0, ge=0)


HOST = re.compile(r"[^\s:,]+:([1-9]\d*)")
"""A host and its slots."""
WIDEST = 16_384
"""Of a network's layers: two such are a GiB of weights."""
Launcher = Literal["local", "horovod", "torchrun", "torch_distributor"]
"""What starts the processes of a network's training."""


class WideDeepSpec(Strict):
    """A network: a linear part and a deep part, trained together; see `clickmill.train.wide_deep`."""

    kind: Literal["wide_deep"] = "wide_deep"
    arch: Literal["wide_deep", "dcn_v2", "deep"] = "wide_deep"
    """wide_deep: Cheng et al. 2016; dcn_v2: cross layers beside the hidden ones, Wang et al. 2021; deep: hidden
    layers alone."""
    columns: Columns = Columns()
    """The deep part eats slots and numbers, the wide part slots, number buckets and crosses."""
    wide_bits: int = Field(22, ge=10, le=32)
    """Weights of the wide part are indexed by the lowest bits of a feature's hash."""
    ftrl: Ftrl = Ftrl()
    embedding: Embedding = Embedding()
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    layer_norm: bool = False
    cross_layers: int = Field(3, ge=1, le=16)
    cross_rank: int | None = Field(64, ge=1)
    """Of the cross layers' matrices (m × m), each a product of two where 2 · rank < m; null: full."""
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    """Of the deep part. An embedding's row has one step size for all its numbers; under adam it also has its mean
    gradient, and both change only when the row is used."""
    learning_rate: float = Field(0.02, gt=0)
    scale_learning_rate: bool = False
    """Times the number of ranks."""
    warmup_steps: int = Field(0, ge=0)
    """The learning rate rises over so many."""
    clip_norm: float | None = Field(None, gt=0)
    """Longest gradient of the deep part, embeddings included."""
    batch_rows: int = Field(4096, ge=1)
    """Of each rank."""
    epochs: int = Field(1, ge=1, le=1000)
    validate_steps: int | None = Field(None, ge=1)
    """Validation time is looked at after so many steps, and at the end of each epoch."""
    patience: int | None = Field(2, ge=1)
    """Training ends when so many looks found its log-loss no lower; the best weights are kept. null: no end."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: of the deep part's layers in training; embeddings stay fp32, and so does scoring."""
    seed: int = Field(42, ge=0, lt=2**31)
    correction: Literal["prior", "weight"] = "prior"
    """`prior` trains unweighted and corrects p; `weight` trains with the weights and is never corrected."""
    warm_start: str | None = None
    """Model id (or `champion`) whose weights training goes on from: over the newest day of train time only, and
    `replay` of the rows before it."""
    replay: float = Field(0.1, ge=0, le=1)
    """Share of older rows that a warm start sees again, by whole row groups."""
    checkpoint_steps: int = Field(1000, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    launcher: Launcher = "local"
    """local: one process; horovod: by Spark's tasks, or on `hosts` by horovodrun; torchrun: on this machine;
    torch_distributor: by Spark's tasks without Horovod, or on this machine where Spark is."""
    ranks: int = Field(1, ge=1)
    hosts: str | None = None
    """horovod: hosts and their slots, `a:2,b:2`, that see the warehouse and this environment at the same paths."""
    threads: int | None = Field(None, ge=1)
    """Of a rank's arithmetic; its share of the machine's cores unless given."""
    device: Literal["cpu", "cuda"] = "cpu"
    memory_mb: int | None = Field(None, ge=1)
    """That a rank's tables and their state may take; unless given, what its machine or GPU has free."""

    @model_validator(mode="after")
    def _fits(self) -> WideDeepSpec:
        if self.launcher == "local" and self.ranks > 1:
            raise misfit(
                "launcher local is one process: horovod, torchrun and torch_distributor start more", "ranks"
            )
        if self.hosts is not None and self.launcher != "horovod":
            raise misfit("only horovod starts processes on other hosts", "hosts")
        if self.hosts is not None:
            slots = [HOST.fullmatch(one.strip()) for one in self.hosts.split(",")]
            held = [int(one[1]) for one in slots if one]
            if len(held) < len(slots):
                raise misfit(f"{self.hosts!r}: write hosts and their slots, `a:2,b:2`", "hosts")
            if sum(held) < self.ranks:
                raise misfit(f"{self.hosts!r} has {sum(held)} slots, fewer than ranks: {self.ranks}", "hosts")
        if not all(1 <= width <= WIDEST for width in self.hidden):
            raise misfit(f"{self.hidden}: a layer's width lies from 1 to {WIDEST}", "hidden")
        if self.arch == "wide_deep" and self.warm_start is not None and not (self.ftrl.beta or self.ftrl.l2):
            raise misfit("a warm start goes on from no weight where beta and l2 are both 0", "ftrl")
        return self


ModelSpec = Annotated[LogregSpec | XgboostSpec | TreesLogregSpec | WideDeepSpec, Field(discriminator="kind")]
Part = LogregSpec | XgboostSpec | WideDeepSpec


def parts(spec: ModelSpec) -> dict[tuple[str, ...], Part]:
    """What a model is made of, by the keys that stand before it: itself, or trees and linear."""
    if isinstance(spec, TreesLogregSpec):
        return {("trees",): spec.trees, ("linear",): spec.linear}
    return {(): spec}
