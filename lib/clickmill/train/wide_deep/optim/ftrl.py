"""FTRL-proximal: a learning rate for each weight, and weights that L1 keeps at exactly 0.

McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013, algorithm 1. With g the gradient of Σ loss
    σ = (√(n + g²) − √n) / α,  z += g − σw,  n += g²,
    w = 0 if |z| ≤ λ₁, else −(z − sign(z)·λ₁) / ((β + √n)/α + λ₂).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clickmill.nets.embedding import large
from clickmill.nets.hands import Hands
from clickmill.specs import Ftrl as FtrlSpec
from clickmill.train.wide_deep import kernels


class Ftrl:
    """Of the wide part's weights, which are changed only where a batch uses them."""

    def __init__(self, weight: Tensor, spec: FtrlSpec, hands: Hands) -> None:
        self._weight, self._spec, self._hands = weight, spec, hands
        self._z, self._squares = (large(len(weight)).to(weight.device) for _ in range(2))
        self.start()

    def start(self) -> None:
        """Forgets all it has seen, and goes on from the weights as they are: z such that they follow from it."""
        self._squares.zero_()
        stiffness = self._spec.beta / self._spec.alpha + self._spec.l2
        torch.sign(self._weight, out=self._z).mul_(-self._spec.l1)  # (in place: it may be as large as all else)
        self._z.sub_(self._weight, alpha=stiffness)

    def apply(self, rows: Tensor, gradient: Tensor) -> None:
        """rows: (k,) int64, none twice; gradient: (k, 1), the sum of the batch's."""
        spec, gradient = self._spec, gradient[:, 0]
        if self._weight.device.type == "cpu":
            arrays = (self._weight.numpy(), self._z.numpy(), self._squares.numpy(), rows.numpy(), gradient.numpy())
            numbers = tuple(map(np.float32, (spec.alpha, spec.beta, spec.l1, spec.l2)))
            self._hands(kernels.ftrl, [(*arrays, *numbers, *ends) for ends in self._hands.ranges(len(rows))])
            return
        before = self._squares[rows]
        after = before + gradient.square()
        z = self._z[rows] + gradient - (after.sqrt() - before.sqrt()) / spec.alpha * self._weight[rows]
        shrunk = -(z - z.sign() * spec.l1) / ((spec.beta + after.sqrt()) / spec.alpha + spec.l2)
        self._z[rows], self._squares[rows] = z, after
        self._weight[rows] = torch.where(z.abs() <= spec.l1, 0.0, shrunk)

    def state(self) -> dict[str, Tensor]:
        return {"z": self._z, "squares": self._squares}
