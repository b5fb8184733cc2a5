"""Epochs of steps, looks at validation time, checkpoints: how one rank trains with the others. No Spark."""

from __future__ import annotations

import json
import math
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.errors import NonFiniteLossError, NoRowsError
from clickmill.loader import Batch, Columns, Loader, pinned
from clickmill.nets.net import net_of
from clickmill.nets.standard import standard_of
from clickmill.train import watch
from clickmill.train.clock import Clock
from clickmill.train.sampled import normalized
from clickmill.train.wide_deep import preflight
from clickmill.train.wide_deep.checkpoint import Checkpoints
from clickmill.train.wide_deep.first_pass import Known, TeamRing, known
from clickmill.train.wide_deep.learner import Learner, Stepped
from clickmill.train.wide_deep.task import CHECKPOINTS, FIGURES, NETWORK, RESULT, Task
from clickmill.train.wide_deep.team import Team

if TYPE_CHECKING:
    from torch import Tensor

Sums = tuple[float, float, float]
"""Σ v·loss of p, Σ v and Σ v·label, where v is what a row weighs in full traffic."""


@dataclass
class Progress:
    """How far a training is. What a checkpoint holds beside tensors; the same on every rank."""

    known: Known
    epoch: int = 0
    step: int = 0
    """The next of the epoch."""
    steps: int = 0
    """Made, of all epochs."""
    seen: Sums = (0.0, 0.0, 0.0)
    """Of the steps since the last look."""
    first_loss: float | None = None
    """Of p_sampled, in the first step."""
    first_expected: float | None = None
    """What it is where every margin is the base rate's."""
    idle: list[str] | None = None
    """Groups of parameters that no gradient has reached yet; None before there was one."""
    history: list[tuple[int, float, float | None, float | None, float | None]] = field(default_factory=list)
    """Of each look: steps made, log-loss of p in the steps before it, that of validation time, its NE, NE of the
    steps."""
    validated: tuple[int, int] = (0, 0)
    """Rows and clicks of validation time."""
    best: int | None = None
    """Steps made at the best look."""
    least: float = math.inf
    """Its log-loss."""
    patient: int = 0
    """Looks since."""
    stopped: str | None = None
    """Why there are no more steps."""
    sent: int = 0
    """Bytes of tensors that the first rank handed over in steps."""
    norms: dict[str, float] = field(default_factory=dict)
    """Of the gradients at the last look, by group of parameters."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"least": None if math.isinf(self.least) else self.least}

    @classmethod
    def of(cls, found: dict[str, Any]) -> Progress:
        first = found["known"]
        own = found | {
            "known": Known(**first | {"moments": tuple(tuple(one) for one in first["moments"])}),
            "seen": tuple(found["seen"]),
            "history": [tuple(look) for look in found["history"]],
            "validated": tuple(found["validated"]),
            "least": math.inf if found["least"] is None else found["least"],
        }
        return cls(**own)


def fit(task: Task, team: Team, device: str = "cpu", *, threads: int = 1) -> None:
    """Trains, and leaves the result in the task's folder; goes on from the checkpoint that is there.

    Raises NoRowsError, DegenerateLabelsError, KeepRateError, InputError and MissingColumnsError for data that
    cannot be trained on, NotEnoughRowGroupsError, NonFiniteLossError (of a step, or of validation time),
    BrokenTeamError; PreflightError where the network does not begin at the base rate, or no gradient reaches a
    part of it.
    """
    if not task.validation and task.spec.patience is not None:
        raise NoRowsError(
            "wide_deep: validation time, which tells when to stop, has no rows: build features for these days, or "
            "set patience: null"
        )
    training = _Training(task, team, device, threads)
    if task.overfit_check:
        training.overfit()
    else:
        training.run()


class _Training:
    """One rank's."""

    def __init__(self, task: Task, team: Team, device: str, threads: int) -> None:
        spec, layout = task.spec, task.layout
        self._task, self._spec, self._team = task, spec, team
        self._say, self._clock = watch.teller(task.address, team.rank), Clock()
        self._checkpoints = Checkpoints(Path(task.folder) / CHECKPOINTS, spec.keep_checkpoints)
        found = self._checkpoints.latest() if team.rank == 0 else None
        state = _shared(team, None if found is None else found[1])
        weight = "weight" if spec.correction == "weight" else None
        self._loader = Loader(
            task.training,
            Columns(layout.whole, layout.numbers, weight=weight),
            batch_rows=spec.batch_rows,
            seed=spec.seed,
            rank=team.rank,
            size=team.size,
            empty=np.empty if device == "cpu" else pinned,
        )
        if state is None:
            self._tell("looks over the training rows")
            first = known(task.training, layout.numbers, team, correction=spec.correction)
            self._progress = Progress(first)
        else:
            self._progress = Progress.of(state)
            self._tell(f"goes on after step {self._progress.steps}, where an earlier run stopped")
        self._resumed = self._progress.steps
        self._clock.done("count")
        self._learner = self._new_learner(device, threads)
        self._give(found[0] if found is not None else None)
        self._clock.done("start")
        self._begun = time.perf_counter()

    @property
    def _shift(self) -> float:
        """From the margins of p_sampled to those of p."""
        return math.log(self._keep_rate)

    @property
    def _keep_rate(self) -> float:
        """By which p is corrected."""
        return 1.0 if self._spec.correction == "weight" else self._progress.known.keep_rate

    def _new_learner(self, device: str, threads: int) -> Learner:
        first = self._progress.known
        intercept = math.log(first.base_rate / (1 - first.base_rate))
        standard = standard_of(first.moments)
        net = net_of(self._spec, self._task.layout, standard, intercept, threads=threads)
        learner = Learner(net.to(device), self._spec, self._team, keep_rate=self._keep_rate)
        if self._task.start is not None:
            learner.start(_warm(self._task, self._shift))
        return learner

    def _give(self, found: dict[str, Tensor] | None) -> None:
        """Has all ranks hold what rank 0 found, or else what it begins with."""
        if found is not None:
            self._learner.load(found)
        for _, tensor in sorted(self._learner.state().items()):  # (not copies)
            self._team.broadcast(tensor)

    def run(self) -> None:
        progress, spec = self._progress, self._spec
        while progress.stopped is None:
            for batch in self._batches():
                self._step(batch)
                ends = progress.step == self._loader.steps
                if ends:
                    progress.epoch, progress.step = progress.epoch + 1, 0
                if ends or (spec.validate_steps is not None and progress.steps % spec.validate_steps == 0):
                    self._look()
                if ends or progress.stopped is not None or progress.steps % spec.checkpoint_steps == 0:
                    self._save()
                if progress.stopped is not None:
                    break
        self._finish()

    def _batches(self) -> Iterator[Batch]:
        """What is left of the epoch; waiting for rows is told apart."""
        for batch in self._loader.epoch(self._progress.epoch, first=self._progress.step):
            self._clock.done("read")
            yield batch

    def _step(self, batch: Batch) -> None:
        progress, sent = self._progress, self._team.bytes_sent
        done = self._learner.step(batch, step=progress.steps)
        progress.sent += self._team.bytes_sent - sent
        seen = (done.full_loss_sum, done.full_weight_sum, done.click_sum)
        progress.seen = (progress.seen[0] + seen[0], progress.seen[1] + seen[1], progress.seen[2] + seen[2])
        progress.step, progress.steps = progress.step + 1, progress.steps + 1
        if done.weight_sum:
            self._check(done)
        self._clock.done("step")
        self._tell_step(seen)

    def _check(self, done: Stepped) -> None:
        """Looks whether the training begins as it must. A warm start begins wherever it was left."""
        progress, warm = self._progress, self._task.start is not None
        if progress.first_loss is None:
            progress.first_loss = done.loss
            progress.first_expected = preflight.entropy(done.click_sum / done.weight_sum, progress.known.base_rate)
            if not warm:
                preflight.require_base_rate(progress.first_loss, progress.first_expected)
        if progress.idle == [] or progress.steps > preflight.REACH_STEPS:
            return
        norms = self._learner.gradient_norms()
        idle = [name for name in preflight.idle(norms) if progress.idle is None or name in progress.idle]
        progress.idle = idle
        if not idle:
            self._tell(
                f"begins at log-loss {progress.first_loss:.6f} of the sample, where the base rate's is "
                f"{progress.first_expected:.6f}; gradient reached all {len(norms)} groups of parameters by step "
                f"{progress.steps}"
            )
        elif progress.steps == preflight.REACH_STEPS and not warm:
            preflight.require_reached(idle, progress.steps)

    def _look(self) -> None:
        """Judges validation time, keeps the best weights, and says whether training ends."""
        progress, spec = self._progress, self._spec
        loss, rows, clicks = self._validated()
        if not math.isfinite(loss):
            raise _diverged(f"after step {progress.steps} the loss of validation time is not finite")
        progress.validated = (rows, clicks)
        ne = normalized(loss, clicks / rows) if rows else None
        mean, training_ne = _judged(progress.seen)
        progress.history.append((progress.steps, mean, loss if rows else None, ne, training_ne))
        progress.seen, progress.norms = (0.0, 0.0, 0.0), self._learner.gradient_norms()
        if rows and loss < progress.least:
            progress.least, progress.best, progress.patient = loss, progress.steps, 0
            if self._team.rank == 0:
                self._checkpoints.save_best(self._learner.net.tensors(), steps=progress.steps)
        else:
            progress.patient += 1
        if spec.patience is not None and progress.patient >= spec.patience:
            progress.stopped = "validation loss"
        elif progress.epoch == spec.epochs:
            progress.stopped = "epochs"
        self._clock.done("validate")

    def _validated(self) -> tuple[float, int, int]:
        """Mean log-loss of p on validation time, its rows and clicks, of all ranks' shares of the row groups."""
        own = self._task.validation[self._team.rank :: self._team.size]
        sums = np.zeros(3)
        if own:
            columns = Columns(self._task.layout.whole, self._task.layout.numbers)
            loader = Loader(own, columns, batch_rows=self._spec.batch_rows, seed=self._spec.seed)
            for batch in loader.epoch(0):
                margins = self._learner.margins(batch.whole, batch.real)[: batch.rows].astype(np.float64)
                label = batch.label[: batch.rows].astype(np.float64)
                margins += self._shift
                sums += (float(np.sum(np.logaddexp(0, margins) - label * margins)), batch.rows, label.sum())
        loss, rows, clicks = TeamRing(self._team).sum(sums)
        return float(loss / max(rows, 1)), int(rows), int(clicks)

    def _save(self) -> None:
        if self._team.rank == 0:
            progress = self._progress
            self._checkpoints.save(
                self._learner.state(), progress.to_dict(), steps=progress.steps, best=progress.best
            )
        self._clock.done("checkpoint")

    def _finish(self) -> None:
        """Rank 0 leaves the best weights and the figures; all know when they are there."""
        best = self._progress.best
        if best is None:
            tensors = self._learner.net.tensors()
            bad = sorted(name for name, one in tensors.items() if not one.isfinite().all())
            if bad:
                raise _diverged(f"after the last step weights are not finite: {', '.join(bad)}")
        if self._team.rank == 0:
            network = self._learner.net.tensors() if best is None else self._checkpoints.best(best)
            _leave(Path(self._task.folder), network, self._figures())
        TeamRing(self._team).sum(np.zeros(1))

    def _figures(self) -> dict[str, Any]:
        progress, spec, first = self._progress, self._spec, self._progress.known
        best = progress.steps if progress.best is None else progress.best
        look = next(one for one in progress.history if one[0] == best)
        rows, clicks = progress.validated
        seconds = self._clock.seconds | {name: round(one, 4) for name, one in self._learner.seconds.items()}
        made, training = progress.steps - self._resumed, seconds.get("read", 0.0) + seconds.get("step", 0.0)
        rate = first.base_rate
        return {
            "rows": first.rows,
            "clicks": first.clicks,
            "base_rate": rate,
            "keep_rate": first.keep_rate,
            "ranks": self._team.size,
            "launcher": spec.launcher,
            "epochs": progress.epoch,
            "steps": progress.steps,
            "best_step": best,
            "stopped": progress.stopped,
            "stops_early": spec.patience is not None,
            "first_log_loss": progress.first_loss,
            "first_expected": progress.first_expected,
            "idle": progress.idle,
            "base_entropy": -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate)),
            "train_log_loss": look[1],
            "train_ne": look[4],
            "validation_rows": rows,
            "validation_clicks": clicks,
            "validation_log_loss": look[2],
            "validation_ne": look[3],
            "history": [list(one) for one in progress.history],
            "bytes_per_step": round(progress.sent / progress.steps),
            "rows_per_second": round(made * first.rows / self._loader.steps / training) if made else None,
            "seconds": seconds,
            "gradient_norms": progress.norms,
            "resumed_from": self._resumed,
        }

    def overfit(self) -> None:
        """Raises PreflightError unless a few rows are learned by heart and every part of the network learns."""
        batch = preflight.few(self._loader.epoch(0), preflight.OVERFIT_ROWS)
        rows, clicks = TeamRing(self._team).sum(np.array([batch.rows, batch.label.sum()], np.float64))
        losses = self._learner.overfit(batch, steps=preflight.OVERFIT_STEPS)
        norms = self._learner.gradient_norms()
        if self._task.start is None:
            expected = preflight.entropy(clicks / rows, self._progress.known.base_rate)
            preflight.require_base_rate(losses[0], expected)
        preflight.require_reached(preflight.idle(norms), preflight.OVERFIT_STEPS)
        said = {"rows": int(rows), "clicks": int(clicks), "first": losses[0], "last": losses[-1]}
        preflight.require_learned(said, self._spec.learning_rate)
        if self._team.rank == 0:
            further = {"steps": preflight.OVERFIT_STEPS, "gradient_norms": norms}
            _leave(Path(self._task.folder), None, {"overfit": said | further})

    def _tell(self, line: str) -> None:
        if self._say is not None:
            self._say(line)

    def _tell_step(self, sums: Sums) -> None:
        if self._say is None:
            return
        progress, first = self._progress, self._progress.known
        made, seconds = progress.steps - self._resumed, time.perf_counter() - self._begun
        left = (self._spec.epochs * self._loader.steps - progress.steps) * seconds / made
        rows = made * first.rows / self._loader.steps
        loss, ne = _judged(sums)
        said = "unknown" if ne is None else f"{ne:.4f}"
        seen = f", {progress.history[-1][2]:.6f} in validation" if progress.best is not None else ""
        self._say(
            f"epoch {progress.epoch + 1} of {self._spec.epochs}, step {progress.step} of {self._loader.steps}: "
            f"log-loss {loss:.6f} in training{seen}, NE {said}, {rows / seconds:,.0f} rows/s, "
            f"{progress.sent / progress.steps / 2**20:.2f} MB a step between ranks, {left:.0f} s left"
        )


def _shared(team: Team, value: Any) -> Any:
    """What rank 0 has, as anything that JSON holds."""
    import torch

    content = json.dumps(value).encode()
    length = torch.tensor([len(content)])
    team.broadcast(length)
    sent = torch.zeros(int(length), dtype=torch.uint8)
    if team.rank == 0:
        sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    team.broadcast(sent)
    return json.loads(bytes(sent.numpy()))


def _warm(task: Task, shift: float) -> dict[str, Tensor]:
    """The tensors of a warm start, their margins moved to this sample's keep rate."""
    from safetensors.torch import load_file

    assert task.start is not None
    tensors = load_file(task.start)
    if task.start_keep_rate is not None:
        tensors["intercept"] = tensors["intercept"] + (math.log(task.start_keep_rate) - shift)
    return dict(tensors)


def _diverged(said: str) -> NonFiniteLossError:
    return NonFiniteLossError(f"wide_deep: {said}. Try a lower learning_rate, or clip_norm")


def _judged(sums: Sums) -> tuple[float, float | None]:
    """Log-loss and NE of p; None where the labels agree."""
    loss, weight, clicks = sums
    if not weight:
        return math.nan, None
    return loss / weight, normalized(loss / weight, clicks / weight)


def _leave(folder: Path, network: dict[str, Tensor] | Path | None, figures: dict[str, Any]) -> None:
    """The result: written aside and renamed. network: its tensors or a file of them, not copied in memory."""
    from safetensors.torch import save_file

    aside = folder / f".{RESULT}-{secrets.token_hex(4)}"
    aside.mkdir()
    if isinstance(network, Path):
        shutil.copyfile(network, aside / NETWORK)
    elif network is not None:
        save_file(network, aside / NETWORK)
    (aside / FIGURES).write_text(json.dumps(figures), encoding="utf-8")
    place = folder / RESULT
    if place.exists():
        shutil.rmtree(place)
    aside.rename(place)
