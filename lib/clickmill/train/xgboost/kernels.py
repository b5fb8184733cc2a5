"""The loss of margins, compiled."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def log_loss(margins, shift, label, weight):  # type: ignore[no-untyped-def]
    """Σ v · log-loss of expit(margin + shift) over n rows. margins: (n,) float32; label, weight: (n,)."""
    total = 0.0
    for i in range(len(margins)):
        m = margins[i] + shift
        total += weight[i] * (max(m, 0.0) + math.log1p(math.exp(-abs(m))) - label[i] * m)
    return total
