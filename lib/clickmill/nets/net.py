"""A network of any architecture: what it is made of, what it says of rows, its tensors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clickmill.errors import ArtifactError
from clickmill.nets.dcn_v2 import Crosses, DcnV2
from clickmill.nets.deep import Deep, Draws, linear
from clickmill.nets.embedding import Embeddings
from clickmill.nets.hands import Hands
from clickmill.nets.layout import ALIGNED, PIECE, Layout
from clickmill.nets.numbers import Numbers
from clickmill.nets.standard import Standard
from clickmill.nets.wide import Wide
from clickmill.specs import WideDeepSpec


class Inputs(NamedTuple):
    """What the deep part eats of b rows, and where it was read."""

    x: Tensor
    """(b, width)."""
    found: list[Tensor]
    """For each table its rows' numbers, (slots, b) or (2·slots, b)."""


class Net(nn.Module):
    """margin = intercept + head(body(embeddings, numbers)) [+ wide]: the logit of p_sampled.

    The head begins at 0, the wide part too, and so every margin at the intercept.
    """

    def __init__(self, spec: WideDeepSpec, layout: Layout, standard: Standard, intercept: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(spec.seed)
        self.layout, self._bf16 = layout, spec.precision == "bf16"
        self.hands = Hands()
        """That do the loops over rows on a CPU, and each its rows' layers: torch is to have one thread there."""
        self.draws = Draws()
        """Of dropout."""
        self.embeddings = Embeddings(layout, generator)
        self.numbers = Numbers(standard)
        self.body, width = _body(spec, layout.width, generator, self.draws)
        self.head = linear(width, 1, generator, bias=False)
        nn.init.zeros_(self.head.weight)
        self.intercept = nn.Parameter(torch.tensor([intercept]))
        self.wide = Wide(layout) if layout.wide else None

    def forward(self, whole: Tensor, real: Tensor) -> Tensor:
        """(b,) float32 margins of `whole` (b, i) int32 and `real` (b, f) float32, NaN where missing.

        Without gradients; see `inputs` and `margins`.
        """
        x = self.inputs(whole, real).x
        out = torch.empty(len(x), device=x.device)
        self.hands(self._put_margins, [(x, pieces, out) for pieces in self.pieces(x)])
        return out if self.wide is None else out.add_(self.wide(whole, self.hands)[0])

    def inputs(self, whole: Tensor, real: Tensor, out: Tensor | None = None) -> Inputs:
        """The deep part's input, into memory that may be used again: `out` (≥ b, ≥ width)."""
        width = self.layout.width
        if out is None:
            out = torch.empty((len(whole), -(-width // ALIGNED) * ALIGNED), device=whole.device)
        index = self.embeddings.put(whole, out, self.hands)
        self.numbers.put(real, out, width - 2 * real.shape[1], self.hands)
        return Inputs(out[: len(whole), :width], index)

    def margins(self, x: Tensor) -> Tensor:
        """(b,) of the deep part and the intercept; of a piece of rows, best."""
        with torch.autocast(
            x.device.type, torch.bfloat16, enabled=self._bf16 and self.training, cache_enabled=False
        ):
            made = self.body(x)
        out: Tensor = self.head(made.float())[:, 0] + self.intercept
        return out

    def pieces(self, x: Tensor) -> list[list[slice]]:
        """For each hand the rows of `x` (b, …) that go through the layers together; elsewhere all at once."""
        if x.device.type != "cpu":
            return [[slice(0, len(x))]]
        least, most = PIECE
        return self.hands.slices(len(x), min(most, max(least, -(-len(x) // 4))))

    def _put_margins(self, x: Tensor, pieces: Sequence[slice], out: Tensor) -> None:
        with torch.no_grad():
            for rows in pieces:
                out[rows] = self.margins(x[rows])

    def tensors(self) -> dict[str, Tensor]:
        """All that it has learned and what its numbers are standardised by, by name; not copies."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the values of such tensors. Raises ArtifactError where names, shapes or types are others."""
        own = self.tensors()
        wanted, found = ({name: _form(one) for name, one in some.items()} for some in (own, tensors))
        if wanted != found:
            differ = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
            raise ArtifactError(
                f"network: the tensors {differ} do not fit: of {[found.get(name) for name in differ]} "
                f"where {[wanted.get(name) for name in differ]} belong"
            )
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def net_of(spec: WideDeepSpec, layout: Layout, standard: Standard, intercept: float, *, threads: int = 1) -> Net:
    """A network at its beginning, on the CPU; `.to(device)` moves it.

    standard: of the layout's numbers (`standard.standard_of`). intercept: the log-odds of the sample, weighted as
    it is trained on. threads: of loops over rows.
    """
    net = Net(spec, layout, standard, intercept)
    net.hands = Hands(threads)
    return net


def _body(spec: WideDeepSpec, width: int, generator: torch.Generator, draws: Draws) -> tuple[nn.Module, int]:
    """What lies between input and head, and how wide it ends."""
    own = {"generator": generator, "draws": draws}
    deep = Deep(width, spec.hidden, dropout=spec.dropout, layer_norm=spec.layer_norm, **own)
    if spec.arch != "dcn_v2":
        return deep, deep.width
    crossed = DcnV2(Crosses(width, spec.cross_layers, spec.cross_rank, generator), deep, width)
    return crossed, crossed.width


def _form(tensor: Tensor) -> tuple[tuple[int, ...], str]:
    return tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
