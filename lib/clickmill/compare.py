"""An outside system's p for the rows of test time, judged beside our models by the same judge. Writes nothing."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from clickmill.calibration import Calibrator
from clickmill.champion import contenders
from clickmill.errors import UsageError
from clickmill.evaluate.driver import Judgement, entries, judge, plan_of
from clickmill.evaluate.outside import beside, predictions
from clickmill.evaluate.passes import scored, traffic
from clickmill.evaluate.worker import Entry
from clickmill.histories.driver import informed
from clickmill.job import Job, Run
from clickmill.report.comparison import differences, leaderboard
from clickmill.schema import EVERYTHING
from clickmill.scoring import Contender, Outside
from clickmill.tables import Tables


def compare(path: str, *, name: str | None, models: tuple[str, ...]) -> Job:
    """The comparison as a job. name: of the outside system; models: names of ours, all judged ones unless given.

    To be executed as a dry run, so that it leaves no row in `runs`.
    """
    called = name or Path(path).name.partition(".")[0]
    return Job("compare", partial(_main, path=path, name=called, models=models), works_on="window")


def _main(run: Run, *, path: str, name: str, models: tuple[str, ...]) -> None:
    train, _, test = run.stretches()
    ours = _ours(run.tables, run.ds, models)
    _refuse_taken(name, ours)
    judged = traffic(run.tables, run.cfg, test)
    told = beside(judged, predictions(run.spark, path), path)
    if told.elsewhere:
        run.say(f"{path}: {told.elsewhere:,} rows of event_ids that test time, {test}, does not have: left out")
    with informed(run.tables, run.cfg, ours, test) as known:
        own = entries(run.tables, run.ds, known, test) if known else ()
        found = (Entry(Outside.called(name), Calibrator(), "none"), *own)
        plan = plan_of(run.tables, run.cfg, judged, found, train=train, test=test)
        with scored(told.traffic, plan) as parcels:
            judgement = judge(parcels, plan, judged, test, min_clicks=run.cfg.judge.min_clicks)
    run.count(rows_in=judgement.rows, other_day=told.elsewhere)
    run.result |= {"predictions": path, "traffic": judged.name, **_result(judgement, name)}
    if not run.progress.quiet:
        title = f"{run.cfg.dataset.name} · {run.ds} · test time, {judgement.rows:,} rows"
        Console().print(leaderboard(run.result["models"], title))
        plain = Console(soft_wrap=True, highlight=False, markup=False)
        for line in differences(run.result["models"], run.result["differences"]):
            plain.print(line)


def _ours(tables: Tables, ds: date, names: tuple[str, ...]) -> tuple[Contender, ...]:
    """The models by these names, or all that were judged on `ds`, and the champion. None in a new warehouse."""
    if not names and not tables.exists("models"):
        return ()
    if not names and tables.exists("metrics"):
        cut = {"slice": [EVERYTHING], "metric": ["n"]}
        judged = {row["model_id"] for row in tables.rows("metrics", days=[ds], where=cut)}
        rows = tables.rows("models", days=[ds], columns=("model_id", "name"))
        names = tuple(sorted(row["name"] for row in rows if row["model_id"] in judged))
    return contenders(tables, ds, names)


def _refuse_taken(name: str, ours: tuple[Contender, ...]) -> None:
    taken = [called for one in ours for called in (one.name, one.model_id)]
    if name in taken:
        raise UsageError(f"--name {name}: one of our models is called so; give the outside system another name")


def _result(found: Judgement, name: str) -> dict[str, Any]:
    """All models by NE, and the NE of the outside one less that of each other, overall and by slice."""
    models = [one.for_json() for one in found.models]
    values = {one["model_id"]: one["metrics"]["ne"]["value"] for one in models}
    models.sort(key=lambda one: (values[one["model_id"]] is None, values[one["model_id"]]))
    paired = [row for row in found.comparisons if row["model_id"] == name and row["metric"] == "ne"]
    return {"models": models, "differences": [{"verdict": None, "q_value": None, **row} for row in paired]}
