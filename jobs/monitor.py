"""features, metrics → drift: the day against train time and the day before: none, watch or retrain, and why."""

from clickmill.job import Job, Run
from clickmill.monitor.driver import monitor, rows_of
from clickmill.tables import Partitions


def main(run: Run) -> None:
    found = monitor(run.tables, run.cfg, run.ds, run.stretches())
    replace: Partitions = {"ds": run.ds}
    written = run.tables.write("drift", rows_of(found, run.ds, run.tables.run_id), replace=replace)
    run.count(rows_out=written.rows)
    for sentence in found.sentences:
        run.say(sentence)
    run.say(f"drift on {run.ds}: {found.level}")
    run.result |= {"drift": {"verdict": found.level, "sentences": list(found.sentences)}}


JOB = Job("monitor", main, works_on="window", choices=())

if __name__ == "__main__":
    JOB.run()
