"""Numbers of a row: squeezed, standardised, and whether they are missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clickmill.nets import kernels
from clickmill.nets.hands import Hands
from clickmill.nets.standard import Standard


class Numbers(nn.Module):
    """(b, f) → (b, 2f): (sign(x)·ln(1 + |x|) − mean) · scale, 0 where x is missing; and a 1 where it is."""

    def __init__(self, standard: Standard) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(standard.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(standard.scale.copy()))

    def put(self, real: Tensor, out: Tensor, at: int, hands: Hands) -> None:
        """Into the columns of `out` (≥ b, …) from `at` on."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        if real.device.type == "cpu":
            arrays = (real.numpy(), mean.numpy(), scale.numpy(), out.numpy(), at)
            hands(kernels.squeeze, [(*arrays, *ends) for ends in hands.ranges(len(real))])
            return
        missing, numbers, out = real.isnan(), real.shape[1], out[: len(real)]
        squeezed = real.sign() * real.abs().log1p()
        out[:, at : at + numbers] = torch.where(missing, 0.0, (squeezed - mean) * scale)
        out[:, at + numbers : at + 2 * numbers] = missing
