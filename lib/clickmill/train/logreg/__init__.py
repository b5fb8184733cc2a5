"""Distributed logistic regression: see `solver` for the objective, `worker` for a rank, `driver` for Spark."""
