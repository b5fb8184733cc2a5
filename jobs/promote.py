"""metrics, replicates → decisions: whether the best of --models becomes the champion, and why.

Exit 4 where the gate refuses; the verdict is written either way. With --rollback previous, or --rollback
MODEL_ID, an earlier champion is put back instead.
"""

from clickmill import tracking
from clickmill.errors import GateRefusedError
from clickmill.job import Job, Run
from clickmill.promote.driver import challenge, record, rollback


def main(run: Run) -> None:
    if run.rollback:
        verdict = rollback(run.tables, run.ds, run.rollback)
    else:
        verdict = challenge(run.tables, run.cfg, run.ds, run.models, run.stretches().test)
    written = record(run.tables, verdict)
    for sentence in verdict.sentences:
        run.say(sentence)
    run.count(rows_in=1, rows_out=written.rows if written else 0)
    run.result["decision"] = verdict.for_json()
    tracking.decided(run)
    if verdict.failed:
        raise GateRefusedError("; ".join(rule.sentence for rule in verdict.failed))


JOB = Job("promote", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
