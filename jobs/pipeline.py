"""The whole chain for one day in one Spark session: missing and stale days, then models, judge, gate and report.

A refusal by the gate is an ordinary day's outcome: exit 0, where `promote` alone ends with 4.
"""

from contextlib import suppress
from itertools import chain

from clickmill.errors import GateRefusedError
from clickmill.job import Job, Run, perform_within
from clickmill.jobs import (
    build_features,
    calibrate,
    downsample,
    encode,
    evaluate,
    ingest,
    promote,
    simulate,
    train_logreg,
    train_trees_logreg,
    train_xgboost,
)
from clickmill.publish import publish
from clickmill.staleness import stale_runs

DAY_JOBS = (simulate.JOB, ingest.JOB, build_features.JOB, downsample.JOB)
TRAINING = {"logreg": train_logreg.JOB, "xgboost": train_xgboost.JOB, "trees_logreg": train_trees_logreg.JOB}


def main(run: Run) -> None:
    days = stale_runs(run, day_jobs(run), producers=DAY_JOBS)
    window = ((run.sibling(job), f"{job.name} of {', '.join(names)}") for job, names in window_jobs(run))
    for part, title in chain(days, window):
        with run.progress.step(title):
            perform_within(run, part)
        if run.dry_run:
            run.say("the dry run ends here: what follows needs what this would write")
            return
    with suppress(GateRefusedError):
        perform_within(run, run.sibling(promote.JOB, quiet=True))  # publish tells it
    publish(run, tuple(model["model_id"] for model in run.result["models"]))


def day_jobs(run: Run) -> tuple[Job, ...]:
    """Those that this run needs: values are counted where a model looks back to them."""
    made = DAY_JOBS if run.cfg.simulated else DAY_JOBS[1:]
    return (*made, encode.JOB) if any(run.cfg.reach(name) for name in run.models) else made


def window_jobs(run: Run) -> list[tuple[Job, list[str]]]:
    """The training of each kind of model there is, then calibration and the judge; with the models' names."""
    specs = run.cfg.models
    kinds = {kind: [name for name in run.models if specs[name].kind == kind] for kind in TRAINING}
    trained = [(TRAINING[kind], names) for kind, names in kinds.items() if names]
    return [*trained, *((job, list(run.models)) for job in (calibrate.JOB, evaluate.JOB))]


JOB = Job("pipeline", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
