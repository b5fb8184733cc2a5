"""Networks trained by as many processes as asked for: joint wide & deep, DCN-V2, deep.

A process is a rank of a `team`. It takes its share of each epoch's rows (`clickmill.loader`), sums gradients with
the others after each batch, and so holds the same weights as they do. The objective of a step is the weighted
log-loss of the batches of all ranks together, Σ w·loss / Σ w: gradients are sums over rows, summed over ranks, and
only then divided by the sum of weights over ranks. FTRL is handed the sum itself.
"""
