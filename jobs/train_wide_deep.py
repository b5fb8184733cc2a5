"""sample, features → models: trains the networks asked for, each by as many processes as its config says.

With --overfit-check each learns a few rows by heart, to see that all of it learns, and nothing is kept.
"""

from clickmill.job import Job, Run
from clickmill.train.wide_deep.driver import check, train
from clickmill.train.wide_deep.say import learned, warn_of, words
from clickmill.training import train_all

KIND = "wide_deep"


def main(run: Run) -> None:
    if not run.overfit_check:
        train_all(run, KIND, train, words=words, warn_of=warn_of)
        return
    names, stretches = [name for name in run.models if run.cfg.models[name].kind == KIND], run.stretches()
    found = {name: check(run.tables, run.cfg, name=name, ds=run.ds, stretches=stretches) for name in names}
    for name, figures in found.items():
        run.say(f"{name}: {learned(figures)}")
    run.result["overfit"] = found


JOB = Job("train_wide_deep", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
