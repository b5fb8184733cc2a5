"""raw log → click_log: the days asked for, typed and timed; what does not fit goes to rejects."""

from clickmill.ingest.driver import open_log
from clickmill.job import Job, Run


def main(run: Run) -> None:
    log = open_log(run.tables, run.cfg, days=run.days, ds=run.ds)
    run.count(rows_in=log.counts.rows_in, rejected=log.counts.rejected, other_day=log.counts.other_day)
    run.tables.write("rejects", log.rejects(run.run_id), replace={"ds": run.days})
    log.check(run.cfg.ingest.max_reject_share)
    written = run.tables.write("click_log", log.rows(), replace={"ds": run.days})
    run.count(rows_out=written.rows)
    log.check_written(written.rows)


JOB = Job(
    "ingest",
    main,
    works_on="days",
    reads="raw_log",
    writes="click_log",
    config=tuple(
        f"dataset.{part}"
        for part in ("source", "label", "labels", "event_time", "event_id", "p_true", "slots", "numbers", "carry")
    ),
)

if __name__ == "__main__":
    JOB.run()
