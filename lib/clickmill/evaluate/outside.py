"""p of a system that is not ours: from its file onto the rows that are judged, on Spark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from clickmill.config import absolute
from clickmill.errors import (
    InvalidProbabilityError,
    MissingColumnsError,
    MissingEventsError,
    NoRowsError,
    OtherLabelsError,
    RepeatedEventsError,
)
from clickmill.evaluate.passes import Traffic
from clickmill.scoring import P_OUTSIDE
from clickmill.tables import SPARK_ERRORS, first_line

COLUMNS = ("event_id", "label", "p")
"""What a file of predictions has; other columns are let be."""
_CSV = (".csv", ".csv.gz")


class Told(NamedTuple):
    """The judged rows with P_OUTSIDE beside them, and how many of the file's rows are of other time."""

    traffic: Traffic
    elsewhere: int


def predictions(spark: SparkSession, path: str) -> DataFrame:
    """A row an event_id of a CSV file with a header, a Parquet file or folder, or a Delta table: see `beside`.

    Raises NoRowsError where it cannot be read, MissingColumnsError.
    """
    form, file = "csv" if path.lower().endswith(_CSV) else "parquet", Path(absolute(path))
    if (file / "_delta_log").is_dir():  # the folder's files may be of earlier versions
        form = "delta"
    if file.is_file() and (file.name.startswith(("_", ".")) or ":" in file.name):
        raise NoRowsError(f"{path}: Spark reads no file whose name begins with _ or . or has a colon; rename it")
    try:
        found = spark.read.format(form).option("header", True).load(_source(path, form))
        lacking = [column for column in COLUMNS if column not in found.columns]
        if lacking:
            raise MissingColumnsError(
                f"{path}: missing columns {', '.join(lacking)}; found {', '.join(found.columns)}"
            )
        told = found.select(
            F.col("event_id").cast("string").alias("event_id"),
            *(F.expr(f"try_cast({column} AS double)").alias(column) for column in ("label", "p")),
            *(F.col(column).cast("string").alias(f"{column}_text") for column in ("label", "p")),
        )
        first = [F.first(column).alias(column) for column in told.columns if column != "event_id"]
        return told.groupBy("event_id").agg(F.count(F.lit(1)).alias("times"), *first)
    except SPARK_ERRORS as error:
        raise NoRowsError(f"{path}: cannot be read as {form}: {first_line(error)}") from None


def _source(path: str, form: str) -> str:
    """The path for Spark, which takes a file's name for a pattern, but not a Delta table's."""
    place = absolute(path)
    return place if form == "delta" or not Path(place).exists() else re.sub(r"([][{}*?\\])", r"\\\1", place)


def beside(judged: Traffic, told: DataFrame, path: str) -> Told:
    """The judged rows with the p that `told` has for their event_ids.

    The file's rows of other event_ids, such as those of other days, are counted and not looked at. Raises, each
    with how many and one of them, MissingEventsError for judged rows without p, RepeatedEventsError for
    event_ids that the file has twice, InvalidProbabilityError, OtherLabelsError.
    """
    log = judged.frame()
    rows = log.select("event_id", F.col("label").alias("clicked"))
    both = rows.join(told, "event_id", "full")
    ours, theirs = F.col("clicked").isNotNull(), F.col("times").isNotNull()
    fits = F.col("p").between(0, 1)  # to Spark NaN is above every number
    faults = {
        "missing": ours & ~theirs,
        "repeated": ours & (F.col("times") > 1),
        "p": ours & theirs & ~F.coalesce(fits, F.lit(False)),
        "label": ours & theirs & ~F.col("label").eqNullSafe(F.col("clicked").cast("double")),
    }
    elsewhere = F.sum(F.when(~ours, F.col("times"))).alias("elsewhere")
    found = both.agg(
        F.count_if(ours).alias("judged"), elsewhere, *(_fault(*item) for item in faults.items())
    ).collect()[0]
    _refuse(found.asDict(recursive=True), path)
    p = told.select("event_id", F.col("p").alias(P_OUTSIDE))
    return Told(Traffic.of(judged.name, log.join(p, "event_id")), found["elsewhere"] or 0)


def _fault(name: str, bad: Column) -> Column:
    """How many rows are so, and one of them."""
    example = F.min(F.when(bad, F.struct("event_id", "times", "p_text", "label_text", "clicked")))
    return F.struct(F.count_if(bad).alias("rows"), example.alias("such")).alias(name)


def _refuse(found: dict[str, Any], path: str) -> None:
    missing, repeated, p, label = (found[name] for name in ("missing", "repeated", "p", "label"))
    if missing["rows"]:
        raise MissingEventsError(
            f"{path}: lacks {missing['rows']:,} of the {found['judged']:,} rows of test time, such as event_id "
            f"{missing['such']['event_id']!r}; it has {found['elsewhere'] or 0:,} rows of other event_ids: write "
            "one for each event_id that `features` has in test time"
        )
    if repeated["rows"]:
        such = repeated["such"]
        raise RepeatedEventsError(
            f"{path}: {repeated['rows']:,} event_ids are there more than once, such as {such['event_id']!r}, "
            f"{such['times']} times: write each once"
        )
    if p["rows"]:
        such = p["such"]
        raise InvalidProbabilityError(
            f"{path}: {p['rows']:,} rows have no probability as p, such as {such['p_text']!r} for event_id "
            f"{such['event_id']!r}: write a number in [0, 1]"
        )
    if label["rows"]:
        such = label["such"]
        raise OtherLabelsError(
            f"{path}: {label['rows']:,} labels are not the log's, such as {such['label_text']!r} for event_id "
            f"{such['event_id']!r}, whose label is {such['clicked']}: only the same rows with the same labels "
            "can be compared"
        )
