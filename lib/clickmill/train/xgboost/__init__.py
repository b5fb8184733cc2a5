"""Gradient-boosted trees on the ranks of one barrier stage.

Objective: the sum of log-losses of the sample's rows (weighted under `correction: weight`), with XGBoost's own
penalties. Trees come in chunks of `checkpoint_rounds`; each chunk has a seed of its own and starts from the trees
alone, so that a training that goes on from a checkpoint makes the same trees as one that was never stopped.
Shapes: n rows, f columns of `models.xgboost.Inputs`.
"""
