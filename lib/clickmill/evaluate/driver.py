"""features of test time → predictions, figures and comparisons of every contender, in one pass on Spark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from clickmill.calibration import Calibrator
from clickmill.config import Config, Judge
from clickmill.errors import MissingColumnsError, MissingTableError, NoRowsError
from clickmill.evaluate import worker
from clickmill.evaluate.cells import refined, refinement
from clickmill.evaluate.figures import metric_rows, reliability_rows
from clickmill.evaluate.intervals import comparison_rows, intervals
from clickmill.evaluate.passes import Parcels, Traffic
from clickmill.evaluate.resampling import Ranked, Resampled, rank_edges
from clickmill.evaluate.slices import (
    ByDay,
    Everything,
    Int32,
    Slices,
    Way,
    slice_column,
    way_of,
)
from clickmill.evaluate.tally import Tally
from clickmill.evaluate.worker import Entry, Plan
from clickmill.metrics import ECE_BINS, auc_of
from clickmill.schema import EVERYTHING, LAST_STAGE
from clickmill.scoring import Contender
from clickmill.split import Stretch
from clickmill.tables import Partitions, Tables, Written
from clickmill.units import units_of

FIGURES = (
    *("log_loss", "ne", "rig", "calibration_ratio", "ece", "brier", "auc", "auc_pr"),
    *("calibration_to_truth", "n", "clicks", "ctr"),
)
"""What `--json` shows of a model."""


class Judged(NamedTuple):
    """One contender's figures: rows of `metrics` and `reliability`."""

    entry: Entry
    metrics: tuple[dict[str, Any], ...]
    reliability: tuple[dict[str, Any], ...]

    def last_stage(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Rows of `metrics` of p, by slice and metric."""
        return {(row["slice"], row["metric"]): row for row in self.metrics if row["stage"] == LAST_STAGE}

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


class Judgement(NamedTuple):
    """What was found of all contenders."""

    models: tuple[Judged, ...]
    names: tuple[str, ...]
    """The groups that were judged apart."""
    resampled: Resampled
    comparisons: tuple[dict[str, Any], ...]
    rows: int


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


def plan_of(
    tables: Tables, cfg: Config, judged: Traffic, found: Sequence[Entry], *, train: Stretch, test: Stretch
) -> Plan:
    """What is judged and how. Looks up the commonest values of carried columns, and values seen in training time.

    Raises MissingColumnsError where a slice or the bootstrap's unit names a column that the rows have not.
    """
    units = units_of(cfg.judge)
    asked = [(one, slice_column(one)) for one in cfg.judge.slices if one.kind != "day"]
    lacking = {column for _, column in asked} | ({units.column} if units.column else set())
    lacking -= set(judged.columns)
    if lacking:
        raise MissingColumnsError(
            f"features: judge.slices and judge.unit need {', '.join(sorted(lacking))}; carry them (dataset.carry) "
            "and run build_features again"
        )
    common = {column: _commonest(judged.frame(), column, one.top) for one, column in asked if one.kind == "values"}
    seen = {column: _seen(tables, column, train) for one, column in asked if one.kind == "seen"}
    ways: list[Way] = [
        Everything(),
        ByDay(test.days),
        *(way_of(one, common=common, seen=seen) for one, _ in asked),
    ]
    share = {"all": 1.0, "none": 0.0}.get(str(cfg.predictions.keep))
    keep = float(cfg.predictions.keep) if share is None else share
    return Plan(tuple(found), Slices(tuple(ways)), units, cfg.judge.replicates, keep, cfg.sampling.seed)


def _commonest(rows: DataFrame, column: str, top: int) -> tuple[str, ...]:
    """The commonest values as text, commonest first; of equally common ones the lesser first."""
    value = F.col(column).cast("string").alias("value")
    counted = rows.select(value).where("value IS NOT NULL").groupBy("value").count()
    return tuple(row["value"] for row in counted.orderBy(F.desc("count"), "value").limit(top).collect())


def _seen(tables: Tables, column: str, train: Stretch) -> Int32:
    """The hashes of a slot's values that stand in training time, at full traffic, rising."""
    hashes = tables.read("features", stretch=train).select(column).distinct().toArrow().column(column)
    return np.sort(hashes.drop_null().to_numpy())


def judge(parcels: Parcels, plan: Plan, judged: Traffic, stretch: Stretch, *, min_clicks: int) -> Judgement:
    """Figures of every entry from what `scored` made.

    The driver receives, from at most PARTS workers, a tally a model of at most 5,121 cells (300 kB), the resampled
    sums (groups × models × replicates), and then, where AUC needs them, at most some 2e6 finer cells a model, and
    the resampled rankings; and where rows are FEW, themselves, packed: it makes these passes itself.
    Raises NoRowsError for an empty stretch.
    """
    found = parcels.of_kind("tally", "resampled").added()
    if not found:
        raise NoRowsError(f"features: no rows in test time, {stretch}")
    resampled: Resampled = found["resampled", ""]
    resampled.whole(plan.slices.places(1))
    ids = [entry.contender.model_id for entry in plan.entries]
    tallies: dict[str, Tally] = {name: found["tally", name] for name in ids}
    scored = parcels.of_kind("scored")
    _refine(scored, plan.entries, tallies)
    ranked = _ranked(scored, tallies, plan.replicates)
    models = tuple(
        _model(plan, number, tallies[name], resampled, ranked.get(name), judged.name)
        for number, name in enumerate(ids)
    )
    values = {model.entry.contender.model_id: model.last_stage() for model in models}
    names = plan.slices.names
    compared = comparison_rows(names, ids, values, resampled, min_clicks=min_clicks) if plan.replicates else ()
    return Judgement(models, names, resampled, tuple(compared), int(tallies[ids[0]].sums[0, 0, 0]))


def _ranked(scored: Parcels, tallies: Mapping[str, Tally], replicates: int) -> dict[str, Ranked]:
    """The resampled ranking of each model, by one more pass over the scored rows."""
    if not replicates:
        return {}
    edges = {name: rank_edges(tally.cells) for name, tally in tallies.items()}
    found = scored.through(partial(worker.rank, edges=edges, replicates=replicates)).added()
    return {name: found["ranked", name] for name in tallies}


def _refine(scored: Parcels, found: Sequence[Entry], tallies: Mapping[str, Tally]) -> None:
    """Cuts cells, by further passes over the scored rows, until AUC and ECE no longer hang on their width.

    The parts are added up by ranges of keys, about as many as there are partitions.
    """
    own = {entry.contender.model_id: (entry, tallies[entry.contender.model_id]) for entry in found}
    while cut := {name: plan for name, (_, tally) in own.items() if (plan := refinement(tally.cells)) is not None}:
        cuts = {name: (own[name][0], plan[1]) for name, plan in cut.items()}
        places = scored.places
        fine = scored.through(partial(worker.refine, cuts=cuts, places=places)).added(places)
        for name, (which, _) in cut.items():
            tally = own[name][1]
            tally.cells = refined(tally.cells, which, fine["fine", name])


def _model(
    plan: Plan, number: int, tally: Tally, resampled: Resampled, ranked: Ranked | None, traffic: str
) -> Judged:
    names, entry = plan.slices.names, plan.entries[number]
    groups = tally.cells.groups(0)
    one_class = not groups.clicks.any() or not groups.others.any()
    auc = None if one_class else auc_of(groups)
    found = {} if ranked is None else intervals(names, number, resampled, ranked, auc)
    rates = ranked.click_rates(ECE_BINS) if ranked is not None and resampled.has_intervals else None
    rows = tuple(metric_rows(tally, names, found, traffic=traffic))
    return Judged(entry, rows, tuple(reliability_rows(tally.cells, rates)))


def store(tables: Tables, cfg: Config, ds: date, parcels: Parcels, found: Judgement) -> dict[str, Written]:
    """Writes all that was found of these models on `ds`, replacing what was there."""
    ids = [one.entry.contender.model_id for one in found.models]
    replace: Partitions = {"ds": ds, "model_id": ids}
    names = {one.entry.contender.model_id: one.entry.calibration_id for one in found.models}
    stored = partial(worker.predictions, calibrations=names, ds=ds)
    kept = parcels.of_kind("kept").rows(stored, worker.PREDICTIONS)
    written = {"predictions": tables.write("predictions", kept, replace=replace)}
    each = list(zip(ids, found.models, strict=True))
    rows = {
        "metrics": [row | {"model_id": name} for name, one in each for row in one.metrics],
        "reliability": [row | {"model_id": name} for name, one in each for row in one.reliability],
        "comparisons": list(found.comparisons),
        "replicates": list(_replicate_rows(found, cfg.judge)),
    }
    for table, own in rows.items():
        stamped = [row | {"ds": ds, "run_id": tables.run_id} for row in own]
        written[table] = tables.write(table, stamped, replace=replace)
    return written


def _replicate_rows(found: Judgement, conf: Judge) -> Iterator[dict[str, Any]]:
    """Rows of `replicates`, less the keys."""
    if not conf.replicates:
        return
    for number, one in enumerate(found.models):
        for row in one.metrics:
            if (row["stage"], row["metric"]) == (LAST_STAGE, "n"):
                group = found.names.index(row["slice"])
                drawn = found.resampled.draws(number, group)._asdict()
                yield {
                    "model_id": one.entry.contender.model_id,
                    "slice": row["slice"],
                    "calibration_id": one.entry.calibration_id,
                    "judged": found.resampled.digest,
                    "unit": conf.unit,
                    "units": found.resampled.units(group),
                    "seed": conf.seed,
                    **{name: values.tolist() for name, values in drawn.items()},
                }
