"""Trees, and a logistic regression on their leaves beside the hashed values (He et al. 2014).

The trees are trained on the first part of train time and the linear part on `linear_share` of it, its end: leaves
that were grown on the same labels would look surer than they are.
"""
