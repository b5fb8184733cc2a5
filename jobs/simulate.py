"""→ raw_log: a click log whose true click probability is known, for as many days as asked for."""

from clickmill.job import Job, Run
from clickmill.simulate.driver import simulate


def main(run: Run) -> None:
    log = simulate(run.spark, run.cfg.simulate, run.days)
    written = run.tables.write("raw_log", log, replace={"ds": run.days})
    run.count(rows_out=written.rows)


JOB = Job("simulate", main, works_on="days", writes="raw_log", config=("simulate",))

if __name__ == "__main__":
    JOB.run()
