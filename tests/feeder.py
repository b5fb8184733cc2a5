"""A rank that is fed fixed global batches: `python feeder.py FOLDER FIGURES`, started once a rank."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trained

from clickmill.loader import Batch
from clickmill.nets.layout import Layout
from clickmill.nets.net import net_of
from clickmill.nets.standard import standard_of
from clickmill.train.wide_deep.learner import Learner
from clickmill.train.wide_deep.team import Alone, Team, joined

ROWS = 512
"""Of each global batch. (Of very few rows one that rounding moves across a layer's kink changes a step.)"""


def batch(step: int, *, rank: int, size: int, values: int = 200) -> Batch:
    """A rank's rows of a global batch; its hashes take so many values."""
    rng = np.random.default_rng(step)
    whole = (rng.integers(0, values, (ROWS, 3)) * 2_654_435_761 % 2**32).astype(np.uint32).view(np.int32)
    real = rng.normal(size=(ROWS, 1)).astype(np.float32)
    label = (rng.random(ROWS) < 0.1 + 0.5 * (whole[:, 0] % 2 == 0)).astype(np.float32)
    weight = rng.choice([1.0, 2.5], ROWS).astype(np.float32)
    own = slice(rank * ROWS // size, (rank + 1) * ROWS // size)
    parts = [np.ascontiguousarray(part[own]) for part in (whole, real, label, weight)]
    return Batch(step, *parts, len(parts[2]), None, ())


def learner(team: Team, layout: Layout = trained.LAYOUT, **spec: Any) -> Learner:
    standard = standard_of(np.array([[2.0, 0.0, 2.0]]))
    own = trained.SPEC.model_copy(update=spec)
    return Learner(net_of(own, layout, standard, -1.0), own, team)


def losses(team: Team, steps: int, **spec: Any) -> list[float]:
    one = learner(team, **spec)
    return [one.step(batch(step, rank=team.rank, size=team.size), step=step).loss for step in range(steps)]


def sent(team: Team, *, bits: int, values: int) -> int:
    """Bytes that a rank hands over in a step, of tables of 2^bits rows and batches of so many values."""
    layout = replace(trained.LAYOUT, bits=(bits, bits), wide_bits=bits)
    one, before = learner(team, layout), team.bytes_sent
    one.step(batch(0, rank=team.rank, size=team.size, values=values), step=0)
    return team.bytes_sent - before


def main(kind: Any, folder: str, place: str) -> None:
    torch.set_num_threads(1)
    with joined(kind, meeting=folder) as team:
        found = {
            "losses": losses(team, 200),
            "adam": losses(team, 50, optimizer="adam", clip_norm=0.5),
            "bytes": [sent(team, bits=bits, values=values) for bits, values in ((12, 8), (18, 8), (18, 60))],
            "checked": checked(team),
        }
    if team.rank == 0:
        Path(place).write_text(json.dumps(found))


def checked(team: Team) -> list[Any]:
    """What a team makes of small sums: rank r adds r + 1, and has r rows of a table."""
    plain = torch.full((3,), team.rank + 1.0, dtype=torch.float64)
    team.sum(plain)
    given = torch.tensor([team.rank])
    team.broadcast(given)
    index, rows = team.sum_sparse(torch.arange(team.rank) + 5, torch.ones((team.rank, 2)))
    return [plain.tolist(), given.tolist(), index.tolist(), rows.tolist()]


def alone(steps: int, **spec: Any) -> list[float]:
    torch.set_num_threads(1)
    return losses(Alone(), steps, **spec)


if __name__ == "__main__":
    main(*sys.argv[1:])
