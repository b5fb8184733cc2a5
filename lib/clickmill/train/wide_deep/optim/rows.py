"""Adagrad and Adam of a table's rows: one sum of squares for a row, which is touched only when a batch uses it.

A row's square is the mean of its gradient's squares, mean_d g_d²; all of its numbers have one step size (row-wise
Adagrad; Mudigere et al., ISCA 2022). Adam's means decay by a step whenever their row is used, and are corrected by
the number of all steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clickmill.nets.embedding import large
from clickmill.nets.hands import Hands
from clickmill.train.wide_deep import kernels
from clickmill.train.wide_deep.optim.dense import ADAM_TINY, DECAYS, TINY


class RowAdagrad:
    """h_r += mean_d g², row −= rate · g / (√h_r + ε)."""

    def __init__(self, table: Tensor, hands: Hands) -> None:
        self._table, self._hands = table, hands
        self._squares = large(len(table)).to(table.device)

    def apply(self, rows: Tensor, gradient: Tensor, *, scale: float, rate: float) -> None:
        """rows: (k,) int64, none twice; gradient: (k, d), to be multiplied by `scale`."""
        if self._table.device.type == "cpu":
            arrays = (self._table.numpy(), self._squares.numpy(), rows.numpy(), gradient.numpy())
            numbers = tuple(map(np.float32, (scale, rate, TINY)))
            self._hands(kernels.adagrad, [(*arrays, *numbers, *ends) for ends in self._hands.ranges(len(rows))])
            return
        gradient = gradient * scale
        squares = self._squares[rows] + gradient.square().mean(dim=1)
        self._squares[rows] = squares
        self._table[rows] -= rate / (squares.sqrt() + TINY)[:, None] * gradient

    def state(self) -> dict[str, Tensor]:
        return {"squares": self._squares}


class RowAdam:
    """m ← β₁m + (1 − β₁)g, v_r ← β₂v_r + (1 − β₂)·mean_d g², row −= rate · m̂ / (√v̂_r + ε)."""

    def __init__(self, table: Tensor, hands: Hands) -> None:
        self._table, self._hands = table, hands
        self._mean = large(*table.shape).to(table.device)
        self._squares = large(len(table)).to(table.device)
        self._steps = torch.zeros(1, dtype=torch.int64)

    def apply(self, rows: Tensor, gradient: Tensor, *, scale: float, rate: float) -> None:
        """rows: (k,) int64, none twice; gradient: (k, d), to be multiplied by `scale`."""
        self._steps += 1
        left = tuple(1 - decay ** int(self._steps) for decay in DECAYS)
        if self._table.device.type == "cpu":
            state = (self._table.numpy(), self._mean.numpy(), self._squares.numpy())
            decays = tuple(map(np.float32, (*DECAYS, *left)))
            numbers = (np.float32(scale), np.float32(rate), decays, np.float32(ADAM_TINY))
            arrays = (*state, rows.numpy(), gradient.numpy(), *numbers)
            self._hands(kernels.adam, [(*arrays, *ends) for ends in self._hands.ranges(len(rows))])
            return
        gradient = gradient * scale
        mean = self._mean[rows].lerp_(gradient, 1 - DECAYS[0])
        squares = self._squares[rows].lerp_(gradient.square().mean(dim=1), 1 - DECAYS[1])
        self._mean[rows], self._squares[rows] = mean, squares
        self._table[rows] -= rate / left[0] / ((squares / left[1]).sqrt() + ADAM_TINY)[:, None] * mean

    def state(self) -> dict[str, Tensor]:
        return {"mean": self._mean, "squares": self._squares, "steps": self._steps}
