"""train_xgboost on Spark and Delta: as good trees on one to four ranks, through files and through Spark."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import counted_days
import judged_day
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
from counted_days import DAYS, LOG, TEST
from pyspark import cloudpickle

from clickmill import reader
from clickmill.config import Config
from clickmill.errors import (
    ConfigError,
    MissingColumnsError,
    MissingTableError,
    NotEnoughSlotsError,
    RankError,
    SchemaError,
    UnsupportedTableError,
)
from clickmill.metrics import normalized_entropy
from clickmill.models import artifact
from clickmill.models.xgboost import XgboostModel
from clickmill.scoring import Contender
from clickmill.split import Stretch, stretches
from clickmill.train.xgboost import driver, worker
from clickmill.train.xgboost.driver import train

if TYPE_CHECKING:
    from clickmill.tables import Tables

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have no tests on their path


def config(tables: Tables, **spec: Any) -> Config:
    known = {"kind": "xgboost", "history": "2d", "rounds": 20, "max_depth": 3, "ranks": 2, "checkpoint_rounds": 5}
    return counted_days.config(tables, trees=known | spec)


@pytest.fixture
def made(tables: Tables) -> Tables:
    return counted_days.prepared(tables)


def trained(tables: Tables, **spec: Any) -> dict[str, Any]:
    cfg = config(tables, **spec)
    found = stretches(cfg.split, datetime(2026, 1, 10, 23))
    return train(tables, cfg, name="trees", ds=DAYS[3], stretches=found)


def model_of(row: dict[str, Any]) -> XgboostModel:
    model = artifact.load(row["artifact"])
    assert isinstance(model, XgboostModel)
    return model


def judged(tables: Tables, row: dict[str, Any], rows: pa.RecordBatch = TEST) -> np.ndarray:
    """p_sampled of rows of test time, their values encoded by what was known before each row."""
    from clickmill.histories.driver import informed

    test = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
    with informed(tables, config(tables), [Contender.of(row)], test) as (one,):
        assert one.columns == ("n_price", "s_ad", "event_time")
        return np.asarray(one.p_sampled(rows))


def _refuse(*_: Any, **__: Any) -> None:
    raise UnsupportedTableError("has deletion vectors")


def test_as_good_trees_on_one_two_and_four_ranks_and_through_spark(
    made: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = trained(made)
    figures = json.loads(row["training"])
    assert (row["status"], row["kind"], row["keep_rate"]) == ("trained", "xgboost", 0.5)
    assert json.loads(row["versions"]).keys() == {"sample", "features", "encodings"}
    assert figures["validation_rows"] == 6000
    assert figures["validation_ne"] < 0.97
    assert trained(made)["digest"] == row["digest"]
    label = TEST["label"].to_numpy()
    p = judged(made, row)
    ne = normalized_entropy(label, p / (p + (1 - p) / 0.5))
    found = [trained(made, ranks=1), trained(made, ranks=4)]
    monkeypatch.setattr(reader, "plan", _refuse)
    found.append(trained(made))
    monkeypatch.undo()
    for other in found:
        again = judged(made, other)
        assert json.loads(other["training"])["rows"] == figures["rows"]
        assert normalized_entropy(label, again / (again + (1 - again) / 0.5)) == pytest.approx(ne, abs=5e-3)


@pytest.mark.slow
def test_ne_is_within_0_0005_on_one_two_and_four_ranks(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    log = judged_day.features(DAYS, 250_000)
    truth = log["c_p_true"].to_numpy()
    price = np.log(truth / (1 - truth)) + np.random.default_rng(0).normal(size=log.num_rows)
    log = log.set_column(log.schema.get_field_index("n_price"), "n_price", pa.array(price.astype(np.float32)))
    (test,) = log.filter(pc.equal(log["ds"], pa.scalar(DAYS[3]))).combine_chunks().to_batches()
    made, label = counted_days.prepared(tables, log), test["label"].to_numpy()
    found = []
    for ranks in (1, 2, 4):
        p = judged(made, trained(made, ranks=ranks), test)
        found.append(normalized_entropy(label, p / (p + (1 - p) / 0.5)))
    with capsys.disabled():
        print(f"\nNE on test time by 1, 2 and 4 ranks: {', '.join(f'{ne:.6f}' for ne in found)}")
    assert max(found) - min(found) < 5e-4
    assert max(found) < 0.97


def test_a_rank_without_rows_takes_part(made: Tables) -> None:
    from clickmill.tables import Tables as Fresh

    one_file = made.read("sample").coalesce(1)
    Fresh(made.spark, made.warehouse, run_id="one").write("sample", one_file, replace={"ds": DAYS})
    tables = Fresh(made.spark, made.warehouse, run_id="two")
    shards = tables.shards("sample", days=[DAYS[1]], number=4)
    assert sorted(shard.rows > 0 for shard in shards) == [False, False, False, True]
    alone, four = trained(tables, ranks=1), trained(tables, ranks=4)
    assert model_of(alone).booster.get_dump() == model_of(four).booster.get_dump()


def test_a_rank_without_clicks_takes_part_and_losses_are_those_of_all_rows(made: Tables) -> None:
    """A mean of the two ranks' means would be far from the log-loss of all rows: one has the clicks alone."""
    from clickmill.tables import Tables as Fresh

    by_label = made.read("sample").repartitionByRange(2, "label")
    Fresh(made.spark, made.warehouse, run_id="by label").write("sample", by_label, replace={"ds": DAYS})
    tables = Fresh(made.spark, made.warehouse, run_id="two")
    clicks = [
        sum(pc.sum(batch["label"]).as_py() for batch in reader.read(shard, columns=["label"]))
        for shard in tables.shards("sample", days=[DAYS[1]], number=2)
    ]
    assert min(clicks) == 0 < max(clicks)
    alone, two = (json.loads(trained(tables, ranks=ranks)["training"]) for ranks in (1, 2))
    losses = [np.array([(one[0], one[1]) for one in figures["history"]][:5]) for figures in (alone, two)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01)


def test_a_model_scores_the_next_day_as_the_judge_would_by_the_counts_it_brings_along(made: Tables) -> None:
    row = trained(made)
    model = model_of(row)
    later = TEST.set_column(
        1,
        "event_time",
        pc.add(TEST["event_time"], pa.scalar(timedelta(days=1))).cast(pa.timestamp("us", tz="UTC")),
    )
    from clickmill.histories.driver import informed

    next_day = Stretch(datetime(2026, 1, 11), datetime(2026, 1, 12))
    with informed(made, config(made), [Contender.of(row)], next_day) as (one,):
        np.testing.assert_array_equal(one.p_sampled(later), Contender.of(row).p_sampled(TEST))
    assert not np.array_equal(judged(made, row), Contender.of(row).p_sampled(TEST)), "a day more is known"
    assert model.card.encodings is not None
    assert model.card.encodings["as_of"] == "2026-01-11T00:00:00"
    assert model.encoded == ("s_ad",)


def test_what_test_time_says_reaches_no_training_and_no_judgement(made: Tables) -> None:
    from clickmill.jobs import encode
    from clickmill.tables import Tables as Fresh

    row, p = trained(made), judged(made, trained(made))
    flipped = LOG.set_column(
        2, "label", pc.if_else(pc.equal(LOG["ds"], pa.scalar(DAYS[3])), pa.scalar(1, pa.int8()), LOG["label"])
    )
    judged_day.write_features(Fresh(made.spark, made.warehouse, run_id="flip"), flipped)
    running.run(Fresh(made.spark, made.warehouse, run_id="again"), encode.JOB, config(made), DAYS)
    tables = Fresh(made.spark, made.warehouse, run_id="later")
    again = trained(tables)
    assert model_of(again).booster.save_raw("json") == model_of(row).booster.save_raw("json")
    np.testing.assert_array_equal(judged(tables, again), p)


def _die_in_the_second_chunk(line: str) -> None:
    if line.startswith("round 8:"):
        os.kill(os.getpid(), signal.SIGKILL)


def _fit_until_killed(source: Any, ring: Any, say: Any, *, task: Any) -> Any:
    tell = _die_in_the_second_chunk if ring.rank == 1 else say
    return worker.rows_of(worker.fit(source, ring, task, say=tell), ring.rank)


def test_a_killed_rank_ends_the_job_by_its_number_and_the_rerun_goes_on(
    made: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(made, subsample=0.5)
    shutil.rmtree(Path(whole["artifact"]).parent)
    start = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_fit", _fit_until_killed)
        with pytest.raises(RankError, match="rank 1 was killed or lost"):
            trained(made, subsample=0.5)
    assert time.monotonic() - start < 30
    (left,) = Path(made.warehouse, "_models", driver.CHECKPOINTS).iterdir()
    assert sorted(place.name for place in left.iterdir()) == ["000005"]
    said: list[str] = []
    cfg = config(made, subsample=0.5)
    found = stretches(cfg.split, datetime(2026, 1, 10, 23))
    again = train(made, cfg, name="trees", ds=DAYS[3], stretches=found, say=said.append)
    assert said[0].startswith("trees: warning: encodings look back to 2026-01-06, and 2026-01-06 was not counted")
    assert said[1] == "trees: goes on after round 5, where an earlier run stopped"
    assert again["digest"] == whole["digest"]
    assert not left.exists()


def test_a_warm_start_goes_on_from_an_earlier_model(made: Tables) -> None:
    row = trained(made)
    made.write("models", [row], replace={"ds": DAYS[3], "name": "trees"})
    with pytest.raises(MissingTableError, match="no model 'nobody'"):
        trained(made, warm_start="nobody")
    with pytest.raises(ConfigError, match=r"eats n_price, e_ad_impressions, .*; this model e_ad_impressions"):
        trained(made, warm_start=row["model_id"], columns={"numbers": []})
    more = trained(made, warm_start=row["model_id"], rounds=3)
    figures = json.loads(more["training"])
    before = json.loads(row["training"])["rounds"]
    assert (figures["warm_start"]["rounds"], figures["rounds_before"]) == (before, before)
    assert model_of(more).booster.num_boosted_rounds() == before + figures["rounds"]


def test_what_cannot_be_trained_or_judged_is_refused_by_name(made: Tables) -> None:
    from clickmill.histories.driver import informed

    with pytest.raises(NotEnoughSlotsError, match="9 ranks"):
        trained(made, ranks=9)
    with pytest.raises(ConfigError, match="'n_pricy' is no column of this model; did you mean 'n_price'"):
        trained(made, monotone={"n_pricy": 1})
    cfg = config(made)
    early = stretches(cfg.split, datetime(2026, 1, 5))
    with pytest.raises(MissingColumnsError, match="s_ad was not counted from 2025-12-31"):
        train(made, cfg, name="trees", ds=DAYS[0], stretches=early)
    row = trained(made)
    hourly = replace_period(config(made), "hour")
    test = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
    with (
        pytest.raises(SchemaError, match=r"by the day, and encodings\.period is hour"),
        informed(made, hourly, [Contender.of(row)], test),
    ):
        pass


def replace_period(cfg: Config, period: str) -> Config:
    values = cfg.model_dump()
    values["encodings"]["period"] = period
    return Config.model_validate(values)


def test_a_contender_that_is_stored_forgets_where_histories_were(made: Tables) -> None:
    one = replace(Contender.of(trained(made)), histories="/somewhere")
    assert Contender.from_json(one.to_json()).histories == ""
