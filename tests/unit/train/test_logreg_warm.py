"""Warm starts: whose weights, from which day, why not; and that they are worth it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from unit.train.logs import Held, card, log, task

from clickmill.errors import ConfigError, MissingTableError
from clickmill.models import artifact
from clickmill.models.logreg import LogregModel
from clickmill.scoring import Contender
from clickmill.specs import LogregSpec
from clickmill.split import Stretch
from clickmill.tables import Tables
from clickmill.train.logreg import worker
from clickmill.train.logreg.warm import Start, start_of
from clickmill.train.logreg.worker import Fitted, fit
from clickmill.train.ring import SoloRing

TODAY = date(2026, 1, 11)
TRAIN = Stretch(datetime(2026, 1, 2), datetime(2026, 1, 9))


class Lists:
    """The tables `models` and `decisions` as lists."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.held: dict[str, list[dict[str, Any]]] = {"models": [], "decisions": []}

    def exists(self, name: str) -> bool:
        return bool(self.held[name])

    def path(self, name: str) -> str:
        return name

    def rows(self, name: str, *, where: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
        wanted = (where or {}).items()
        return [row for row in self.held[name] if all(row[column] in values for column, values in wanted)]

    def rows_if_any(self, name: str) -> list[dict[str, Any]]:
        return self.rows(name)

    def trained(self, *, spec: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """A model of tiny data is trained and stored; its row."""
        asked = task(**(spec or {}))
        fitted = fit(Held([log(500)]), SoloRing(), asked)
        saved = artifact.save(str(self.root), card(asked, **changes), worker.arrays_of(fitted, asked.spec))
        model = artifact.load(saved.path).card
        row = {name: getattr(model, name) for name in ("model_id", "name", "kind", "correction", "keep_rate")}
        row |= {"artifact": saved.path, "digest": saved.digest, "seconds": 1.0}
        self.held["models"].append(row)
        return row

    def promote(self, row: dict[str, Any], ds: date) -> None:
        verdict = {"champion_model": Contender.of(row).to_json(), "promoted": True, "promotion": 1}
        self.held["decisions"].append(verdict | {"ds": ds})

    def start(self, warm_start: str | None, **spec: Any) -> Start | None:
        asked = LogregSpec.model_validate({"kind": "logreg", "bits": 18, "warm_start": warm_start} | spec)
        return start_of(cast(Tables, self), asked, name="lr", ds=TODAY, train=TRAIN)


@pytest.fixture
def tables(tmp_path: Path) -> Lists:
    return Lists(tmp_path)


def why_not(start: Start | None) -> str:
    assert start is not None
    assert start.weights is None
    assert start.figures["model_id"] is None
    assert start.line == f"starts from the base rate: {start.figures['reason']}"
    return str(start.figures["reason"])


def test_nothing_is_said_where_nothing_is_asked(tables: Lists) -> None:
    assert tables.start(None) is None


def test_the_champion_of_the_day_before_is_started_from(tables: Lists) -> None:
    assert why_not(tables.start("champion")) == "there is no champion as of 2026-01-10"
    old = tables.trained(model_id="lr-2026-01-09-0123abcd")
    own = tables.trained(model_id="lr-2026-01-11-0123abcd")
    tables.promote(old, date(2026, 1, 9))
    tables.promote(own, TODAY)  # a rerun of the day must not start from what the day itself made
    start = tables.start("champion")
    assert start is not None
    assert start.figures == {"model_id": old["model_id"], "digest": old["digest"], "reason": None}
    assert start.line == "starts from the weights of lr-2026-01-09-0123abcd"
    assert start.weights is not None
    model = artifact.load(old["artifact"])
    assert isinstance(model, LogregModel)
    assert start.weights.intercept == model.intercept
    assert len(start.weights.index) == len(start.weights.weight) > 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "other"}, "is no lr"),
        ({"spec": {"bits": 20}}, "has 20 bits, this model 18"),
        ({"stretches": {"train": ["2026-01-02T00:00:00", "2026-01-10T00:00:00"]}}, "up to 2026-01-10 00:00:00"),
    ],
)
def test_a_champion_that_does_not_fit_is_left_and_it_is_said_why(
    tables: Lists, changes: dict[str, Any], words: str
) -> None:
    tables.promote(tables.trained(**changes), date(2026, 1, 10))
    assert words in why_not(tables.start("champion"))


def test_a_model_asked_for_by_its_id_must_serve(tables: Lists) -> None:
    with pytest.raises(MissingTableError, match="no model 'nobody'"):
        tables.start("nobody")
    row = tables.trained()
    start = tables.start(row["model_id"])
    assert start is not None
    assert start.figures["digest"] == row["digest"]
    with pytest.raises(ConfigError, match="18 bits, this model 19"):
        tables.start(row["model_id"], bits=19)
    late = {"train": ["2026-01-02T00:00:00", "2026-01-10T00:00:00"]}
    later = tables.trained(model_id="later", stretches=late)
    with pytest.raises(ConfigError, match="trained on rows up to"):
        tables.start(later["model_id"])


def test_weights_of_a_weighted_model_stand_at_full_traffic(tables: Lists) -> None:
    for correction, rate in (("prior", 0.25), ("weight", 1.0)):
        row = tables.trained(correction=correction, keep_rate=0.25, model_id=f"lr-{correction}")
        start = tables.start(row["model_id"])
        assert start is not None
        assert start.weights is not None
        assert start.weights.keep_rate == rate


@pytest.mark.parametrize("min_count", [1, 3])
def test_a_warm_start_takes_fewer_iterations_to_the_same_optimum(tmp_path: Path, min_count: int) -> None:
    asked = task(min_count=min_count, tolerance=1e-6, l2=1e-3)
    yesterday = log(6000)
    today = [yesterday.slice(600), log(600, seed=4)]
    before = fit(Held([yesterday]), SoloRing(), asked)
    saved = artifact.save(str(tmp_path), card(asked), worker.arrays_of(before, asked.spec))
    tables = Lists(tmp_path)
    tables.held["models"] = [{"model_id": "m", "artifact": saved.path, "digest": saved.digest}]
    start = tables.start("m", min_count=min_count)
    assert start is not None
    cold = fit(Held(today), SoloRing(), asked)
    warm = fit(Held(today), SoloRing(), replace(asked, warm_start=start.weights))
    assert cold.figures["converged"]
    assert warm.figures["converged"]
    assert warm.figures["objective"] == pytest.approx(cold.figures["objective"], rel=1e-7)
    assert warm.figures["iterations"] < cold.figures["iterations"]
    assert iterations_to_1e5(warm) < iterations_to_1e5(cold) / 2


def iterations_to_1e5(fitted: Fitted) -> int:
    """Iterations until the objective is within 1e-5 of where it ends."""
    enough = fitted.figures["objective"] * (1 + 1e-5)
    return 1 + next(i for i, objective in enumerate(fitted.figures["history"]) if objective <= enough)
