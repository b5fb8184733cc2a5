"""raw log → `rejects` and `click_log`: the raw log is read three times, and never held.

1. scan (text only): how many lines each split has, so that every line's number is known;
2. count: rows of each day, refused lines by reason, repeated keys: all that decides whether to write;
3. write: rejects, if there are any, and rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import ArrayType, BinaryType, MapType, StructType, VariantType

from clickmill.config import Config
from clickmill.dataset import Dataset, EventTimeColumn
from clickmill.errors import ConflictError, MissingColumnsError, NoRowsError, RejectLimitError
from clickmill.ingest import judge, parse, splits, worker
from clickmill.tables import ByWorkers, Tables, first_line

DUPLICATE = "duplicate_event_id"
MAX_TASKS = 10_000
BROADCAST_KEYS = 500_000
NAME_SHOWN, NAMES_SHOWN = 60, 1_500
NANOSECONDS = (
    "Spark reads no nanoseconds: write times in microseconds, from pandas by "
    "to_parquet(..., coerce_timestamps='us', allow_truncated_timestamps=True)"
)
_ORDER = ("__high", "__low")


class Counts(NamedTuple):
    """What the log holds: rows_in = Σ rows_by_day + rejected + other_day, always."""

    rows_in: int
    rows_by_day: Mapping[date, int]
    other_day: int
    reasons: Mapping[str, int]
    repeats: int
    """Rows whose key another row of that day has already."""
    repeated_keys: int
    """Keys that more than one row of a day has."""
    first: date | None
    last: date | None
    """The first and the last day that the log has rows of."""
    absent: tuple[str, ...]
    """Columns that the data set names and no JSON line has."""

    @property
    def rows_out(self) -> int:
        """Rows that `click_log` gets."""
        return sum(self.rows_by_day.values())

    @property
    def rejected(self) -> int:
        """Lines that `rejects` gets."""
        return sum(self.reasons.values())


class RawLog:
    """A raw log as one run sees it."""

    def __init__(self, source: DataFrame, plan: worker.Plan) -> None:
        self._source = source
        self._plan = plan
        self.counts = _counted(source, plan)

    def rejects(self, run_id: str) -> DataFrame | list[dict[str, Any]]:
        """What is refused, as the table `rejects` wants it; [] where nothing is."""
        if not self.counts.rejected:
            return []
        columns = ("source", "line", "reason", "text", F.lit(run_id).alias("run_id"), "ds")
        own = self._plan.dataset.event_id is not None and self.counts.repeats > 0
        fn = partial(worker.rejects, plan=self._plan, candidates=own, among=self._repeated() if own else None)
        found = self._source.mapInArrow(fn, from_arrow_schema(worker.REJECTS))
        if not own:
            return found.select(*columns)
        ranked = _numbered(found.where("reason IS NULL"), day="event_day")
        later = ranked.where("__occurrence > 0").withColumn("reason", F.lit(DUPLICATE))
        return found.where("reason IS NOT NULL").select(*columns).unionByName(later.select(*columns))

    def _repeated(self) -> NDArray[np.int64] | None:
        """Halves of the keys that a day has more than once, rising; None where they are too many to send out."""
        if self.counts.repeated_keys > BROADCAST_KEYS:
            return None
        keys = _keys(self._source, self._plan).where("day IS NOT NULL").groupBy("day", "high", "low").count()
        return np.unique(keys.where("count > 1").select("high").toArrow()["high"].to_numpy())

    def rows(self) -> DataFrame | ByWorkers:
        """The impressions of the days asked for, as the table `click_log` wants them."""
        ordered = self.counts.repeats > 0
        schema = worker.row_schema(self._plan.dataset, ordered=ordered)
        made = ByWorkers(self._source, partial(worker.rows, plan=self._plan, ordered=ordered), schema)
        if not ordered:
            return made
        rows = made.rows()
        own = self._plan.dataset.event_id is not None
        # Only rows whose key occurs again are moved: they are few, unless the log says little.
        repeated = rows.groupBy("ds", "event_id").count().where("count > 1").select("ds", "event_id")
        few = self.counts.repeated_keys <= BROADCAST_KEYS
        repeated = F.broadcast(repeated) if few else repeated.hint("merge")  # Spark cannot guess their number
        single = rows.join(repeated, ["ds", "event_id"], "left_anti").withColumn("__occurrence", F.lit(0))
        again = _numbered(rows.join(repeated, ["ds", "event_id"], "left_semi"), day="ds")
        both = single.unionByName(again)
        if own:
            both = both.where("__occurrence = 0")
        else:
            both = both.withColumn("event_id", F.concat_ws("-", "event_id", "__occurrence"))
        return both.drop("__occurrence", *_ORDER).select(*(name for name in schema.names if name not in _ORDER))

    def check(self, max_reject_share: float) -> None:
        """Raises MissingColumnsError, RejectLimitError or NoRowsError where `click_log` must not be touched."""
        counts, name = self.counts, self._plan.source
        if not counts.rows_in:
            raise NoRowsError(f"{name}: empty; nothing was written", self._plan.days)
        if counts.absent:
            raise MissingColumnsError(
                f"{name}: missing columns {list(counts.absent)}: no line has a key of this name; "
                "click_log was not touched"
            )
        share = counts.rejected / counts.rows_in
        if share > max_reject_share:
            common = sorted(counts.reasons.items(), key=lambda item: (-item[1], item[0]))[:5]
            told = ", ".join(f"{reason} {number}" for reason, number in common)
            raise RejectLimitError(
                f"{name}: {counts.rejected} of {counts.rows_in} lines ({share:.2%}) were rejected, and "
                f"ingest.max_reject_share allows {max_reject_share:.2%}; commonest reasons: {told}; "
                "click_log was not touched, table rejects has the lines"
            )
        lacking = [day for day in self._plan.days if not counts.rows_by_day.get(day)]
        if lacking:
            held = f"the log has rows from {counts.first} to {counts.last}" if counts.first else "none has"
            told = ", ".join(map(str, lacking))
            raise NoRowsError(f"{name}: no rows for {told}; {held}; click_log was not touched", lacking)

    def check_written(self, rows: int) -> None:
        """Raises ConflictError where the log was another one when it was written than when it was counted."""
        if rows != self.counts.rows_out:
            raise ConflictError(
                f"{self._plan.source}: {self.counts.rows_out} rows were counted and {rows} written: "
                "the log changed meanwhile; run the job again"
            )


def open_log(tables: Tables, cfg: Config, *, days: tuple[date, ...], ds: date) -> RawLog:
    """Finds and counts the raw log that the config describes.

    Raises NoRowsError where there are no files, MissingColumnsError where a header or a table lacks
    columns (`RawLog.check` tells of JSON lines), InputError for a damaged file.
    """
    plan = worker.Plan(cfg.dataset, days, ds, cfg.source_path)
    if cfg.dataset.source.is_text:
        return RawLog(_text_source(tables.spark, plan), plan)
    return RawLog(_table_source(tables, plan), plan)


# --- text -------------------------------------------------------------------------------------


def _text_source(spark: SparkSession, plan: worker.Plan) -> DataFrame:
    """One row a split, with the number of its first line, spread over tasks."""
    source = plan.dataset.source
    files = splits.find(plan.source, days=plan.days, optional=_neighbours(plan))
    planned = list(splits.plan(files, split_bytes=source.split_bytes))
    headers = {place: _header(file.path, plan.dataset) for place, file in enumerate(files)}
    bare = _split_frame(spark, [{**split._asdict(), "columns": headers[split.file]} for split in planned])
    scanned = bare.mapInArrow(worker.scan, from_arrow_schema(worker.SCANNED)).toArrow().to_pylist()
    lines = {(row["file"], row["start"]): row["lines"] for row in scanned}
    numbered = splits.number(planned, lines, header=source.header)
    return _split_frame(spark, [{**row, "columns": headers[row["file"]]} for row in numbered])


def _split_frame(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    table = pa.Table.from_pylist(rows, schema=worker.SPLITS)
    tasks = min(max(len(rows), 1), MAX_TASKS)
    return spark.createDataFrame(table, schema=from_arrow_schema(worker.SPLITS)).repartition(tasks)


def _header(path: str, dataset: Dataset) -> list[str] | None:
    """The names of a file's fields; None where it has none, being empty or JSON lines.

    Raises MissingColumnsError where some that are needed are not among them.
    """
    source = dataset.source
    if source.format == "jsonl":
        return None
    names = source.columns
    if names is None:
        line = splits.first_line(path)
        if not line and not splits.first_lines(path):
            return None
        names = parse.header_names(line, source.format)
    _require(names, dataset, path)
    return list(names)


def _neighbours(plan: worker.Plan) -> tuple[date, ...]:
    """In another time zone than UTC a UTC day lies in the files of two of the log's days."""
    spec = plan.dataset.event_time
    if not isinstance(spec, EventTimeColumn) or spec.timezone == "UTC":
        return ()
    return tuple(day + timedelta(days=step) for day in plan.days for step in (-1, 1))


# --- tables -----------------------------------------------------------------------------------


def _table_source(tables: Tables, plan: worker.Plan) -> DataFrame:
    if "{ds}" not in plan.source:
        return _table(tables, plan.source, plan)
    frame: DataFrame | None = None
    lacking: dict[date, str] = {}
    for day in sorted({*plan.days, *_neighbours(plan)}):
        try:
            one = _table(tables, plan.source.replace("{ds}", day.isoformat()), plan)
        except NoRowsError as error:
            if day in plan.days:
                lacking[day] = str(error)
            continue
        one = one.withColumn(worker.FILE_DAY, F.lit(day))
        frame = one if frame is None else frame.unionByName(one, allowMissingColumns=True)
    splits.require_none(lacking)
    assert frame is not None
    return frame


def _table(tables: Tables, path: str, plan: worker.Plan) -> DataFrame:
    source = plan.dataset.source
    try:
        if path == tables.path("raw_log"):
            frame = tables.read("raw_log")  # ours: pinned, and its version is noted with the run
        elif "/" in path:
            frame = tables.spark.read.format(source.format).load(path)
        else:
            frame = tables.spark.read.table(path)
    except PySparkException as error:
        reason = first_line(error)
        hint = NANOSECONDS if "TIMESTAMP(NANOS" in reason else "see source.path"
        raise NoRowsError(f"{path}: cannot be read as {source.format}: {reason}; {hint}") from None
    needed = (source.day_column,) if source.day_column is not None else ()
    _require(frame.columns, plan.dataset, path, *needed)
    if source.day_column is not None:
        days = sorted({*plan.days, *_neighbours(plan)})
        frame = frame.where(F.col(f"`{source.day_column}`").cast("date").isin(days))
    return frame.select(*(_flat(frame, name) for name in frame.columns))


def _flat(frame: DataFrame, name: str) -> Column:
    """A column as it is; nested ones as JSON and bytes as base64, so that rows can be hashed and shown."""
    kind, column = frame.schema[name].dataType, F.col(f"`{name}`")
    if isinstance(kind, ArrayType | MapType | StructType | VariantType):
        return F.to_json(column).alias(name)
    if isinstance(kind, BinaryType):
        return F.base64(column).alias(name)
    return column


def _require(names: Sequence[str], dataset: Dataset, path: str, *more: str) -> None:
    missing = [name for name in (*judge.wanted(dataset), *more) if name not in names]
    if missing:
        raise MissingColumnsError(f"{path}: missing columns {missing}; found {_shown(names)}")
    twice = sorted({name for name in judge.wanted(dataset) if list(names).count(name) > 1})
    if twice:
        raise MissingColumnsError(f"{path}: columns {twice} stand twice, so that it is not clear which is meant")


def _shown(names: Sequence[str]) -> str:
    """Names for a message: a file of another format can have a first line of any length."""
    text = str([name[:NAME_SHOWN] for name in names])
    return text if len(text) <= NAMES_SHOWN else f"{text[:NAMES_SHOWN]}… ({len(names)} in all)"


# --- counting ---------------------------------------------------------------------------------


def _keys(source: DataFrame, plan: worker.Plan) -> DataFrame:
    return source.mapInArrow(partial(worker.keys, plan=plan), from_arrow_schema(worker.KEYS))


def _counted(source: DataFrame, plan: worker.Plan) -> Counts:
    """One pass; the driver gets a row a day and a row a reason."""
    keys = _keys(source, plan)
    first, last = F.min("event_day").alias("first"), F.max("event_day").alias("last")
    by_key = keys.groupBy("day", "reason", "column", "high", "low").agg(F.count("*").alias("rows"), first, last)
    total = by_key.groupBy("day", "reason", "column").agg(
        F.sum("rows").alias("rows"),
        F.count_if(F.col("rows") > 1).alias("repeated"),
        F.count("*").alias("keys"),
        F.min("first").alias("first"),
        F.max("last").alias("last"),
    )
    told = total.toArrow().to_pylist()
    seen = {row["column"] for row in told if row["column"]}
    found = [row for row in told if not row["column"]]
    own = plan.dataset.event_id is not None
    days = {row["day"]: row["keys"] if own else row["rows"] for row in found if row["day"]}
    reasons = {row["reason"]: row["rows"] for row in found if row["reason"]}
    repeats = sum(row["rows"] - row["keys"] for row in found if row["day"])
    if own and repeats:
        reasons[DUPLICATE] = repeats
    return Counts(
        rows_in=sum(row["rows"] for row in found),
        rows_by_day=days,
        other_day=sum(row["rows"] for row in found if not row["day"] and not row["reason"]),
        reasons=reasons,
        repeats=repeats,
        repeated_keys=sum(row["repeated"] for row in found if row["day"]),
        first=min((row["first"] for row in found if row["first"]), default=None),
        last=max((row["last"] for row in found if row["last"]), default=None),
        absent=tuple(name for name in judge.wanted(plan.dataset) if seen and name not in seen),
    )


def _numbered(rows: DataFrame, *, day: str) -> DataFrame:
    """`__occurrence` counts equal ids of a day from 0, in the log's order."""
    within = Window.partitionBy(day, "event_id").orderBy(*_ORDER)
    return rows.withColumn("__occurrence", F.row_number().over(within) - F.lit(1))
