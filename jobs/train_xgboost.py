"""sample, features, encodings → models: trains the gradient-boosted trees asked for, each on a barrier stage."""

from clickmill.job import Job, Run
from clickmill.train.xgboost.driver import train
from clickmill.train.xgboost.say import warn_of, words
from clickmill.training import train_all


def main(run: Run) -> None:
    train_all(run, "xgboost", train, words=words, warn_of=warn_of)


JOB = Job("train_xgboost", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
