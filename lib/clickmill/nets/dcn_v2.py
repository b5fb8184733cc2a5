"""Cross layers: products of features, by a matrix a layer. Wang et al., DCN V2, WWW 2021."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clickmill.nets.deep import Deep, linear


class Crosses(nn.Module):
    """x ← x₀ ⊙ (W x + b) + x, so many times; W = U V where a rank is given and that makes it smaller.

    (b, width) in and out.
    """

    def __init__(self, width: int, layers: int, rank: int | None, generator: torch.Generator | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            linear(width, width, generator)
            if rank is None or 2 * rank >= width
            else nn.Sequential(linear(width, rank, generator, bias=False), linear(rank, width, generator))
            for _ in range(layers)
        )

    def forward(self, first: Tensor) -> Tensor:
        x = first
        for layer in self.layers:
            x = torch.addcmul(x, first, layer(x).to(x.dtype))
        return x


class DcnV2(nn.Module):
    """Cross layers beside hidden ones: (b, width) → (b, width + last hidden layer)."""

    def __init__(self, crosses: Crosses, deep: Deep, width: int) -> None:
        super().__init__()
        self.crosses, self.deep = crosses, deep
        self.width = width + deep.width if deep.layers else width

    def forward(self, x: Tensor) -> Tensor:
        crossed = self.crosses(x)
        return torch.cat([crossed, self.deep(x).to(crossed.dtype)], dim=1) if self.deep.layers else crossed
