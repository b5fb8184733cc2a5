"""sample → models: trains the logistic regressions asked for, each on the ranks of one barrier stage."""

from clickmill.job import Job, Run
from clickmill.train.logreg.driver import lacking, train
from clickmill.train.logreg.say import warn_of, words


def main(run: Run) -> None:
    stretches = run.stretches()
    for text in lacking(run.tables, stretches.train):
        run.say(text)
    trained = []
    for name in run.models:
        if run.cfg.models[name].kind != "logreg":
            continue
        run.say(f"{name}: training on {stretches.train}")
        row = train(
            run.tables, run.cfg, name=name, ds=run.ds, stretches=stretches, dry_run=run.dry_run, say=run.say
        )
        for text in (words(row), *warn_of(row)):
            run.say(text)
        run.tables.write("models", [row], replace={"ds": run.ds, "name": name})
        run.count(rows_in=row["rows"], rows_out=1)
        trained.append(row)
    run.result["models"] = [{key: row[key] for key in ("model_id", "name", "kind", "seconds")} for row in trained]


JOB = Job("train_logreg", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
