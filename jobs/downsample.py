"""features → sample: every click, and a keyed share of the non-clicks."""

from clickmill.job import Job, Run
from clickmill.sample.driver import downsample
from clickmill.tables import Partitions


def main(run: Run) -> None:
    features = run.tables.scan("features", days=run.days)
    sampling = run.cfg.sampling
    replace: Partitions = {"ds": run.days, "sample_id": sampling.sample_id}
    written = run.tables.write("sample", downsample(features, sampling), replace=replace)
    run.count(rows_in=run.tables.read("features", days=run.days).count(), rows_out=written.rows)


JOB = Job(
    "downsample",
    main,
    works_on="days",
    reads="features",
    writes="sample",
    config=("sampling.keep_rate", "sampling.seed"),
)

if __name__ == "__main__":
    JOB.run()
