"""Adagrad and Adam of one flat tensor of weights."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-10
"""Adagrad's ε, as torch has it; Adam's is `ADAM_TINY`."""
ADAM_TINY = 1e-8
DECAYS = (0.9, 0.999)
"""Adam's β₁ and β₂."""


class Adagrad:
    """h += g², w −= rate · g / (√h + ε). Duchi et al., JMLR 2011."""

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights
        self._squares = torch.zeros_like(weights)

    def apply(self, gradient: Tensor, rate: float) -> None:
        """gradient: of the mean loss, like the weights."""
        self._squares.addcmul_(gradient, gradient)
        self._weights.addcdiv_(gradient, self._squares.sqrt().add_(TINY), value=-rate)

    def state(self) -> dict[str, Tensor]:
        return {"squares": self._squares}


class Adam:
    """m, v ← decayed means of g and g², w −= rate · m̂ / (√v̂ + ε). Kingma and Ba, ICLR 2015."""

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights
        self._mean, self._squares = torch.zeros_like(weights), torch.zeros_like(weights)
        self._steps = torch.zeros(1, dtype=torch.int64)

    def apply(self, gradient: Tensor, rate: float) -> None:
        """gradient: of the mean loss, like the weights."""
        self._steps += 1
        first, second = DECAYS
        left, squares_left = (1 - decay ** int(self._steps) for decay in DECAYS)
        self._mean.lerp_(gradient, 1 - first)
        self._squares.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        divisor = (self._squares / squares_left).sqrt_().add_(ADAM_TINY)
        self._weights.addcdiv_(self._mean, divisor, value=-rate / left)

    def state(self) -> dict[str, Tensor]:
        return {"mean": self._mean, "squares": self._squares, "steps": self._steps}
