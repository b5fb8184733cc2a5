"""The whole chain for one day in one Spark session: stale and missing days first, then the window's models.

Makes every missing or stale day of the window, trains, calibrates and judges --models, lets the best of them
challenge the champion, and ends with the leaderboard, the gate's verdict and the report. A refusal is an
ordinary day's outcome: exit 0, where `promote` alone ends with 4.
"""

from contextlib import suppress

from clickmill.errors import GateRefusedError
from clickmill.job import Job, Run, perform_within
from clickmill.jobs import build_features, calibrate, downsample, evaluate, ingest, promote, simulate, train_logreg
from clickmill.publish import publish
from clickmill.staleness import stale_days

DAY_JOBS = (simulate.JOB, ingest.JOB, build_features.JOB, downsample.JOB)
WINDOW_JOBS = (train_logreg.JOB, calibrate.JOB, evaluate.JOB)


def main(run: Run) -> None:
    for job in DAY_JOBS if run.cfg.simulated else DAY_JOBS[1:]:
        days = stale_days(run.tables, job, DAY_JOBS, run.cfg, run.days)
        if days:
            with run.progress.step(f"{job.name}, {len(days)} days"):
                perform_within(run, run.sibling(job, days))
            if run.dry_run:
                run.say("the dry run ends here: what follows needs the rows that this would write")
                return
        else:
            run.say(f"{job.name}: all {len(run.days)} days are fresh")
    for job in WINDOW_JOBS:
        with run.progress.step(f"{job.name} of {', '.join(run.models)}"):
            perform_within(run, run.sibling(job))
        if run.dry_run:
            run.say("the dry run ends here: what follows needs the models that this would write")
            return
    with suppress(GateRefusedError):
        perform_within(run, run.sibling(promote.JOB, quiet=True))  # publish tells it
    publish(run, tuple(model["model_id"] for model in run.result["models"]))


JOB = Job("pipeline", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
