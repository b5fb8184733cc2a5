"""features of test time → predictions and tallies of every contender, in one pass on Spark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from clickmill.calibration import Calibrator
from clickmill.champion import needed_columns
from clickmill.config import Config
from clickmill.errors import MissingTableError, NoRowsError
from clickmill.evaluate import worker
from clickmill.evaluate.cells import refined, refinement
from clickmill.evaluate.figures import metric_rows, reliability_rows
from clickmill.evaluate.tally import EVERYTHING, SUMS, Tally
from clickmill.evaluate.worker import Entry
from clickmill.scoring import Contender
from clickmill.split import Stretch
from clickmill.tables import Partitions, Tables, Written

FIGURES = (
    *("log_loss", "ne", "rig", "calibration_ratio", "ece", "brier", "auc", "auc_pr"),
    *("calibration_to_truth", "n", "clicks", "ctr"),
)
"""What `--json` shows of a model."""


class Traffic(NamedTuple):
    """The rows that are judged, and whether they are all (`full`) or a sample with weights (`weighted_sample`)."""

    rows: DataFrame
    name: str


class Judgement(NamedTuple):
    """One contender's figures."""

    entry: Entry
    metrics: tuple[dict[str, Any], ...]
    reliability: tuple[dict[str, Any], ...]
    rows: int

    def for_json(self) -> dict[str, Any]:
        """The model as `--json` shows it; `metrics_uncalibrated` are those of p_sampled, with no correction."""
        one = self.entry.contender
        return {
            "model_id": one.model_id,
            "name": one.name,
            "kind": one.kind,
            "keep_rate": one.keep_rate,
            "metrics": self._stage("calibrated"),
            "metrics_uncalibrated": self._stage("p_sampled"),
            "seconds": one.seconds,
        }

    def _stage(self, stage: str) -> dict[str, dict[str, float | None]]:
        own = {
            row["metric"]: {end: row[end] for end in ("value", "low", "high")}
            for row in self.metrics
            if row["slice"] == EVERYTHING and row["stage"] == stage
        }
        return {name: own[name] for name in FIGURES}


def entries(tables: Tables, ds: date, contenders: Sequence[Contender], stretch: Stretch) -> tuple[Entry, ...]:
    """The contenders with the calibrators fitted for `ds`.

    Raises MissingTableError where one has none of its very artifact, OverlapError where a model or its
    calibrator learned from rows of `stretch`, on which it is to be judged.
    """
    ids = [one.model_id for one in contenders]
    found = {row["model_id"]: row for row in tables.rows("calibrations", days=[ds], where={"model_id": ids})}
    missing = [one.model_id for one in contenders if found.get(one.model_id, {}).get("artifact") != one.digest]
    if missing:
        raise MissingTableError(
            f"{tables.path('calibrations')}: nothing for {', '.join(missing)} as it is now on {ds}; "
            "run `calibrate` first"
        )
    for one in contenders:
        calibrated_until = datetime.fromisoformat(json.loads(found[one.model_id]["stretch"])[1])
        for until in (one.trained_until, one.chosen_until, calibrated_until):
            one.require_unseen(stretch, "test time", learned_until=until)
    return tuple(
        Entry(
            one,
            Calibrator.from_dict(json.loads(found[one.model_id]["parameters"])),
            found[one.model_id]["calibration_id"],
        )
        for one in contenders
    )


def traffic(tables: Tables, cfg: Config, stretch: Stretch) -> Traffic:
    """All rows of a stretch of time; where there are no `features`, those of the sample with their weights."""
    if tables.exists("features"):
        return Traffic(tables.read("features", stretch=stretch), "full")
    where = {"sample_id": cfg.sampling.sample_id}
    return Traffic(tables.read("sample", stretch=stretch, where=where), "weighted_sample")


@contextmanager
def scored(judged: Traffic, found: Sequence[Entry], cfg: Config) -> Iterator[DataFrame]:
    """The one pass: SCORED rows and tallies, computed once and kept while the `with` lasts."""
    needed = needed_columns(judged.rows, [entry.contender for entry in found])
    there = [name for name in ("c_p_true", "weight") if name in judged.rows.columns]
    rows = judged.rows.select("event_id", "event_time", "label", *there, *needed)
    keep = {"all": 1.0, "none": 0.0}.get(str(cfg.predictions.keep))
    share = float(cfg.predictions.keep) if keep is None else keep
    score = partial(worker.score, entries=tuple(found), keep=share, seed=cfg.sampling.seed)
    frame = rows.mapInArrow(score, from_arrow_schema(worker.SCORED)).persist()
    try:
        yield frame
    finally:
        frame.unpersist()


def judge(frame: DataFrame, found: Sequence[Entry], judged: Traffic, stretch: Stretch) -> tuple[Judgement, ...]:
    """Figures of every entry from the tallies in `frame`.

    The driver receives models × partitions tallies of at most 5,121 cells (300 kB), and then, where AUC
    needs them, at most some 2e6 finer cells a model. Raises NoRowsError for an empty stretch.
    """
    collected = frame.where(F.col("tally").isNotNull()).select("model_id", "tally").collect()
    parts: dict[str, list[bytes]] = {entry.contender.model_id: [] for entry in found}
    for row in collected:
        parts[row["model_id"]].append(bytes(row["tally"]))
    if not collected:
        raise NoRowsError(f"features: no rows in test time, {stretch}")
    # In an order that the scheduling of partitions cannot change.
    tallies = [
        Tally.merge([Tally.from_bytes(content) for content in sorted(parts[entry.contender.model_id])])
        for entry in found
    ]
    _refine(frame, found, tallies)
    return tuple(_judgement(entry, tally, judged.name) for entry, tally in zip(found, tallies, strict=True))


def _judgement(entry: Entry, tally: Tally, traffic_name: str) -> Judgement:
    metrics = tuple(metric_rows(tally, traffic=traffic_name))
    rows = int(tally.sums[EVERYTHING][0][SUMS.index("rows")])
    return Judgement(entry, metrics, tuple(reliability_rows(tally.cells)), rows)


def store(
    tables: Tables, ds: date, frame: DataFrame, judgements: Sequence[Judgement], *, run_id: str
) -> dict[str, Written]:
    """Writes `predictions`, `metrics` and `reliability` of these models on `ds`, replacing what was there."""
    ids = [one.entry.contender.model_id for one in judgements]
    replace: Partitions = {"ds": ds, "model_id": ids}
    names = {one.entry.contender.model_id: one.entry.calibration_id for one in judgements}
    calibration_id = F.create_map(*(F.lit(text) for pair in names.items() for text in pair))[F.col("model_id")]
    kept = frame.where(F.col("tally").isNull() & F.col("stored")).select(
        "event_id",
        "label",
        "p_sampled",
        "p",
        calibration_id.alias("calibration_id"),
        "model_id",
        F.lit(ds).alias("ds"),
    )
    written = {"predictions": tables.write("predictions", kept, replace=replace)}
    for table in ("metrics", "reliability"):
        own = [
            {**row, "ds": ds, "model_id": one.entry.contender.model_id, "run_id": run_id}
            for one in judgements
            for row in getattr(one, table)
        ]
        written[table] = tables.write(table, own, replace=replace)
    return written


def _refine(frame: DataFrame, found: Sequence[Entry], tallies: Sequence[Tally]) -> None:
    """Cuts cells, by further passes over the kept rows, until AUC and ECE no longer hang on their width."""
    own = {entry.contender.model_id: (entry, tally) for entry, tally in zip(found, tallies, strict=True)}
    rows = frame.where(F.col("tally").isNull()).select("model_id", "label", "p_sampled", "weight")
    schema = from_arrow_schema(worker.FINE)
    ends = [F.min("low").alias("low"), F.max("high").alias("high")]
    sums = [F.sum(name).alias(name) for name in worker.FINE.names[4:]]
    while cut := {name: plan for name, (_, tally) in own.items() if (plan := refinement(tally.cells)) is not None}:
        cuts = {name: (own[name][0], plan[1]) for name, plan in cut.items()}
        fine = rows.mapInArrow(partial(worker.refine, cuts=cuts), schema).groupBy("model_id", "key")
        summed = fine.agg(*ends, *sums).select(*worker.FINE.names).toArrow()
        for name, (which, _) in cut.items():
            tally = own[name][1]
            tally.cells = refined(tally.cells, which, worker.fine_cells(summed, name))
