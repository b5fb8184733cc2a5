"""The network that a training goes on from, and the rows that it then sees: the newest day, some of the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np

from clickmill.champion import champion
from clickmill.errors import ConfigError
from clickmill.loader import Counted
from clickmill.models import artifact
from clickmill.models.artifact import Model
from clickmill.models.wide_deep import WideDeepModel
from clickmill.specs import WideDeepSpec
from clickmill.split import Stretch
from clickmill.tables import Tables
from clickmill.train.earlier import earlier, require_earlier

CHAMPION = "champion"
ROUNDING = 1e-9


class Start(NamedTuple):
    """The network to start from (None: none), and what the card says of it."""

    model: WideDeepModel | None
    figures: dict[str, Any]

    @property
    def line(self) -> str:
        """The same for a person."""
        if self.model is None:
            return f"starts from the base rate: {self.figures['reason']}"
        return f"starts from the weights of {self.figures['model_id']}, on the newest day of train time"

    @property
    def keep_rate(self) -> float | None:
        """That its margins are at."""
        if self.model is None:
            return None
        card = self.model.card
        return 1.0 if card.correction == "weight" else card.keep_rate


def start_of(tables: Tables, spec: WideDeepSpec, *, name: str, ds: date, train: Stretch) -> Start | None:
    """What the spec's `warm_start` comes to for model `name` of `ds`; None where it asks for nothing.

    As for logistic regressions: a model named by its id must serve (MissingTableError, ConfigError), the champion
    is that of the day before `ds`, and where it does not serve training starts anew and says why.
    """
    if spec.warm_start is None:
        return None
    if spec.warm_start != CHAMPION:
        model, digest = earlier(tables, spec.warm_start)
        return _from(_fitting(model, spec, train), digest)
    day = ds - timedelta(days=1)
    holder = champion(tables, day)
    if holder is None:
        return anew(f"there is no champion as of {day}")
    if holder.name != name:
        return anew(f"the champion as of {day}, {holder.model_id}, is no {name}")
    try:
        return _from(_fitting(artifact.load(holder.artifact), spec, train), holder.digest)
    except ConfigError as error:
        return anew(str(error))


def newest(pieces: Sequence[Counted], spec: WideDeepSpec) -> tuple[Counted, ...]:
    """The row groups of the last day of train time that has rows, and of those before it, drawn by the seed, as
    many as hold `replay` of their rows, the last one whole."""
    last = max(map(_day, pieces), default="")
    new = [one for one in pieces if _day(one) == last]
    old = [one for one in pieces if _day(one) != last]
    drawn = np.random.default_rng([spec.seed, len(old)]).permutation(len(old))
    before = np.cumsum([0, *(old[at].rows for at in drawn)])[:-1]
    drawn = drawn[before < spec.replay * sum(one.rows for one in old) * (1 - ROUNDING)]
    return (*(old[at] for at in sorted(drawn)), *new)


def _day(one: Counted) -> str:
    return str(dict(one.piece.partition)["ds"])


def _fitting(model: Model, spec: WideDeepSpec, train: Stretch) -> WideDeepModel:
    """The model, if we can go on from it. Raises ConfigError where it is built otherwise, or knows later rows."""
    said = f"warm_start: {model.card.model_id}"
    if not isinstance(model, WideDeepModel):
        raise ConfigError(f"{said} is a {model.card.kind}, no wide_deep")
    crosses = ("cross_layers", "cross_rank") if spec.arch == "dcn_v2" else ()
    for key in ("arch", "hidden", "layer_norm", *crosses):  # (tables: when the layout is made)
        theirs, ours = getattr(model.spec, key), getattr(spec, key)
        if theirs != ours:
            raise ConfigError(f"{said} has {key} {theirs!r}, this model {ours!r}")
    require_earlier(model.card, train)
    return model


def _from(model: WideDeepModel, digest: str) -> Start:
    return Start(model, {"model_id": model.card.model_id, "digest": digest, "reason": None})


def anew(reason: str) -> Start:
    return Start(None, {"model_id": None, "digest": None, "reason": reason})
