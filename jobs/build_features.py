"""click_log → features: hashed slots, number buckets and crosses; and feature_audit, what the hashing costs."""

from clickmill.features.driver import audit_features, build_features, raw_columns
from clickmill.job import Job, Run


def main(run: Run) -> None:
    log = run.tables.scan("click_log", raw_columns(run.cfg), days=run.days)
    written = run.tables.write("features", build_features(log, run.cfg), replace={"ds": run.days})
    run.count(rows_in=written.rows, rows_out=written.rows)
    run.tables.write("feature_audit", audit_features(run.tables, run.days, run.cfg), replace={"ds": run.days})


JOB = Job(
    "build_features",
    main,
    works_on="days",
    reads="click_log",
    writes="features",
    config=(
        "dataset.slots",
        "dataset.numbers",
        "dataset.crosses",
        "dataset.carry",
        "dataset.labels",
        "dataset.p_true",
        "features",
    ),
)

if __name__ == "__main__":
    JOB.run()
