"""The config: what every key means, its default and range. Frozen objects; `config_files.load` makes them."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
import zoneinfo
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clickmill.errors import ConfigError

NAME = re.compile(r"^[A-Za-z0-9_]+$")
TABLE_NAME = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*){1,2}$")
DURATION = re.compile(r"^(\d+)([dh])$")


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def duration(text: str) -> timedelta:
    """`7d` or `36h` as a timedelta. Raises ValueError for anything else."""
    found = DURATION.match(text)
    if not found:
        raise ValueError(f"{text!r} is not a length of time: write whole days or hours, such as 7d or 36h")
    amount = int(found[1])
    return timedelta(days=amount) if found[2] == "d" else timedelta(hours=amount)


def _check_duration(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, pydantic.AfterValidator(_check_duration)]


def absolute(path: str) -> str:
    """A local path as absolute, a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _part(values: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        values = values[key]
    return values


def digest(value: Any) -> str:
    """16 hex digits of the canonical JSON of a plain value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- the data set -----------------------------------------------------------------------------


class Source(Strict):
    """Where the raw log lies, and its form."""

    path: str
    """A file, a folder or a glob; `{ds}` stands for the day. For Delta: the table's folder."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "delta"]
    header: bool = False
    """Text formats: the first line of each file names the columns."""
    columns: tuple[str, ...] | None = None
    """CSV and TSV without header: the names of the fields, in order."""
    max_line_bytes: int = Field(65536, ge=64, le=2**26)
    """A longer line of a text format is rejected."""
    split_bytes: int = Field(2**25, ge=1)
    """Text formats: how much of a file one task reads (a gzip file is always read by one task)."""
    day_column: str | None = None
    """Parquet and Delta: a column that holds the day, so that only the run's days are read."""

    @property
    def is_text(self) -> bool:
        """Whether the log is made of lines."""
        return self.format in ("csv", "tsv", "jsonl")

    @model_validator(mode="after")
    def _form(self) -> Source:
        if self.format in ("csv", "tsv") and self.header == (self.columns is not None):
            raise ValueError(
                f"{self.format}: give either header: true or columns, the names of the fields in order"
            )
        if self.format not in ("csv", "tsv") and (self.header or self.columns is not None):
            raise ValueError(f"{self.format} names its own columns: header and columns are for csv and tsv")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ValueError("columns: a name stands twice")
        if self.day_column is not None and self.is_text:
            raise ValueError(
                f"day_column is for parquet and delta, not for {self.format}: write {{ds}} in the path"
            )
        return self


class EventTimeColumn(Strict):
    """The time of an impression stands in a column."""

    kind: Literal["column"]
    column: str
    format: str = "iso"
    """`iso`, `epoch_s`, `epoch_ms`, `seconds_since` (see `origin`), or a strptime format."""
    origin: date | None = None
    """For `seconds_since`: the day whose midnight is second 0."""
    timezone: str = "UTC"
    """IANA name of the zone that the log's times are written in (times with an offset of their own excepted)."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, text: str) -> str:
        if text not in ("iso", "epoch_s", "epoch_ms", "seconds_since") and "%" not in text:
            raise ValueError(
                "allowed are iso, epoch_s, epoch_ms, seconds_since, or a strptime format such as %y%m%d%H"
            )
        if "%f" in text:
            raise ValueError("%f is not supported: fractions of a second are read by format: iso")
        return text

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            near = difflib.get_close_matches(name, sorted(zoneinfo.available_timezones()), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{name!r} is not the name of a time zone, such as Europe/Berlin{hint}") from None
        return name

    @model_validator(mode="after")
    def _origin_given(self) -> EventTimeColumn:
        if (self.format == "seconds_since") != (self.origin is not None):
            raise ValueError("origin is needed with format: seconds_since, and only there")
        return self


class RowOrder(Strict):
    """The log has an order but no time: its rows are spread evenly over days, so many a day from a first day on.

    With `{ds}` in the source's path and no `column`, each day's files are that day, and their rows are
    spread evenly over it: then neither `rows_per_day` nor `first_day` is given.
    """

    kind: Literal["row_order"]
    column: str | None = None
    """A column that holds the ordinal (from 0); without it the line's place in the sorted files."""
    rows_per_day: int | None = Field(None, gt=0)
    first_day: date | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> RowOrder:
        if (self.rows_per_day is None) != (self.first_day is None):
            raise ValueError("rows_per_day and first_day belong together")
        if self.column is not None and self.rows_per_day is None:
            raise ValueError("an order column needs rows_per_day and first_day")
        return self


class Dataset(Strict):
    """What the columns of the raw log are."""

    name: str
    source: Source
    label: str
    """Column that is 1 for a click and 0 otherwise."""
    labels: dict[str, str] = {}
    """Further labels, task name to column: kept as `label_<task>`."""
    event_time: Annotated[EventTimeColumn | RowOrder, Field(discriminator="kind")]
    event_id: str | None = None
    """The log's own key; without one it is the hash of the row and its occurrence number."""
    p_true: str | None = None
    """Column with the true click probability (simulated logs only)."""
    slots: tuple[str, ...] = ()
    """Categorical columns, hashed as text."""
    numbers: tuple[str, ...] = ()
    """Numeric columns: a bucket slot and a float each."""
    crosses: tuple[tuple[str, ...], ...] = ()
    """Each a list of two to four slots or numbers."""
    carry: tuple[str, ...] = ()
    """Columns passed through unhashed for the judge (slice columns, bootstrap unit)."""

    @model_validator(mode="after")
    def _names(self) -> Dataset:
        used = list(self.slots) + list(self.numbers)
        for name in [*used, *self.carry, self.name, *self.labels]:
            if not NAME.match(name):
                raise ValueError(f"{name!r} is not a name: only letters, digits and _ are allowed")
        lower = [name.lower() for name in used]
        twice = sorted({name for name in used if lower.count(name.lower()) > 1})
        if twice:
            raise ValueError(f"slots and numbers must differ, ignoring case: {twice} stand twice")
        if not used:
            raise ValueError("a data set needs at least one slot or number")
        for cross in self.crosses:
            if not 2 <= len(cross) <= 4:
                raise ValueError(f"cross {list(cross)} has {len(cross)} parts: two to four are allowed")
            unknown = [part for part in cross if part not in used]
            if unknown:
                raise ValueError(f"cross {list(cross)} names {unknown}, which are neither slots nor numbers")
        names = ["_".join(cross).lower() for cross in self.crosses]
        if len(set(names)) != len(names):
            raise ValueError("two crosses have the same name")
        self._check_reserved()
        self._check_order()
        return self

    def _check_reserved(self) -> None:
        """Raw columns keep their names in `click_log`, beside the columns that clickmill makes."""
        made = {"event_id", "event_time", "ds", "label", "p_true"}
        made |= {f"label_{task}".lower() for task in self.labels}
        taken = [name for name in self.raw_columns if name.lower() in made]
        if taken:
            raise ValueError(f"{taken} cannot be slots, numbers or carried: click_log has columns of these names")

    def _check_order(self) -> None:
        order = self.event_time
        if not isinstance(order, RowOrder) or order.column is not None:
            return
        if not self.source.is_text:
            raise ValueError(
                f"row_order without a column needs a file of lines; {self.source.format} has no order"
            )
        if ("{ds}" in self.source.path) == (order.rows_per_day is not None):
            raise ValueError("row_order by place needs either rows_per_day and first_day, or {ds} in source.path")

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Slots, numbers and carried columns of the raw log, each once, in that order."""
        return tuple(dict.fromkeys((*self.slots, *self.numbers, *self.carry)))


# --- the steps --------------------------------------------------------------------------------


AUDIT_LEAST = 3
"""features/audit.py shards hashes by this many of their lowest bits, so it can tell of no fewer."""


class Ingest(Strict):
    max_reject_share: float = Field(0.01, ge=0, le=1)
    """Share of a run's lines, in [0, 1], above which nothing is written and the job exits 3."""


class Features(Strict):
    edges: tuple[float, ...] = ()
    """Bucket edges of all numbers, rising: the bucket is how many edges are ≤ x."""
    number_edges: dict[str, tuple[float, ...]] = {}
    """Edges of single numbers, instead of `edges`."""
    audit_bits: tuple[int, int] = (18, 28)
    """`feature_audit` measures collisions at each of these numbers of bits, from and to."""

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError("bucket edges must rise")
        return edges

    @field_validator("audit_bits")
    @classmethod
    def _a_range(cls, bits: tuple[int, int]) -> tuple[int, int]:
        if not AUDIT_LEAST <= bits[0] < bits[1] <= 32:
            raise ValueError(f"audit_bits must be two rising numbers from {AUDIT_LEAST} to 32")
        return bits


class Sampling(Strict):
    keep_rate: float = Field(0.05, gt=0, le=1)
    """Share of the non-clicks that is kept, in (0, 1]."""
    seed: int = Field(42, ge=0, lt=2**32)

    @property
    def sample_id(self) -> str:
        """Names the sample in its table, `w0.05-s42`; two rates or seeds never share a name."""
        short = f"{self.keep_rate:g}"
        exact = short if float(short) == self.keep_rate else repr(self.keep_rate)
        return f"w{exact}-s{self.seed}"


class Split(Strict):
    """Lengths of the three stretches of time: train < validation < test, ending with the last hour on `--ds`."""

    train: Duration = "7d"
    validation: Duration = "1d"
    test: Duration = "1d"
    gap: Duration = "0h"
    """Withheld between two stretches."""
    label_delay: Duration = "0h"
    """Withheld at the end, because labels are not ripe yet."""


class Columns(Strict):
    """Which features a model eats; `all` or names from the data set."""

    slots: Literal["all"] | tuple[str, ...] = "all"
    numbers: Literal["all"] | tuple[str, ...] = "all"
    crosses: Literal["all"] | tuple[tuple[str, ...], ...] = "all"


class LogregSpec(Strict):
    """Hashed logistic regression; see `clickmill.train.logreg`."""

    kind: Literal["logreg"]
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
    max_iterations: int = Field(200, ge=1)
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


ModelSpec = LogregSpec


class Calibration(Strict):
    methods: tuple[Literal["none", "platt", "isotonic"], ...] = ("none", "platt", "isotonic")
    folds: int = Field(5, ge=2, le=20)
    seed: int = Field(42, ge=0, lt=2**32)
    min_clicks_isotonic: int = Field(1000, ge=1)
    min_block_clicks: int = Field(20, ge=1)


class Predictions(Strict):
    keep: Literal["all", "none"] | float = "all"
    """What of `predictions` is stored: all, none, or a keyed share in (0, 1)."""

    @field_validator("keep")
    @classmethod
    def _a_share(cls, keep: str | float) -> str | float:
        if isinstance(keep, float) and not 0 < keep < 1:
            raise ValueError("keep must be all, none or a share in (0, 1)")
        return keep


class Score(Strict):
    model: str | None = None
    """Folder of a model or of one of its artifacts; the one model of `--models` on `--ds` unless given."""
    input: str | None = None
    """The rows to score, in the form of the model's data set; `dataset.source.path` unless given."""
    output: str | None = None
    """Folder that is written; `<warehouse>/_scores/<ds>/<model_id>` unless given."""
    format: Literal["parquet", "delta"] = "parquet"
    calibration: str | None = None
    """A file of a calibration, or `none`; the one beside the model unless given."""


class Simulate(Strict):
    rows_per_day: int = Field(20_000, gt=0)
    ctr: float = Field(0.03, gt=0, lt=0.5)
    """Click-through rate aimed at, in (0, 0.5)."""
    users: int = Field(20_000, gt=0)
    drift: float = Field(0.02, ge=0)
    """Standard deviation of the daily step of the logit's drifting part; 0: no drift."""
    new_value_share: float = Field(0.01, ge=0, le=1)
    """Share of a large slot's impressions that show a value first seen on that day."""
    seed: int = Field(7, ge=0, lt=2**32)
    partitions: int | None = Field(None, ge=1)
    """Tasks of the job; unless given, the slots there are or one for every 250,000 rows. No row hangs on it."""


SECRET = re.compile(r"(?i)secret|password|token|credential|access[._-]?key|account[._-]?key")
FROM_ENVIRONMENT = re.compile(r"^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$")


class SparkConf(Strict):
    master: str | None = "local[*]"
    """None: what spark-submit or the platform says."""
    settings: dict[str, str | None] = {}
    """Passed to Spark as they are; null leaves out a lower layer's setting. `${NAME}`: from the environment."""

    @field_validator("settings")
    @classmethod
    def _no_secrets(cls, settings: dict[str, str | None]) -> dict[str, str | None]:
        for key, value in settings.items():
            if value and SECRET.search(key) and not FROM_ENVIRONMENT.match(value):
                raise ValueError(f"{key} looks like a secret: write the name of a variable, such as ${{MY_KEY}}")
        return settings

    def redacted(self) -> dict[str, str | None]:
        """The settings with the values of secret-looking keys taken out."""
        return {key: "(redacted)" if SECRET.search(key) else value for key, value in self.settings.items()}


class Config(Strict):
    dataset: Dataset
    warehouse: str
    """A folder, or `catalog.schema`."""
    artifacts: str | None = None
    """Folder of model artifacts; `<warehouse>/_models` unless given (needed with `catalog.schema`)."""
    ingest: Ingest = Ingest()
    features: Features = Features()
    sampling: Sampling = Sampling()
    split: Split = Split()
    models: dict[str, ModelSpec] = {}
    calibration: Calibration = Calibration()
    predictions: Predictions = Predictions()
    score: Score = Score()
    simulate: Simulate = Simulate()
    spark: SparkConf = SparkConf()
    report: str | None = None
    """Where the HTML report goes; `<warehouse>/_reports/<ds>.html` unless given."""

    @model_validator(mode="after")
    def _models_fit(self) -> Config:
        for name, spec in self.models.items():
            if not NAME.match(name):
                raise ValueError(f"model name {name!r}: only letters, digits and _ are allowed")
            self._check_columns(name, spec.columns)
        return self

    @property
    def warehouse_is_catalog(self) -> bool:
        """Whether `warehouse` is `catalog.schema` rather than a folder."""
        return bool(re.match(r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$", self.warehouse))

    @property
    def warehouse_path(self) -> str:
        """The warehouse as an absolute path or URI, or as `catalog.schema`."""
        return self.warehouse if self.warehouse_is_catalog else absolute(self.warehouse)

    @property
    def artifact_root(self) -> str:
        """The folder of model artifacts, absolute. Raises ConfigError where it cannot be told."""
        if self.artifacts:
            return absolute(self.artifacts)
        if self.warehouse_is_catalog:
            raise ConfigError(f"artifacts: missing; warehouse {self.warehouse!r} is a catalogue, so name a folder")
        return f"{self.warehouse_path}/_models"

    def report_path(self, ds: date) -> str:
        """Where the HTML report of a day goes. Raises ConfigError where it cannot be told."""
        if self.report:
            return absolute(self.report)
        if self.warehouse_is_catalog:
            raise ConfigError(f"report: missing; warehouse {self.warehouse!r} is a catalogue, so name a file")
        return f"{self.warehouse_path}/_reports/{ds}.html"

    def scores_path(self, ds: date, model_id: str) -> str:
        """The folder that `score` writes. Raises ConfigError where it cannot be told."""
        if self.score.output:
            return absolute(self.score.output)
        if self.warehouse_is_catalog:
            raise ConfigError(
                f"score.output: missing; warehouse {self.warehouse!r} is a catalogue, so name a folder"
            )
        return f"{self.warehouse_path}/_scores/{ds}/{model_id}"

    @property
    def simulated(self) -> bool:
        """Whether the raw log is the warehouse's own `raw_log`, which `simulate` writes."""
        return self.dataset.source.path == "{warehouse}/raw_log"

    @property
    def source_path(self) -> str:
        """Where the raw log lies, absolute, `{warehouse}` filled in; `{ds}` still stands for the day.

        A Delta table may also be named as a catalogue has it: `schema.table` or `catalog.schema.table`.
        """
        path = self.dataset.source.path
        if self.warehouse_is_catalog:
            path = path.replace("{warehouse}/", f"{self.warehouse}.")
        path = path.replace("{warehouse}", self.warehouse)
        named = self.dataset.source.format == "delta" and TABLE_NAME.match(path)
        return path if named else absolute(path)

    def digest(self, *parts: str) -> str:
        """16 hex digits that change with these parts (`sampling`, `dataset.slots`; all of it: none given)."""
        values: Any = self.model_dump(mode="json")
        return digest({part: _part(values, part) for part in parts} if parts else values)

    def _check_columns(self, name: str, columns: Columns) -> None:
        for kind in ("slots", "numbers", "crosses"):
            asked, known = getattr(columns, kind), getattr(self.dataset, kind)
            if asked == "all":
                continue
            for item in asked:
                if item not in known:
                    raise ValueError(f"model {name}: {kind} has no {item!r}; the data set has {list(known)}")
