"""A raw log → its rows with p, in Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import AtomicType, BinaryType, StructType

from clickmill.config import Config, absolute
from clickmill.errors import MissingColumnsError, MissingTableError, NoRowsError, SchemaError, UsageError
from clickmill.ingest import splits
from clickmill.ingest.judge import wanted
from clickmill.score import raw, scorer, worker
from clickmill.tables import Tables

MAX_TASKS = 10_000


class Counts(NamedTuple):
    """Rows written, and how many of them have no p."""

    rows: int
    refused: int


@dataclass(frozen=True)
class Target:
    """What is scored with what, and where it goes."""

    model: Path
    input: str
    output: str
    format: str

    def write(self, scored: DataFrame, *, dry_run: bool) -> Counts:
        """Replaces the output folder by the scored rows (a dry run only counts). Raises NoRowsError for none."""
        if scored.isEmpty():  # before the earlier scores are gone
            raise NoRowsError(f"{self.input}: has no rows")
        if not dry_run:
            scored.write.format(self.format).mode("overwrite").option("overwriteSchema", "true").save(self.output)
            scored = scored.sparkSession.read.format(self.format).load(self.output)
        found = scored.agg(F.count(F.lit(1)).alias("rows"), F.count("reason").alias("refused")).collect()[0]
        return Counts(found["rows"], found["refused"])


def target(tables: Tables, cfg: Config, *, ds: date, names: Sequence[str]) -> Target:
    """What the config's `score` section says; without a model there, the one model of `names` trained on `ds`.

    Raises UsageError where that leaves a choice, MissingTableError where there is no such model.
    """
    model = Path(absolute(cfg.score.model)) if cfg.score.model else _trained(tables, ds, names)
    model_id = model.parent.name if (model / scorer.CARD).is_file() else model.name
    given = cfg.score.input
    source = absolute(given) if given else cfg.source_path
    return Target(model, source, cfg.scores_path(ds, model_id), cfg.score.format)


def _trained(tables: Tables, ds: date, names: Sequence[str]) -> Path:
    if len(names) != 1:
        raise UsageError(f"score takes one model, not {', '.join(names) or 'none'}: name it with --models")
    found = tables.read("models", days=[ds], where={"name": names[0]}).select("artifact").collect()
    if len(found) != 1:
        many = f"{len(found)} models" if found else "no model"
        raise MissingTableError(f"models: {many} called {names[0]!r} on {ds}; name a folder with score.model")
    return Path(found[0]["artifact"])


def score(
    tables: Tables,
    *,
    model: Path,
    path: str,
    days: Sequence[date] = (),
    calibration: str | None = None,
    ignore_extra: bool = False,
) -> DataFrame:
    """Every row of a raw log in the form of the model's data set, with `p_sampled`, `p` and `reason`.

    path: files (`{ds}` stands for each of `days`), or a Parquet or Delta folder, of which, where the data set
    has a `day_column`, the rows of `days` are scored. Text comes with those of the data set's columns that
    it has, as text; a table with all its columns. A line or row that cannot be scored has a reason
    instead of p. The model travels to the workers with the task.
    Raises MissingColumnsError, SchemaError, NoRowsError, and what `scorer.load` raises.
    """
    loaded = scorer.load(model, calibration=calibration)
    form = raw.form_of(loaded.dataset, loaded.needed, ignore_extra=ignore_extra)
    if loaded.dataset.source.is_text:
        return _text(tables, loaded, form, path, tuple(days))
    return _table(tables, loaded, form, path, tuple(days))


def _text(tables: Tables, loaded: scorer.Scorer, form: raw.Form, path: str, days: tuple[date, ...]) -> DataFrame:
    source = loaded.dataset.source
    files = tuple(file for file in splits.find(path, days=days) if file.size)
    if not files:
        raise NoRowsError(f"{path}: has no rows")
    fields = [raw.fields(splits.first_lines(file.path), form, file.path) for file in files]
    columns = tuple(name for name in wanted(loaded.dataset) if all(own is None or name in own for own in fields))
    planned = splits.plan(files, split_bytes=source.split_bytes)
    rows = [{**split._asdict(), "columns": fields[split.file]} for split in planned]
    table = pa.Table.from_pylist(rows, schema=worker.SPLITS)
    frame = tables.spark.createDataFrame(table, schema=from_arrow_schema(worker.SPLITS))
    schema = pa.schema([*((name, pa.string()) for name in columns), *worker.ADDED])
    fn = partial(worker.lines, scorer=loaded, columns=columns)
    return frame.repartition(min(len(rows), MAX_TASKS)).mapInArrow(fn, from_arrow_schema(schema))


def _table(tables: Tables, loaded: scorer.Scorer, form: raw.Form, path: str, days: tuple[date, ...]) -> DataFrame:
    source = loaded.dataset.source
    try:
        paths = [path.replace("{ds}", day.isoformat()) for day in days] if "{ds}" in path else [path]
        frame = _loaded(tables, source.format, paths[0])
        for another in paths[1:]:
            frame = frame.unionByName(_loaded(tables, source.format, another), allowMissingColumns=True)
        frame.schema  # noqa: B018  (Spark looks when it must)
    except PySparkException as error:
        reason = str(error).strip().splitlines()[0]
        raise NoRowsError(f"{path}: cannot be read as {source.format}: {reason}") from None
    _check(frame, loaded, form, path)
    if source.day_column is not None and source.day_column in frame.columns and days:
        frame = frame.where(F.col(f"`{source.day_column}`").cast("date").isin(list(days)))
    schema = StructType([*frame.schema, *from_arrow_schema(pa.schema(list(worker.ADDED)))])
    return frame.mapInArrow(partial(worker.rows, scorer=loaded), schema)


def _loaded(tables: Tables, format: str, path: str) -> DataFrame:
    if "/" not in path:
        return tables.spark.read.table(path)
    return tables.spark.read.format(format).load(path)


def _check(frame: DataFrame, loaded: scorer.Scorer, form: raw.Form, path: str) -> None:
    taken = [name for name, _ in worker.ADDED if name in frame.columns]
    if taken:
        raise MissingColumnsError(f"{path}: columns {taken} are too many: scoring adds these; rename them")
    raw.check([name for name in frame.columns if name != loaded.dataset.source.day_column], form, path)
    for name in loaded.needed:
        kind = frame.schema[name].dataType
        if not isinstance(kind, AtomicType) or isinstance(kind, BinaryType):
            raise SchemaError(
                f"{path}: column {name!r} is {kind.simpleString()}; expected text, a number or a time"
            )
