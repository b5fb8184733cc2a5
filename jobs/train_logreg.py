"""sample → models: trains the logistic regressions asked for, each on the ranks of one barrier stage."""

from clickmill.job import Job, Run
from clickmill.train.logreg.driver import train
from clickmill.train.logreg.say import warn_of, words
from clickmill.training import train_all


def main(run: Run) -> None:
    train_all(run, "logreg", train, words=words, warn_of=warn_of)


JOB = Job("train_logreg", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
