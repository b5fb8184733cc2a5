"""What a step of training does: margins, gradients, their sums over ranks, and changed weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clickmill.errors import ArtifactError, NonFiniteLossError
from clickmill.nets.layout import ALIGNED
from clickmill.nets.net import Net
from clickmill.specs import WideDeepSpec
from clickmill.train.wide_deep import kernels
from clickmill.train.wide_deep.optim.dense import Adagrad, Adam
from clickmill.train.wide_deep.optim.ftrl import Ftrl
from clickmill.train.wide_deep.optim.rows import RowAdagrad, RowAdam
from clickmill.train.wide_deep.sparse import Summed, TableSums, WideSums
from clickmill.train.wide_deep.team import BrokenTeamError, Team

SUMS = 5
"""Figures that are summed along with the gradients: Σ w·loss, Σ w, Σ w·label, Σ v·loss of p, Σ v."""


class Rows(Protocol):
    """A batch, as the loader makes it; rows of weight 0 at its end count for nothing."""

    @property
    def whole(self) -> NDArray[np.int32]: ...
    @property
    def real(self) -> NDArray[np.float32]: ...
    @property
    def label(self) -> NDArray[np.float32]: ...
    @property
    def weight(self) -> NDArray[np.float32]: ...
    def sources(self, rows: NDArray[np.int64]) -> tuple[str, ...]: ...


class Stepped(NamedTuple):
    """What was seen of the batches of all ranks, before the step changed anything."""

    loss_sum: float
    """Σ w · log-loss of p_sampled."""
    weight_sum: float
    click_sum: float
    """Σ w · label, and Σ v · label."""
    full_loss_sum: float
    """Σ v · log-loss of p, where v is w, and of non-clicks w over the keep rate: rows as full traffic has them."""
    full_weight_sum: float
    """Σ v."""

    @property
    def loss(self) -> float:
        return self.loss_sum / self.weight_sum if self.weight_sum else 0.0


class _Deep(NamedTuple):
    """A rank's own gradients of Σ w·loss by its b rows."""

    x: Tensor
    """(b, width): of the deep part's input."""
    margins: Tensor
    """(b,): by the margins."""
    losses: Tensor
    """(b,): each row's."""
    figures: Tensor
    """(SUMS, b)."""

    @classmethod
    def empty(cls, x: Tensor) -> _Deep:
        b, device = len(x), x.device
        return cls(x, *(torch.empty(size, device=device) for size in ((b,), (b,), (SUMS, b))))


class Learner:
    """One rank's end of a training: the network, what the optimisers know, and a step that all ranks make alike.

    The gradient of Σ w·loss / Σ w over the batches of all ranks moves the deep part and the tables; FTRL is given
    that of Σ w·loss. `net` lies on the device that it is trained on, and must not be moved afterwards.
    keep_rate: by which p is corrected; 1 where rows weigh what they stand for.
    """

    def __init__(self, net: Net, spec: WideDeepSpec, team: Team, *, keep_rate: float = 1.0) -> None:
        self.net, self._spec, self._team, self._keep_rate = net, spec, team, keep_rate
        self._device = net.intercept.device
        self._names = [name for name, _ in net.named_parameters()]
        self._dense = [parameter for _, parameter in net.named_parameters()]
        self._weights = _flattened(self._dense)
        tables = [net.embeddings.table(part) for part in net.layout.tables]
        adam = spec.optimizer == "adam"
        self._optimizer: Adagrad | Adam = Adam(self._weights) if adam else Adagrad(self._weights)
        self._rows: list[RowAdagrad | RowAdam] = [(RowAdam if adam else RowAdagrad)(t, net.hands) for t in tables]
        self._sums = [TableSums(part, net.hands, self._device) for part in net.layout.tables]
        if net.wide is not None:
            weight = net.wide.get_buffer("weight")
            self._ftrl = Ftrl(weight, spec.ftrl, net.hands)
            self._wide_sums = WideSums(len(weight), net.hands, self._device)
        self._memory = [torch.empty((0, 0), device=self._device)] * 2
        self._last: tuple[Tensor, list[Summed], float] | None = None
        self.seconds = dict.fromkeys(("forward", "backward", "communicate", "optimise"), 0.0)
        """Of all steps so far. On a GPU what is queued is not waited for, and counts where it is."""

    def step(self, batch: Rows, *, step: int) -> Stepped:
        """One step of all ranks, `step` of the whole training. A rank without rows takes part.

        Raises NonFiniteLossError, and BrokenTeamError on the other ranks, before anything is changed.
        """
        rows = _rows_that_count(batch.weight)
        whole, real, label, weight = (
            self._moved(part[:rows]) for part in (batch.whole, batch.real, batch.label, batch.weight)
        )
        self.net.train()
        with self._timed("forward"):
            inputs = self.net.inputs(whole, real, self._kept(0, rows))
            wide = None if self.net.wide is None else self.net.wide(whole, self.net.hands)
        own = _Deep.empty(self._kept(1, rows)[:rows, : inputs.x.shape[1]])
        flat = self._gradients(inputs.x, None if wide is None else wide[0], label, weight, own, step)
        with self._timed("communicate"):
            self._team.sum(flat)
        seen = Stepped(*flat[-SUMS:].tolist())
        if not np.isfinite(seen.loss_sum):
            raise self._not_finite(inputs.x, wide, weight * own.losses, batch, step)
        found = [self._summed(sums(index, own.x)) for sums, index in zip(self._sums, inputs.found, strict=True)]
        found += [] if wide is None else [self._summed(self._wide_sums(wide[1], own.margins))]
        if seen.weight_sum:
            with self._timed("optimise"):
                self._apply(flat[:-SUMS], found, 1 / seen.weight_sum, step)
        return seen

    def margins(self, whole: NDArray[np.int32], real: NDArray[np.float32]) -> NDArray[np.float32]:
        """(b,) logits of p_sampled, dropout off."""
        self.net.eval()
        with torch.no_grad():
            out: NDArray[np.float32] = self.net(self._moved(whole), self._moved(real)).cpu().numpy()
        return out

    def overfit(self, batch: Rows, *, steps: int = 200) -> list[float]:
        """The loss of each of so many steps on the same rows: a network that learns ends near 0."""
        return [self.step(batch, step=step).loss for step in range(steps)]

    def gradient_norms(self) -> dict[str, float]:
        """Of the last step, by group: each dense weight by its name, each table, the wide part."""
        return {} if self._last is None else self._measured(*self._last)

    def state(self) -> dict[str, Tensor]:
        """Weights and what the optimisers know, by name; not copies. Enough to go on as if nothing had been."""
        own = {f"net.{name}": tensor for name, tensor in self.net.tensors().items()}
        return own | {f"{part}.{name}": t for part, one in self._parts() for name, t in one.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over the values of such a state. Raises ArtifactError where it is of another network."""
        own = self.state()
        wanted, found = ({name: (one.shape, one.dtype) for name, one in some.items()} for some in (own, state))
        if wanted != found:
            differ = sorted(name for name in {*own, *state} if wanted.get(name) != found.get(name))
            raise ArtifactError(f"a training's state does not fit the network: {differ} differ")
        for name, tensor in state.items():
            own[name].copy_(tensor)

    def start(self, tensors: Mapping[str, Tensor]) -> None:
        """Begins from a trained network's tensors (a warm start), the optimisers knowing nothing."""
        self.net.load(tensors)
        if self.net.wide is not None:
            self._ftrl.start()

    def rate(self, step: int) -> float:
        """The deep part's learning rate at a step of the whole training, the first being 0."""
        most = self._spec.learning_rate * (self._team.size if self._spec.scale_learning_rate else 1)
        return most * min(1.0, (step + 1) / self._spec.warmup_steps) if self._spec.warmup_steps else most

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield "dense", self._optimizer
        for part, rows in zip(self.net.layout.tables, self._rows, strict=True):
            yield f"table_{part.dim}", rows
        if self.net.wide is not None:
            yield "ftrl", self._ftrl

    def _gradients(
        self, x: Tensor, wide: Tensor | None, label: Tensor, weight: Tensor, out: _Deep, step: int
    ) -> Tensor:
        """Gradients of Σ w·loss of these rows by all dense weights, SUMS behind them; each row's go to `out`."""
        given = (x, wide, label, weight, out, step)
        found = self.net.hands(self._part, [(pieces, *given) for pieces in self.net.pieces(x)])
        flat = torch.zeros(len(self._weights) + SUMS, device=self._device)
        for own in found:
            flat[:-SUMS] += own
        flat[-SUMS:] = out.figures.sum(dim=1)
        return flat

    def _part(
        self,
        pieces: Sequence[slice],
        x: Tensor,
        wide: Tensor | None,
        label: Tensor,
        weight: Tensor,
        out: _Deep,
        step: int,
    ) -> Tensor:
        """The gradients by dense weights of some pieces of rows. (So that the seconds add up, the thread that
        begins at the first row tells them.)"""
        timed = self._timed if pieces[0].start == 0 else _untimed
        flat = torch.zeros_like(self._weights)
        own = flat.split([one.numel() for one in self._dense])
        for rows in pieces:
            self._seed(step, rows.start)
            piece = x[rows].detach().requires_grad_()
            with timed("forward"), torch.enable_grad():
                deep = self.net.margins(piece)
            margins = deep.detach() if wide is None else deep.detach() + wide[rows]
            by_margin = self._judge(margins, label[rows], weight[rows], rows, out)
            with timed("backward"):
                # (handed `by_margin` itself, torch would import all of sympy: seconds in every process)
                of_x, *of_dense = torch.autograd.grad(deep @ by_margin, [piece, *self._dense])
                out.x[rows] = of_x
                for total, one in zip(own, of_dense, strict=True):
                    total += one.reshape(-1)
        return flat

    def _judge(self, margins: Tensor, label: Tensor, weight: Tensor, rows: slice, out: _Deep) -> Tensor:
        """(b,) gradients by the margins of a piece of rows, which go to `out` as do losses and figures."""
        losses = functional.binary_cross_entropy_with_logits(margins, label, reduction="none")
        of_p = functional.binary_cross_entropy_with_logits(
            margins + math.log(self._keep_rate), label, reduction="none"
        )
        full = weight * (label + (1 - label) / self._keep_rate)
        by_margin = weight * (margins.sigmoid() - label)
        out.losses[rows], out.margins[rows] = losses, by_margin
        # (summed later by torch, by halves: the error of a long dot product grows with its rows)
        out.figures[:, rows] = torch.stack([weight * losses, weight, weight * label, full * of_p, full])
        return by_margin

    def _summed(self, own: Summed) -> Summed:
        with self._timed("communicate"):
            return self._team.sum_sparse(*own)

    def _apply(self, flat: Tensor, found: list[Summed], scale: float, step: int) -> None:
        """Moves all weights; found: each table's sums, and the wide part's behind them."""
        tables = found[: len(self._rows)]
        self._last = (flat, found, scale)
        if self._spec.clip_norm is not None:
            length = sum(norm**2 for name, norm in self._measured(*self._last).items() if name != "wide") ** 0.5
            scale *= min(1.0, self._spec.clip_norm / length) if length else 1.0
        rate = self.rate(step)
        self._optimizer.apply(flat * scale, rate)
        for optimizer, (rows, gradient) in zip(self._rows, tables, strict=True):
            optimizer.apply(rows, gradient, scale=scale, rate=rate)
        if self.net.wide is not None:
            self._ftrl.apply(*found[-1])

    def _measured(self, flat: Tensor, found: list[Summed], scale: float) -> dict[str, float]:
        """Each group's norm; the wide part's is of the sum, all others' of the mean."""
        own = flat.split([one.numel() for one in self._dense])
        norms = {name: scale * float(one.norm()) for name, one in zip(self._names, own, strict=True)}
        for part, (_, gradient) in zip(self.net.layout.tables, found, strict=False):
            norms[f"embeddings.table_{part.dim}"] = scale * self._length(gradient)
        return norms | ({"wide": self._length(found[-1][1])} if self.net.wide is not None else {})

    def _length(self, rows: Tensor) -> float:
        if rows.device.type != "cpu":
            return float(rows.norm())
        parts = [(rows.numpy(), *ends) for ends in self.net.hands.ranges(len(rows))]
        return float(sum(self.net.hands(kernels.squared, parts)) ** 0.5)

    def _moved(self, part: NDArray[Any]) -> Tensor:
        return torch.from_numpy(part).to(self._device, non_blocking=True)

    def _kept(self, place: int, rows: int) -> Tensor:
        """Memory for the deep part's input (0) or its gradient (1), the same for each batch no larger than one
        before."""
        if len(self._memory[place]) < rows:
            width = self.net.layout.width
            width = width if place else -(-width // ALIGNED) * ALIGNED
            self._memory[place] = torch.zeros((rows, width), device=self._device)
        return self._memory[place]

    def _seed(self, step: int, first: int) -> None:
        """Before the rows from `first` on go through the layers: whichever thread does it, it draws the same."""
        if self._spec.dropout:
            key = np.random.SeedSequence([self._spec.seed, self._team.rank, step, first])
            generator = torch.Generator(self._device)
            self.net.draws.generator = generator.manual_seed(int(key.generate_state(1, np.uint64)[0]) >> 1)

    def _not_finite(self, x: Tensor, wide: Any, losses: Tensor, batch: Rows, step: int) -> Exception:
        where = f"wide_deep: step {step}"
        if losses.sum().isfinite():
            return BrokenTeamError(f"{where}: the loss of another rank is not finite")
        bad = np.flatnonzero(~losses.isfinite().cpu().numpy())
        largest = self._activations(x) | ({} if wide is None else {"wide": float(wide[0].abs().max())})
        found = ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
        return NonFiniteLossError(
            f"{where}: the loss is not finite on rank {self._team.rank}, in {len(bad)} of {len(losses)} rows, "
            f"of {'; '.join(batch.sources(bad))}. Largest activations: {found}. Try a lower learning_rate, or "
            "clip_norm"
        )

    def _activations(self, x: Tensor) -> dict[str, float]:
        """The largest absolute value that each layer makes of the input."""
        found = {"input": float(x.abs().max())}

        def note(name: str) -> Any:
            return lambda _layer, _given, made: found.__setitem__(name, float(made.abs().max()))

        inner = [(n, m) for n, m in self.net.named_modules() if isinstance(m, nn.Linear | nn.LayerNorm)]
        handles = [layer.register_forward_hook(note(name)) for name, layer in inner]
        self._seed(0, 0)
        with torch.no_grad():
            self.net.margins(x)
        for handle in handles:
            handle.remove()
        return found

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - begin


def _untimed(_phase: str) -> AbstractContextManager[None]:
    return nullcontext()


def _flattened(parameters: list[nn.Parameter]) -> Tensor:
    """One tensor that holds them all, which they become parts of."""
    flat = torch.cat([one.detach().reshape(-1) for one in parameters])
    for parameter, own in zip(parameters, flat.split([one.numel() for one in parameters]), strict=True):
        parameter.data = own.view_as(parameter)
    return flat


def _rows_that_count(weight: NDArray[np.float32]) -> int:
    """How many there are without those of weight 0 at the end."""
    there = np.flatnonzero(weight)
    return int(there[-1]) + 1 if len(there) else 0
