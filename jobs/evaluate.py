"""features of test time → predictions, metrics, reliability: the judge.

For every model of the day by --models, and for the champion.
"""

from clickmill import tracking
from clickmill.champion import contenders
from clickmill.evaluate.driver import entries, judge, plan_of, store
from clickmill.evaluate.passes import scored, traffic
from clickmill.histories.driver import informed
from clickmill.job import Job, Run
from clickmill.registry import write_cards


def main(run: Run) -> None:
    stretches = run.stretches()
    models = contenders(run.tables, run.ds, run.models)
    judged = traffic(run.tables, run.cfg, stretches.test)
    with informed(run.tables, run.cfg, models, stretches.test) as known:
        found = entries(run.tables, run.ds, known, stretches.test)
        plan = plan_of(run.tables, run.cfg, judged, found, train=stretches.train, test=stretches.test)
        with scored(judged, plan) as parcels:
            judgement = judge(parcels, plan, judged, stretches.test, min_clicks=run.cfg.judge.min_clicks)
            written = store(run.tables, run.cfg, run.ds, parcels, judgement)
    run.count(rows_in=judgement.rows, rows_out=written["predictions"].rows)
    if not (run.dry_run or run.is_reproduction):
        ids = [one.entry.contender.model_id for one in judgement.models]
        write_cards(run.tables, ids, min_clicks=run.cfg.judge.min_clicks)
    run.result |= {"models": [one.for_json() for one in judgement.models], "decision": None, "report": None}
    tracking.judged(run)


JOB = Job("evaluate", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
