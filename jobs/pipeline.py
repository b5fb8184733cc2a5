"""The whole chain for one day in one Spark session: missing and stale days, then models, judge, gate and report.

A refusal by the gate is an ordinary day's outcome: exit 0, where `promote` alone ends with 4.
"""

from contextlib import suppress

from clickmill import tracking
from clickmill.chain import perform_chain
from clickmill.errors import GateRefusedError
from clickmill.job import Job, Run, perform_within
from clickmill.jobs import promote
from clickmill.publish import publish


def main(run: Run) -> None:
    if not perform_chain(run):
        return
    if run.cfg.judge.replicates:
        with suppress(GateRefusedError):
            perform_within(run, run.sibling(promote.JOB, quiet=True))  # publish tells it
    else:
        run.say("judge.replicates is 0: without intervals the gate has nothing to decide by")
    publish(run, tuple(model["model_id"] for model in run.result["models"]))
    tracking.reported(run)


JOB = Job("pipeline", main, works_on="window", choices=("--days", "--models"))

if __name__ == "__main__":
    JOB.run()
