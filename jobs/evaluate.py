"""features of test time → predictions, metrics, reliability: the judge.

For every model of the day by --models, and for the champion.
"""

from clickmill.champion import contenders
from clickmill.evaluate.driver import entries, judge, scored, store, traffic
from clickmill.job import Job, Run


def main(run: Run) -> None:
    stretch = run.stretches().test
    found = entries(run.tables, run.ds, contenders(run.tables, run.ds, run.models), stretch)
    judged = traffic(run.tables, run.cfg, stretch)
    with scored(judged, found, run.cfg) as frame:
        judgements = judge(frame, found, judged, stretch)
        written = store(run.tables, run.ds, frame, judgements, run_id=run.run_id)
    run.count(rows_in=judgements[0].rows, rows_out=written["predictions"].rows)
    run.result |= {"models": [one.for_json() for one in judgements], "decision": None, "report": None}


JOB = Job("evaluate", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
