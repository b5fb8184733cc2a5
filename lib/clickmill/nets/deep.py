"""Hidden layers."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Draws(threading.local):
    """Where a thread's draws come from: torch's own unless set."""

    generator: torch.Generator | None = None


class Rectifier(nn.Module):
    """ReLU, in place; then dropout: while training a number is 0 with this probability, else divided by what is
    left of 1. (One module, so that layers are numbered alike with dropout and without it.)"""

    def __init__(self, share: float, draws: Draws) -> None:
        super().__init__()
        self._share, self._draws = share, draws

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu_()
        if not self.training or not self._share:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self._share, generator=self._draws.generator)
        return x * kept / (1 - self._share)


class Deep(nn.Module):
    """(b, width) → (b, last hidden layer): linear, layer norm if asked for, ReLU, dropout; again."""

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        layer_norm: bool = False,
        generator: torch.Generator | None = None,
        draws: Draws | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.width = width
        for out in hidden:
            layers.append(linear(self.width, out, generator))
            layers += [nn.LayerNorm(out)] if layer_norm else []
            layers.append(Rectifier(dropout, draws or Draws()))
            self.width = out
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


def linear(inputs: int, outputs: int, generator: torch.Generator | None, *, bias: bool = True) -> nn.Linear:
    """A layer whose weights are drawn (Glorot and Bengio 2010) and whose bias is 0."""
    # (drawn twice: skip_init would import all of sympy, a second or more in every process)
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
