"""features → encodings: how often each value was seen and clicked, by day or hour, at full traffic."""

from clickmill.encode.driver import count_values
from clickmill.job import Job, Run


def main(run: Run) -> None:
    rows_in = run.tables.read("features", days=run.days).count()
    written = run.tables.write("encodings", count_values(run.tables, run.cfg, run.days), replace={"ds": run.days})
    run.count(rows_in=rows_in, rows_out=written.rows)


JOB = Job(
    "encode",
    main,
    works_on="days",
    reads="features",
    writes="encodings",
    config=("dataset.slots", "dataset.crosses", "encodings"),
)

if __name__ == "__main__":
    JOB.run()
