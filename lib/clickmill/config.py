"""The config: what every key means, its default and range. Frozen objects; `config_files.load` makes them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clickmill import names
from clickmill.dataset import NAME, Dataset, Strict, misfit
from clickmill.errors import ConfigError, nearest
from clickmill.specs import Columns, Length, ModelSpec, Some, WideDeepSpec, XgboostSpec, duration, parts


def absolute(path: str) -> str:
    """A local path as absolute, a URI as it is."""
    return path if "://" in path else str(Path(names.in_volume(path)).expanduser().absolute())


def _part(values: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        values = values[key]
    return values


def digest(value: Any) -> str:
    """16 hex digits of the canonical JSON of a plain value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


AUDIT_LEAST = 3
"""features/audit.py shards hashes by this many of their lowest bits, so it can tell of no fewer."""


class Ingest(Strict):
    max_reject_share: float = Field(0.01, ge=0, le=1)
    """Share of a run's lines, in [0, 1], above which nothing is written and the job exits 3."""


class Features(Strict):
    edges: tuple[float, ...] = ()
    """Bucket edges of all numbers, rising: the bucket is how many edges are ≤ x."""
    number_edges: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Edges of single numbers, instead of `edges`."""
    audit_bits: tuple[int, int] = (18, 28)
    """`feature_audit` measures collisions at each of these numbers of bits, from and to."""

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError("bucket edges must rise")
        return edges

    @field_validator("number_edges")
    @classmethod
    def _all_rising(cls, edges: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for name, own in edges.items():
            if any(low >= high for low, high in itertools.pairwise(own)):
                raise misfit("bucket edges must rise", name)
        return edges

    @field_validator("audit_bits")
    @classmethod
    def _a_range(cls, bits: tuple[int, int]) -> tuple[int, int]:
        if not AUDIT_LEAST <= bits[0] < bits[1] <= 32:
            raise ValueError(f"audit_bits must be two rising numbers from {AUDIT_LEAST} to 32")
        return bits


class Encodings(Strict):
    """Whose values `encode` counts, and by what periods."""

    slots: Literal["all"] | tuple[str, ...] = "all"
    crosses: Literal["all"] | tuple[tuple[str, ...], ...] = ()
    period: Literal["day", "hour"] = "day"
    """A row is encoded by what was counted before its own day, or hour."""


PERIOD = {"hour": "1h", "day": "1d"}


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

    train: Some = "7d"
    validation: Some = "1d"
    test: Some = "1d"
    gap: Length = "0h"
    """Withheld between two stretches."""
    label_delay: Length = "0h"
    """Withheld at the end, because labels are not ripe yet."""


class Calibration(Strict):
    methods: tuple[Literal["none", "platt", "isotonic"], ...] = Field(("none", "platt", "isotonic"), min_length=1)
    folds: int = Field(5, ge=2, le=20)
    seed: int = Field(42, ge=0, lt=2**32)
    min_clicks_isotonic: int = Field(1000, ge=1)
    min_block_clicks: int = Field(20, ge=1)


class Slice(Strict):
    """One way of cutting the judged rows into groups, each judged apart."""

    kind: Literal["values", "buckets", "hour", "day", "seen"]
    """A carried column's commonest values, a number's buckets, the hour of day, the day, whether a slot's value
    stood in training time."""
    column: str | None = None
    """What is cut: a carried column, a number, a slot; none for hour and day."""
    top: int = Field(10, ge=1, le=1000)
    """values: how many of the commonest; the rest are `__other__`."""
    edges: tuple[float, ...] = ()
    """buckets: rising; the bucket is how many edges are ≤ x."""

    @model_validator(mode="after")
    def _fits(self) -> Slice:
        if (self.kind in ("hour", "day")) != (self.column is None):
            raise ValueError(f"{self.kind}: {'no column is' if self.column else 'a column must be'} named")
        if (self.kind == "buckets") != bool(self.edges):
            raise ValueError("edges are needed for buckets, and only there")
        if any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise ValueError("bucket edges must rise")
        return self


class Judge(Strict):
    """How `evaluate` judges: what has intervals, and which groups of rows are judged apart."""

    replicates: int = Field(200, ge=0, le=10_000)
    """Of the bootstrap; 0: no intervals."""
    unit: str = "impression"
    """What is drawn together: impression, hour, day, or a carried column such as the user's."""
    seed: int = Field(42, ge=0, lt=2**32)
    slices: tuple[Slice, ...] = ()
    min_clicks: int = Field(200, ge=1)
    """A slice with fewer gets figures, but no verdict."""


class Gate(Strict):
    """What `promote` asks of a challenger."""

    min_gain: float = Field(0.0005, ge=0)
    """By so much NE must be proven lower than the champion's."""
    calibration_band: tuple[float, float] = (0.95, 1.05)
    """The calibration ratio's interval must lie inside."""
    slice_tolerance: float = Field(0.01, ge=0)
    """Relative loss of NE above which a slice that is proven so refuses."""

    @field_validator("calibration_band")
    @classmethod
    def _around_one(cls, band: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= band[0] < 1 < band[1]:
            raise ValueError("calibration_band must lie around 1, such as [0.95, 1.05]")
        return band


class Monitor(Strict):
    """From what on `monitor` says watch, and retrain, of a day's rows against those of train time."""

    rows: int = Field(100_000, ge=1000)
    """Of each side, drawn by key; all of them where there are fewer."""
    seed: int = Field(42, ge=0, lt=2**31)
    psi: tuple[float, float] = (0.1, 0.25)
    """Population stability index of a column, less what chance adds."""
    ks: tuple[float, float] = (0.1, 0.2)
    """Kolmogorov and Smirnov's distance of a number, less what chance adds."""
    unseen: tuple[float, float] = (0.05, 0.2)
    """Share of a slot's rows whose value is new, above what is usual for it."""
    lost: tuple[float, float] = (0.75, 0.9)
    """So much of a slot's rows whose value used to come again is proven gone, relatively."""
    click_rate: tuple[float, float] = (0.02, 0.05)
    """By so much the click-through rate is proven another, relatively."""
    adversarial_auc: tuple[float, float] = (0.6, 0.75)
    """Proven of a classifier that tells the day's rows from earlier ones."""
    calibration: tuple[float, float] = (0.05, 0.1)
    """By so much the champion's calibration ratio is proven off 1."""
    ne_loss: tuple[float, float] = (0.01, 0.03)
    """By so much the champion's NE is proven above that of the day it was promoted, relatively."""

    @field_validator("psi", "ks", "unseen", "lost", "click_rate", "adversarial_auc", "calibration", "ne_loss")
    @classmethod
    def _rising(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1]:
            raise ValueError("two numbers, watch and retrain, 0 < watch ≤ retrain")
        return pair


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
    ignore_extra: bool = False
    """Columns that the data set does not name are no error (those of a table are passed through)."""


class Simulate(Strict):
    rows_per_day: int = Field(20_000, gt=0)
    ctr: float = Field(0.03, gt=0, lt=0.5)
    """Click-through rate aimed at, in (0, 0.5)."""
    users: int = Field(20_000, gt=0)
    drift: float = Field(0.02, ge=0)
    """Standard deviation of the daily step of the logit's drifting part; 0: no drift."""
    new_value_share: float = Field(0.01, ge=0, le=1)
    """Share of a large slot's impressions that show a value first seen on that day."""
    affinity: float = Field(0.0, ge=0)
    """Standard deviation, on the logit, of what C9, C10 and C12 say in pairs, by traits of their values."""
    seed: int = Field(7, ge=0, lt=2**32)
    partitions: int | None = Field(None, ge=1)
    """Tasks of the job; unless given, the slots there are or one for every 250,000 rows. No row hangs on it."""


class Mlflow(Strict):
    """Where runs and models are logged besides."""

    tracking_uri: str = Field(pattern=r"^[^@]*$")
    """As MLflow takes it: a server's, `sqlite:///mlflow.db`, `databricks`. Never with a password: MLflow has
    that from the environment."""
    registry_uri: str | None = None
    """Of registered models; `tracking_uri` unless given. `databricks-uc`: Unity Catalog."""
    experiment: str = "clickmill"
    artifacts: str | None = None
    """Where those of a new experiment go; MLflow's own choice unless given."""
    model: str | None = None
    """The registered model; the data set's name unless given. In Unity Catalog `catalog.schema.name`."""


SECRET = re.compile(r"(?i)secret|password|token|credential|access[._-]?key|account[._-]?key")
MASTER = re.compile(
    r"local|local\[\s*([1-9]\d{0,4}|\*)\s*(,\s*\d+\s*)?\]|local-cluster\[\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\]"
    r"|spark://[^,\s]+:\d{1,5}(,[^,\s]+:\d{1,5})*|yarn|k8s://\S+"
)
FROM_ENVIRONMENT = re.compile(r"^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$")


class SparkConf(Strict):
    master: str | None = "local[*]"
    """None: what spark-submit or the platform says."""
    settings: dict[str, str | None] = Field(default_factory=dict)
    """Passed to Spark as they are; null leaves out a lower layer's setting. `${NAME}`: from the environment."""

    @field_validator("master")
    @classmethod
    def _known(cls, master: str | None) -> str | None:
        if master is not None and not MASTER.fullmatch(master):
            allowed = (
                "local[*], local[N], spark://HOST:PORT, yarn, k8s://https://HOST:PORT, or null under spark-submit"
            )
            raise ValueError(f"not a master that Spark knows: write {allowed}")
        return master

    @field_validator("settings")
    @classmethod
    def _no_secrets(cls, settings: dict[str, str | None]) -> dict[str, str | None]:
        for key, value in settings.items():
            if value and SECRET.search(key) and not FROM_ENVIRONMENT.match(value):
                message = f"{key} looks like a secret: write the name of a variable, such as ${{MY_KEY}}"
                raise misfit(message, key)
        return settings

    def redacted(self) -> dict[str, str | None]:
        """The settings with the values of secret-looking keys taken out."""
        return {key: "(redacted)" if SECRET.search(key) else value for key, value in self.settings.items()}


class Config(Strict):
    dataset: Dataset
    warehouse: str
    """A folder, or `catalog.schema`; a folder that is called like that is written `./a.b`. A part with more than
    letters, digits, _ and - stands in backquotes, as in SQL."""
    artifacts: str | None = None
    """Folder of model artifacts; `<warehouse>/_models` unless given (needed with `catalog.schema`)."""
    ingest: Ingest = Ingest()
    features: Features = Features()
    encodings: Encodings = Encodings()
    sampling: Sampling = Sampling()
    split: Split = Split()
    models: dict[str, ModelSpec] = Field(default_factory=dict)
    calibration: Calibration = Calibration()
    judge: Judge = Judge()
    gate: Gate = Gate()
    monitor: Monitor = Monitor()
    predictions: Predictions = Predictions()
    score: Score = Score()
    simulate: Simulate = Simulate()
    spark: SparkConf = SparkConf()
    mlflow: Mlflow | None = None
    report: str | None = None
    """Where the HTML report goes; `<warehouse>/_reports/<ds>.html` unless given."""

    @model_validator(mode="after")
    def _models_fit(self) -> Config:
        for name, spec in self.models.items():
            if not NAME.match(name):
                raise misfit(f"model name {name!r}: only letters, digits and _ are allowed", "models", name)
            for where, part in parts(spec).items():
                self._check_columns(part.columns, "models", name, *where, "columns")
                if isinstance(part, XgboostSpec) and part.values == "encodings":
                    self._check_encoded(part, "models", name, *where)
                if isinstance(part, WideDeepSpec):
                    self._check_embedded(part, "models", name, *where, "embedding")
        return self

    def _check_embedded(self, spec: WideDeepSpec, *where: str) -> None:
        """Raises where an embedding is one of no slot, or slots that share a table are to differ."""
        known, shared = self.dataset.slots, [slot for group in spec.embedding.share for slot in group]
        for key, named in (("dims", spec.embedding.dims), ("bits", spec.embedding.bits), ("share", shared)):
            for slot in named:
                if slot not in known:
                    message = f"{slot!r} is no slot of the data set; its slots are {', '.join(known)}"
                    raise misfit(message + nearest(slot, known), *where, key)
        for group in spec.embedding.share:
            for key, own, rest in (
                ("dims", spec.embedding.dims, spec.embedding.dim),
                ("bits", spec.embedding.bits, None),
            ):
                if len({own.get(slot, rest) for slot in group}) > 1:
                    message = f"{', '.join(group)} share a table (embedding.share): give them the same"
                    raise misfit(message, *where, key)

    def _check_encoded(self, spec: XgboostSpec, *where: str) -> None:
        """Raises where a model eats encodings of values that `encode` does not count."""
        if duration(spec.history) % duration(PERIOD[self.encodings.period]):
            message = f"history {spec.history} is no whole number of {self.encodings.period}s (encodings.period)"
            raise misfit(message, *where, "history")
        for kind in ("slots", "crosses"):
            asked, counted = getattr(spec.columns, kind), getattr(self.encodings, kind)
            missing = [] if "all" in (asked, counted) else [one for one in asked if one not in counted]
            if missing:
                message = f"{missing[0]!r} is not counted: encodings.{kind} names {list(counted)}"
                raise misfit(message, *where, "columns", kind)

    @model_validator(mode="after")
    def _encodings_fit(self) -> Config:
        self._check_columns(self.encodings, "encodings")
        return self

    @model_validator(mode="after")
    def _edges_fit(self) -> Config:
        unknown = [name for name in self.features.number_edges if name not in self.dataset.numbers]
        if unknown:
            known = self.dataset.numbers
            message = f"{unknown[0]!r} is no number of the data set; its numbers are {', '.join(known)}"
            raise misfit(message + nearest(unknown[0], known), "features", "number_edges", unknown[0])
        return self

    @model_validator(mode="after")
    def _judge_fits(self) -> Config:
        known = {"values": self.dataset.carry, "buckets": self.dataset.numbers, "seen": self.dataset.slots}
        for one in self.judge.slices:
            if one.column is not None and one.column not in known[one.kind]:
                self._refuse_column(one.column, known[one.kind], "slices", one.kind)
        if self.judge.unit not in ("impression", "hour", "day", *self.dataset.carry):
            self._refuse_column(self.judge.unit, self.dataset.carry, "unit", "unit")
        return self

    def _refuse_column(self, column: str, known: tuple[str, ...], key: str, kind: str) -> None:
        where = {"buckets": "numbers", "seen": "slots"}.get(kind, "carry")
        message = f"{column!r} is not among dataset.{where}, {', '.join(known) or 'which is empty'}"
        raise misfit(message + nearest(column, known), "judge", key)

    @property
    def warehouse_is_catalog(self) -> bool:
        """Whether `warehouse` is `catalog.schema` rather than a folder."""
        return names.is_schema(self.warehouse)

    @property
    def warehouse_path(self) -> str:
        """The warehouse as an absolute path, URI, or `catalog.schema` as SQL writes it. Raises ConfigError for a
        folder with a %."""
        if self.warehouse_is_catalog:
            return names.written(self.warehouse)
        path = absolute(self.warehouse)
        if "%" in path and "://" not in path:
            raise ConfigError(f"warehouse: {path}: Delta's library takes the % for an escape; name another folder")
        return path

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

    def reach(self, name: str) -> timedelta:
        """So much time before a row is counted for what a model knows of its values; may be none."""
        for part in parts(self.models[name]).values():
            if isinstance(part, XgboostSpec) and part.values == "encodings":
                return duration(part.history) + duration(self.split.label_delay)
        return timedelta()

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
            path = path.replace("{warehouse}/", f"{self.warehouse_path}.")
        path = path.replace("{warehouse}", self.warehouse)
        named = self.dataset.source.format == "delta" and names.is_table(path)
        return path if named else absolute(path)

    def digest(self, *parts: str) -> str:
        """16 hex digits that change with these parts (`sampling`, `dataset.slots`; all of it: none given)."""
        values: Any = self.model_dump(mode="json")
        return digest({part: _part(values, part) for part in parts} if parts else values)

    def _check_columns(self, columns: Columns | Encodings, *where: str) -> None:
        for kind in ("slots", "numbers", "crosses"):
            asked, known = getattr(columns, kind, "all"), getattr(self.dataset, kind)
            if asked == "all":
                continue
            for item in asked:
                if item not in known:
                    written = [" ".join(each) if kind == "crosses" else str(each) for each in known]
                    hint = nearest(" ".join(item) if kind == "crosses" else str(item), written)
                    message = f"the data set's {kind} have no {item!r}; it has {list(known)}{hint}"
                    raise misfit(message, *where, kind)
