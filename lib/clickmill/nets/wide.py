"""The wide part: a weight for each hashed value and cross. Cheng et al., Wide & Deep Learning, DLRS 2016."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from clickmill.nets import kernels
from clickmill.nets.embedding import index_type, large
from clickmill.nets.hands import Hands
from clickmill.nets.layout import Layout


class Wide(nn.Module):
    """Σ over columns of the weight at the hash's lowest bits; all weights begin at 0."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._places, self._mask = layout.wide_places, (1 << layout.wide_bits) - 1
        self._numpy = np.array(self._places, np.int64)
        self.register_buffer("weight", large(1 << layout.wide_bits))

    def forward(self, whole: Tensor, hands: Hands) -> tuple[Tensor, Tensor]:
        """(b,) margins, and (m, b) where the weights were read, of `whole` (b, i) int32."""
        weight = self.get_buffer("weight")
        if whole.device.type != "cpu":
            index = whole[:, list(self._places)].T.to(torch.int64) & self._mask
            return weight[index].sum(dim=0), index
        index = torch.empty((len(self._places), len(whole)), dtype=index_type(len(weight)))
        out = torch.empty(len(whole))
        arrays = (whole.numpy(), self._numpy, self._mask, weight.numpy(), index.numpy(), out.numpy())
        hands(kernels.add_up, [(*arrays, *ends) for ends in hands.ranges(len(whole))])
        return out, index
