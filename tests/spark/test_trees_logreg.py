"""train_trees_logreg on Spark and Delta: trees and linear part on days of their own, one artifact."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import counted_days
import pytest
from counted_days import DAYS

from clickmill.errors import ConfigError, DegenerateLabelsError
from clickmill.models import artifact
from clickmill.models.trees_logreg import TreesLogregModel
from clickmill.scoring import Contender
from clickmill.split import Stretch, Stretches, stretches
from clickmill.train.trees_logreg.driver import halves, train

if TYPE_CHECKING:
    from clickmill.config import Config
    from clickmill.tables import Tables

TREES = {"history": "1d", "rounds": 12, "max_depth": 3, "ranks": 2}
LINEAR = {"bits": 18, "l2": 1e-3, "ranks": 2, "columns": {"numbers": []}}


def config(tables: Tables, **spec: Any) -> Config:
    known = {"kind": "trees_logreg", "trees": TREES, "linear": LINEAR, "linear_share": 0.5}
    return counted_days.config(tables, train="2d", hybrid=known | spec)


def trained(tables: Tables, **spec: Any) -> dict[str, Any]:
    cfg = config(tables, **spec)
    found = stretches(cfg.split, datetime(2026, 1, 10, 23))
    return train(tables, cfg, name="hybrid", ds=DAYS[3], stretches=found)


def test_trees_and_linear_part_are_trained_on_days_of_their_own(tables: Tables) -> None:
    made = counted_days.prepared(tables)
    said: list[str] = []
    cfg = config(made)
    found = stretches(cfg.split, datetime(2026, 1, 10, 23))
    row = train(made, cfg, name="hybrid", ds=DAYS[3], stretches=found, say=said.append)
    assert said[0] == (
        "hybrid: trees on 2026-01-07T00:00 to 2026-01-08T00:00, "
        "the linear part on 2026-01-08T00:00 to 2026-01-09T00:00"
    )
    figures = json.loads(row["training"])
    kept = {day: made.read("sample").where(f"ds = '{day}'").count() for day in DAYS[:2]}
    assert (figures["trees"]["rows"], figures["linear"]["rows"]) == tuple(kept.values())
    assert (row["rows"], row["kind"], row["keep_rate"]) == (sum(kept.values()), "trees_logreg", 0.5)
    assert figures["validation_ne"] < 0.99
    assert trained(made)["digest"] == row["digest"]
    model = artifact.load(row["artifact"])
    assert isinstance(model, TreesLogregModel)
    assert model.columns == ("s_ad", "n_price")
    from clickmill.histories.driver import informed

    test = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
    with informed(made, cfg, [Contender.of(row)], test) as (one,):
        assert one.columns == ("s_ad", "n_price", "event_time")
    with pytest.raises(ConfigError, match=r"models\.hybrid\.trees\.monotone: 'n_pricy' is no column"):
        trained(made, trees=TREES | {"monotone": {"n_pricy": 1}})
    with pytest.raises(DegenerateLabelsError, match="training labels are 0"):
        _train_on_one_label(made)


def _train_on_one_label(made: Tables) -> None:
    """The linear part's time holds no click, though the trees' does."""
    from clickmill.tables import Tables as Fresh

    rows = made.read("sample").where(f"ds = '{DAYS[1]}' and label = 0")
    Fresh(made.spark, made.warehouse, run_id="one").write("sample", rows, replace={"ds": DAYS[1]})
    trained(Fresh(made.spark, made.warehouse, run_id="two"))


def test_train_time_is_shared_at_a_full_hour() -> None:
    def cut(hours: int, share: float) -> int:
        end = datetime(2026, 1, 10)
        whole = Stretch(end - timedelta(hours=hours), end)
        early, late = halves(Stretches(whole, whole, whole), share)
        assert (early.train.start, early.train.end, late.train.end) == (whole.start, late.train.start, end)
        return (end - late.train.start) // timedelta(hours=1)

    assert [cut(24, 0.5), cut(7, 0.4), cut(2, 0.01), cut(2, 0.99)] == [12, 3, 1, 1]
    with pytest.raises(ConfigError, match="1h cannot be shared"):
        cut(1, 0.5)
