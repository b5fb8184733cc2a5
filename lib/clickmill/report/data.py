"""What a report shows, as plain frozen data: no Spark, no tables, no formatting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from clickmill.schema import LAST_STAGE

COLLISION_LIMIT = 0.01
"""Share of a slot's impressions whose value shares its weight with another: less than this is harmless."""


@dataclass(frozen=True)
class Figure:
    """One metric's value, None with the reason where it does not exist; its 95% interval if there is one."""

    value: float | None
    reason: str | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Bin:
    """A reliability bin: mean p, observed CTR (both in [0, 1]), impressions, CTR's interval if there is one."""

    p_mean: float
    ctr: float
    n: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Column:
    """What trees made of a column: its share of all gain and of all rows that were split by it, in [0, 1]."""

    name: str
    gain: float
    cover: float
    shap: float | None
    """Mean |SHAP value| of the margin; None: not among those that moved it."""


@dataclass(frozen=True)
class Trees:
    """How a model's trees grew, and on what."""

    curve: tuple[tuple[float | None, float | None], ...]
    """NE of training and of validation rows after each round."""
    rounds: int
    """So many of these were kept."""
    leaves: int
    seconds: Mapping[str, float]
    """By phase of the training."""
    columns: tuple[Column, ...]
    """By gain, most first."""


@dataclass(frozen=True)
class Network:
    """How a network learned, and by whom."""

    curve: tuple[tuple[int, float | None, float | None], ...]
    """After so many steps: NE of the sample's rows, as they came by, and of validation rows."""
    best: int
    """The step whose weights were kept."""
    steps: int
    ranks: int
    launcher: str
    rows_per_second: float | None
    bytes_per_step: float
    """That a rank handed to the others."""
    seconds: Mapping[str, float]
    """By phase of the training, of the first rank."""


@dataclass(frozen=True)
class Model:
    """A judged model. `stages`: stage → metric → figure, of all test rows. `reliability`: stage → bins by p."""

    model_id: str
    name: str
    kind: str
    keep_rate: float | None
    seconds: float | None
    bits: int | None
    """Of its weights' index; None where a model has no such thing."""
    calibration: str | None
    """The chosen method: none, platt or isotonic."""
    n: int
    clicks: int
    traffic: str
    stages: Mapping[str, Mapping[str, Figure]]
    reliability: Mapping[str, tuple[Bin, ...]]
    trained_on: Mapping[str, int]
    """Table → version that training read."""
    remarks: tuple[str, ...] = ()
    """What a reader must know, such as training that stopped at its iteration limit."""
    trees: Trees | None = None
    network: Network | None = None

    def figure(self, metric: str, stage: str = LAST_STAGE) -> Figure:
        """A metric of a stage; a figure without value where it was not computed."""
        return self.stages.get(stage, {}).get(metric, Figure(None, "not computed"))


@dataclass(frozen=True)
class DayFigure:
    """NE and calibration ratio of a model name on one test day."""

    name: str
    day: date
    ne: float | None
    n: int
    clicks: int
    reason: str | None = None
    calibration: float | None = None


@dataclass(frozen=True)
class Collisions:
    """A slot's audit on one day: distinct hashes, and the share of impressions in collision at numbers of bits."""

    slot: str
    rows: int
    distinct: int
    missing_share: float | None
    unseen_share: float | None
    mass: Mapping[int, float]
    """Bits → collision mass in [0, 1]."""

    def enough_bits(self, limit: float = COLLISION_LIMIT) -> int | None:
        """The fewest audited bits with less collision mass than `limit`; None if none has."""
        return next((bits for bits in sorted(self.mass) if self.mass[bits] < limit), None)


@dataclass(frozen=True)
class Reject:
    """A reason for which lines were refused, how often, and one such line."""

    reason: str
    lines: int
    source: str
    line: int | None
    text: str | None


@dataclass(frozen=True)
class TableVersion:
    """The version of a table that this report was made from."""

    name: str
    version: int


@dataclass(frozen=True)
class Stretch:
    """A named stretch of time: naive UTC, end exclusive."""

    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class RunInfo:
    """The run that made the report."""

    run_id: str
    code_version: str
    config_digest: str
    made_at: datetime


@dataclass(frozen=True)
class Difference:
    """NE of one model less that of another, on the same rows; no interval: the reason why."""

    model_id: str
    other_id: str
    value: float
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Slice:
    """A group of test rows: figures of the model that is looked at, and how its NE differs from a rival's."""

    name: str
    n: int
    clicks: int
    ne: Figure
    calibration: Figure
    difference: Figure
    """NE of the model less the rival's; above 0 it is worse."""
    verdict: str | None
    """`better`, `worse`, `no difference` (by false discovery rate over all slices) or `too few clicks`."""


@dataclass(frozen=True)
class Slices:
    """One model against a rival, slice by slice, the most harmed first."""

    model_id: str
    rival_id: str | None
    rows: tuple[Slice, ...]


@dataclass(frozen=True)
class Rule:
    """One of the gate's rules."""

    passed: bool
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What the gate decided."""

    outcome: str
    promoted: bool
    champion: str | None
    """The champion's id after it."""
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class ReportData:
    """All that the leaderboard and the page show."""

    ds: date
    dataset: str
    run: RunInfo
    models: tuple[Model, ...]
    """By NE, best first; those without NE last."""
    days: tuple[DayFigure, ...]
    collisions: tuple[Collisions, ...]
    """By collision mass at the models' fewest bits, most first."""
    collisions_day: date | None
    rejects: tuple[Reject, ...]
    rejects_days: tuple[date, ...]
    """The days whose refused lines are counted."""
    tables: tuple[TableVersion, ...]
    stretches: tuple[Stretch, ...]
    differences: tuple[Difference, ...] = ()
    """Of the best model from each other one, as the models are ordered."""
    slices: Slices | None = None
    verdict: Verdict | None = None

    @property
    def knows_truth(self) -> bool:
        """Whether the true click probability is known (simulated data)."""
        return any(model.figure("calibration_to_truth").value is not None for model in self.models)

    @property
    def bits(self) -> tuple[int, ...]:
        """The numbers of bits that the models index their weights with, fewest first."""
        return tuple(sorted({model.bits for model in self.models if model.bits is not None}))
