"""Where nothing drifts there is no alarm; what is planted is found on the first day, its column named first."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from clickmill.config import Monitor
from clickmill.monitor.figures import ALL, Drawn, figures
from clickmill.monitor.verdict import Verdict, verdict
from clickmill.units import Units

NUMBERS, SLOTS = ("n_price", "n_age"), ("s_ad", "s_site", "s_user")
VALUES = {"s_ad": 50, "s_site": 2_000, "s_user": 1_000_000}
DAY = 5_000


def rows(days: int, *, seed: int, ctr: float = 0.1, price: float = 1.0, other_ads: bool = False) -> Drawn:
    """Days of a log that does not drift, but for what is planted."""
    rng = np.random.default_rng(seed)
    n = days * DAY
    hashes = {name: (rng.zipf(1.3, n) % size).astype(np.int32) for name, size in VALUES.items()}
    if other_ads:
        hashes["s_ad"] += 1_000_000
    age = np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n))
    start = datetime(2026, 1, 1)
    table = pa.table(
        {
            "event_id": [f"{seed}-{i}" for i in range(n)],
            "event_time": pa.array([start + timedelta(seconds=i) for i in range(n)], pa.timestamp("us", "UTC")),
            "label": (rng.random(n) < ctr).astype(np.int8),
            "n_price": (price * rng.lognormal(1, 1, n)).astype(np.float32),
            "n_age": age.astype(np.float32),
            **{name: pa.array(values, pa.int32()) for name, values in hashes.items()},
        }
    )
    return Drawn(table)


def verdict_of(now: Drawn, then: Drawn, against: str = "train") -> Verdict:
    found = figures(now, then, against, numbers=NUMBERS, slots=SLOTS, units=Units(42), seed=42)
    return verdict(found, Monitor())


TRAIN = rows(5, seed=1)


def test_no_drift_is_no_reason_to_train_again():
    levels = [verdict_of(rows(1, seed=seed), TRAIN).level for seed in range(2, 17)]
    assert levels.count("retrain") == 0
    assert levels.count("watch") <= 1


@pytest.mark.slow
def test_no_drift_asks_for_training_on_one_day_in_a_hundred_at_most():
    levels = [verdict_of(rows(1, seed=seed), TRAIN).level for seed in range(2, 502)]
    print({level: levels.count(level) for level in ("none", "watch", "retrain")})
    assert levels.count("retrain") <= 5


@pytest.mark.parametrize(
    ("planted", "column", "word"),
    [
        ({"other_ads": True}, "s_ad", "s_ad: "),
        ({"ctr": 0.12, "seed": 7}, ALL, "the click-through rate is another"),
        ({"price": 1000.0}, "n_price", "n_price: "),
    ],
)
def test_what_is_planted_is_found_on_its_first_day_and_named_first(planted, column, word):
    found = verdict_of(rows(1, **{"seed": 2} | planted), TRAIN)
    assert found.level == "retrain"
    assert found.sentences[0].startswith(word)
    telling = [one for one in found.figures if one.verdict == "retrain"]
    assert column in {one.figure.column for one in telling}


def test_the_classifier_names_the_column_that_gives_the_day_away():
    found = verdict_of(rows(1, seed=2, price=3.0), TRAIN)
    shares = {
        one.figure.column: one.figure.value for one in found.figures if one.figure.statistic == "adversarial_share"
    }
    assert next(iter(shares)) == "n_price"
    assert sum(shares.values()) == pytest.approx(1)


def test_new_values_of_a_large_slot_are_no_excess():
    found = {
        (one.figure.column, one.figure.statistic): one.figure.value
        for one in verdict_of(rows(1, seed=2), TRAIN).figures
    }
    assert found["s_user", "unseen"] > 0.05
    assert abs(found["s_user", "unseen_excess"]) < 0.02


def test_the_day_before_alone_is_watched():
    found = verdict_of(rows(1, seed=2, price=1000.0), rows(1, seed=3), "day_before")
    assert found.level == "watch"


def test_the_same_rows_in_another_order_give_the_same_figures():
    now = rows(1, seed=2)
    order = np.random.default_rng(1).permutation(len(now))
    shuffled = Drawn(now.rows.take(pa.array(order)).sort_by("event_id"))
    sorted_ = Drawn(now.rows.sort_by("event_id"))
    assert verdict_of(shuffled, TRAIN) == verdict_of(sorted_, TRAIN)


def test_too_few_rows_for_a_classifier_leave_its_figures_out():
    few = Drawn(rows(1, seed=2).rows.slice(0, 150))
    assert "adversarial_auc" not in {one.figure.statistic for one in verdict_of(few, TRAIN).figures}
