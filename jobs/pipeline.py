"""The whole chain for one day in one Spark session: missing and stale days, then models, judge, gate and report.

A refusal by the gate is an ordinary day's outcome: exit 0, where `promote` alone ends with 4.
"""

from contextlib import suppress
from itertools import chain

from clickmill.errors import GateRefusedError
from clickmill.job import Job, Run, perform_within
from clickmill.jobs import build_features, calibrate, downsample, evaluate, ingest, promote, simulate, train_logreg
from clickmill.publish import publish
from clickmill.staleness import stale_runs

DAY_JOBS = (simulate.JOB, ingest.JOB, build_features.JOB, downsample.JOB)
WINDOW_JOBS = (train_logreg.JOB, calibrate.JOB, evaluate.JOB)


def main(run: Run) -> None:
    days = stale_runs(run, DAY_JOBS if run.cfg.simulated else DAY_JOBS[1:], producers=DAY_JOBS)
    window = ((run.sibling(job), f"{job.name} of {', '.join(run.models)}") for job in WINDOW_JOBS)
    for part, title in chain(days, window):
        with run.progress.step(title):
            perform_within(run, part)
        if run.dry_run:
            run.say("the dry run ends here: what follows needs what this would write")
            return
    with suppress(GateRefusedError):
        perform_within(run, run.sibling(promote.JOB, quiet=True))  # publish tells it
    publish(run, tuple(model["model_id"] for model in run.result["models"]))


JOB = Job("pipeline", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
