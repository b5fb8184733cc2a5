"""sample, features, encodings → models: trains trees, and a logistic regression on their leaves, as one model."""

from clickmill.job import Job, Run
from clickmill.train.trees_logreg.driver import train
from clickmill.train.trees_logreg.say import warn_of, words
from clickmill.training import train_all


def main(run: Run) -> None:
    train_all(run, "trees_logreg", train, words=words, warn_of=warn_of)


JOB = Job("train_trees_logreg", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
