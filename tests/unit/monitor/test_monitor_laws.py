"""Where nothing drifts there is no alarm; what is planted is found on the first day, its column named first."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from clickmill.config import Monitor
from clickmill.errors import EXIT_INPUT, MissingColumnsError
from clickmill.monitor.figures import ALL, Drawn, Drift, click_rate, click_rate_ratio, figures, past
from clickmill.monitor.verdict import Verdict, verdict
from clickmill.split import Stretch
from clickmill.units import Units, micros

NUMBERS, SLOTS = ("n_price", "n_age"), ("s_ad", "s_site", "s_user")
VALUES = {"s_ad": 50, "s_site": 2_000, "s_user": 1_000_000}
DAY = 5_000
CLICKS = {"day": 12_000, "ctr": 0.1}
"""1,200 clicks a day, and five times as many in train time: so many it takes to tell 20% more from 5% at 99%."""
FEW = {"day": 500, "ctr": 0.03}


def rows(
    days: int, *, seed: int, day: int = DAY, ctr: float = 0.1, price: float = 1.0, other_ads: bool = False
) -> Drawn:
    """Days of a log that does not drift, but for what is planted: several, or the one after them. day: rows of
    each."""
    rng = np.random.default_rng(seed)
    n = days * day
    hashes = {name: (rng.zipf(1.3, n) % size).astype(np.int32) for name, size in VALUES.items()}
    if other_ads:
        hashes["s_ad"] += 1_000_000
    age = np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n))
    start = datetime(2026, 1, 8) - (timedelta(days=days) if days > 1 else timedelta())
    times = [start + timedelta(days=i / day) for i in range(n)]
    table = pa.table(
        {
            "event_id": [f"{seed}-{i}" for i in range(n)],
            "event_time": pa.array(times, pa.timestamp("us", "UTC")),
            "label": (rng.random(n) < ctr).astype(np.int8),
            "n_price": (price * rng.lognormal(1, 1, n)).astype(np.float32),
            "n_age": age.astype(np.float32),
            **{name: pa.array(values, pa.int32()) for name, values in hashes.items()},
        }
    )
    return Drawn(table, Stretch(start, start + timedelta(days=days)))


def with_column(drawn: Drawn, column: str, values: pa.Array) -> Drawn:
    table = drawn.rows.set_column(drawn.rows.schema.get_field_index(column), column, values)
    return Drawn(table, drawn.stretch)


def verdict_of(now: Drawn, then: Drawn, against: str = "train") -> Verdict:
    found = figures(now, then, against, numbers=NUMBERS, slots=SLOTS, units=Units(42), seed=42)
    return verdict(found, Monitor())


def figures_of(now: Drawn, then: Drawn) -> dict[tuple[str, str], Drift]:
    return {(one.figure.column, one.figure.statistic): one.figure for one in verdict_of(now, then).figures}


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


@pytest.mark.slow
@pytest.mark.parametrize("size", [FEW, {"day": 60, "ctr": 0.03}])
def test_days_of_few_clicks_ask_for_training_no_more_often(size):
    levels = [
        verdict_of(rows(1, seed=seed, **size), rows(7, seed=10_000 + seed, **size)).level for seed in range(500)
    ]
    print({level: levels.count(level) for level in ("none", "watch", "retrain")})
    assert levels.count("retrain") <= 5


def of_short_life(drawn: Drawn, days: float, alive: int, *, seed: int, first: int = 0) -> Drawn:
    """The rows, each with one of as many ads (or sessions) as are alive at a time: each lives so many days, and
    another takes its place."""
    place = np.random.default_rng(seed).integers(0, alive, len(drawn))
    past = (micros(drawn.rows["event_time"]) / 86_400e6 / days + place / alive).astype(np.int64) % 1_000_000
    return with_column(drawn, "s_ad", pa.array(first + past * alive + place, pa.int32()))


LIVES = [(0.02, 5), (0.02, 100), (1.0, 40), (2.0, 10), (2.0, 40), (3.0, 200), (10.0, 50)]
"""Of sessions of half an hour, and of advertisements: days, and how many at a time."""


@pytest.mark.parametrize("life", LIVES)
def test_values_that_live_short_are_no_drift_and_hide_none(life):
    train = of_short_life(TRAIN, *life, seed=1)
    found = [verdict_of(of_short_life(rows(1, seed=seed), *life, seed=seed), train) for seed in range(2, 7)]
    assert [one.level for one in found if one.level == "retrain"] == []
    priced = verdict_of(of_short_life(rows(1, seed=2, price=1000.0), *life, seed=2), train)
    assert (priced.level, priced.sentences[0].split(":")[0]) == ("retrain", "n_price")
    assert verdict_of(rows(1, seed=2), rows(2, seed=1), "day_before").level == "none"


@pytest.mark.parametrize("life", [(2.0, 40), (3.0, 200), (10.0, 50)])
def test_values_that_live_short_are_found_when_all_are_replaced(life):
    train = of_short_life(TRAIN, *life, seed=1)
    found = verdict_of(of_short_life(rows(1, seed=2), *life, seed=2, first=10**9), train)
    assert (found.level, found.sentences[0].split(":")[0]) == ("retrain", "s_ad")


@pytest.mark.slow
@pytest.mark.parametrize("life", LIVES)
def test_values_that_live_short_ask_for_training_no_more_often(life):
    levels = []
    for seed in range(200):
        train = of_short_life(rows(5, seed=10_000 + seed, day=1000), *life, seed=seed)
        levels.append(verdict_of(of_short_life(rows(1, seed=seed, day=1000), *life, seed=300 + seed), train).level)
    print(life, {level: levels.count(level) for level in ("none", "watch", "retrain")})
    assert levels.count("retrain") <= 2


@pytest.mark.slow
def test_a_fifth_more_clicks_are_found_on_the_first_day():
    train = rows(5, seed=1, **CLICKS)
    found = [verdict_of(rows(1, seed=seed, **CLICKS | {"ctr": 0.12}), train) for seed in range(2, 62)]
    retrain = [one for one in found if one.level == "retrain"]
    print({level: sum(one.level == level for one in found) for level in ("none", "watch", "retrain")})
    assert len(retrain) >= 57
    assert all(one.sentences[0].startswith("the click-through rate is another") for one in retrain)


def test_few_rows_without_a_click_say_nothing():
    few = rows(1, seed=2, day=60, ctr=0.0)
    assert verdict_of(few, rows(7, seed=1, **FEW)).level == "none"
    figure = figures_of(few, rows(7, seed=1, **FEW))[ALL, "ctr_ratio"]
    assert (figure.value, figure.low) == (0, 0)
    assert figure.high > 1


def test_a_whole_day_without_a_click_is_watched_since_training_on_it_would_learn_nothing():
    found = verdict_of(rows(1, seed=2, ctr=0.0), TRAIN)
    assert (found.level, len(found.sentences)) == ("watch", 1)
    assert found.sentences[0].startswith("the click-through rate is another")


def test_clicks_that_come_together_prove_less():
    users = [f"u{i // 20}" for i in range(DAY)]
    label = np.repeat(np.random.default_rng(1).random(DAY // 20) < 0.1, 20).astype(np.int8)
    day = with_column(rows(1, seed=2), "label", pa.array(label))
    day = Drawn(day.rows.append_column("c_user", [users]), day.stretch)
    alone, together = (click_rate(day, Units(42, column=column)) for column in (None, "c_user"))
    assert alone.value == together.value == label.mean()
    widths = [one.high - one.low for one in (alone, together)]
    assert widths[1] / widths[0] == pytest.approx(20**0.5, rel=0.15)
    ratio = click_rate_ratio(day, day, Units(42, column="c_user"))
    plain = click_rate_ratio(day, day, Units(42))
    assert np.log(ratio.high) / np.log(plain.high) == pytest.approx(20**0.5, rel=0.2)
    assert click_rate_ratio(day, day, Units(42, hours=24)) == (1.0, None, None)


@pytest.mark.parametrize(
    ("planted", "column", "word"),
    [
        ({"other_ads": True}, "s_ad", "s_ad: "),
        (CLICKS | {"ctr": 0.12}, ALL, "the click-through rate is another"),
        ({"price": 1000.0}, "n_price", "n_price: "),
    ],
)
def test_what_is_planted_is_found_on_its_first_day_and_named_first(planted, column, word):
    found = verdict_of(rows(1, seed=2, **planted), rows(5, seed=1, day=planted.get("day", DAY)))
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
    found = figures_of(rows(1, seed=2), TRAIN)
    assert found["s_user", "unseen"].value > 0.05
    assert found["s_user", "unseen_excess"].value < 0.02


def of_users(drawn: Drawn, users: int, *, first: int = 0, seed: int) -> Drawn:
    """The rows, of so many users that most of them come once."""
    drawn_users = np.random.default_rng(seed).integers(0, users, len(drawn)) + first
    return with_column(drawn, "s_user", pa.array(drawn_users, pa.int32()))


@pytest.mark.parametrize("users", [100_000, 300_000, 1_000_000])
def test_values_that_mostly_come_once_are_found_when_all_are_replaced(users):
    train, day = of_users(TRAIN, users, seed=1), rows(1, seed=2)
    assert verdict_of(of_users(day, users, seed=2), train).level == "none"
    found = verdict_of(of_users(day, users, first=5_000_000, seed=2), train)
    assert found.level == "retrain"
    assert found.sentences[0].startswith("s_user: values that used to come again are gone: seen_ratio 0.000")


def test_values_that_never_come_again_have_nothing_to_lose():
    ids = [
        with_column(one, "s_user", pa.array(np.arange(len(one)) + first, pa.int32()))
        for one, first in ((rows(1, seed=2), 10**6), (TRAIN, 0))
    ]
    found = figures_of(*ids)
    assert ("s_user", "seen_ratio") not in found
    assert found["s_user", "unseen_excess"].value == 0


def test_a_column_that_follows_the_clock_is_no_drift_whatever_the_order_of_the_ids():
    train, now = (clockwise(seed) for seed in (1, 2))
    found = verdict_of(now, train)
    assert found.level == "none", found.sentences
    auc = next(one.figure for one in found.figures if one.figure.statistic == "adversarial_auc")
    assert auc.low < 0.5 < auc.high


def clockwise(seed: int) -> Drawn:
    """A day, or two of train time, whose ids and ages rise from midnight on."""
    drawn = rows(2 if seed == 1 else 1, seed=seed, day=6_000)
    hour = 24 * (np.arange(len(drawn)) % 6_000) / 6_000
    age = hour + np.random.default_rng(seed).normal(0, 1, len(drawn))
    ids = with_column(drawn, "event_id", pa.array([f"{i:08}" for i in range(len(drawn))]))
    return with_column(ids, "n_age", pa.array(age, pa.float32()))


def test_a_number_too_large_for_a_float_is_the_largest_one():
    price = TRAIN.rows["n_price"].to_numpy().copy()
    price[[3, 5]] = np.inf, -np.inf
    train = with_column(TRAIN, "n_price", pa.array(price))
    assert verdict_of(rows(1, seed=2), train).level == "none"
    assert verdict_of(with_column(rows(1, seed=2), "n_price", pa.array(price[:DAY])), TRAIN).level == "none"
    huge = np.finfo(np.float32).max
    assert train.number("n_price")[[3, 5]].tolist() == [huge, -huge]


def test_a_slot_that_older_days_were_made_without_is_wrong_input_with_its_days():
    site = TRAIN.rows["s_site"].to_pylist()
    site[100:105] = [None] * 5
    train = with_column(TRAIN, "s_site", pa.array(site, pa.int32()))
    lacking = with_column(rows(1, seed=2), "s_site", pa.array([None] * 5 + site[-DAY + 5 :], pa.int32()))
    for sides in ((rows(1, seed=2), train), (lacking, TRAIN)):
        with pytest.raises(
            MissingColumnsError, match=r"s_site is null in 5 .* run build_features .*\(2026-01-0[38]\)"
        ):
            verdict_of(*sides)
    assert MissingColumnsError.exit_code == EXIT_INPUT


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_a_train_time_of_next_to_no_rows_says_nothing(count):
    few = Drawn(TRAIN.rows.slice(len(TRAIN) - count), TRAIN.stretch)
    assert verdict_of(rows(1, seed=2), few).level == "none"


def test_one_session_that_went_on_past_midnight_is_not_missed():
    session = np.arange(len(TRAIN))
    session[4 * DAY - 20 : 4 * DAY + 40] = 0
    train = with_column(TRAIN, "s_user", pa.array(session, pa.int32()))
    now = with_column(rows(1, seed=2), "s_user", pa.array(np.arange(DAY) + 10**6, pa.int32()))
    ratio = figures_of(now, train)["s_user", "seen_ratio"]
    assert ratio.value == 0
    assert ratio.high > 1
    assert verdict_of(now, train).level == "none"


def verdict_of_both(now: Drawn, train: Drawn, before: Drawn) -> Verdict:
    """As `monitor` looks at a day."""
    found = [
        one
        for then, against in ((train, "train"), (before, "day_before"))
        for one in figures(now, then, against, numbers=NUMBERS, slots=SLOTS, units=Units(42), seed=42)
    ]
    return verdict(found, Monitor())


def day_after(drawn: Drawn, days: int) -> Drawn:
    """The rows, so many days later."""
    later = timedelta(days=days)
    times = pa.array([time + later for time in drawn.rows["event_time"].to_pylist()], pa.timestamp("us", "UTC"))
    moved = drawn.rows.set_column(drawn.rows.schema.get_field_index("event_time"), "event_time", times)
    return Drawn(moved, Stretch(*(end + later for end in drawn.stretch)))


@pytest.mark.parametrize("hours", [24, 36])
@pytest.mark.parametrize("life", [(0.02, 5), (2.0, 40), None])
def test_too_short_a_train_time_leaves_slots_to_the_day_before(hours, life):
    before = rows(2, seed=1)
    now, other = rows(1, seed=2), rows(1, seed=2, other_ads=True)
    if life:
        before, now = (of_short_life(one, *life, seed=seed) for seed, one in enumerate((before, now)))
        other = of_short_life(rows(1, seed=2), *life, seed=2, first=10**9)
    train = before.within(Stretch(before.stretch.end - timedelta(hours=hours), before.stretch.end))
    assert verdict_of_both(now, train, before).level != "retrain"
    said = {(one.figure.column, one.figure.statistic) for one in verdict_of(other, train).figures}
    assert {("s_ad", "psi"), ("s_ad", "unseen")} < said
    assert not said & {("s_ad", "unseen_excess"), ("s_ad", "seen_ratio"), ("s_ad", "adversarial_share")}
    if life != (0.02, 5):  # (sessions are all replaced by the next day)
        found = verdict_of_both(other, train, before)
        assert (found.level, found.sentences[0][:6]) == ("retrain", "s_ad: ")
        assert "against the day before" in found.sentences[0]


@pytest.mark.parametrize("life", [(2.0, 40), (10.0, 50), (30.0, 200)])
def test_a_champion_of_long_ago_is_not_blamed_for_values_that_have_passed(life):
    train = of_short_life(TRAIN, *life, seed=1)
    then, now = day_after(rows(2, seed=3), 20), day_after(rows(1, seed=2), 20)
    before = of_short_life(then, *life, seed=3)
    assert verdict_of_both(of_short_life(now, *life, seed=2), train, before).level != "retrain"
    replaced = verdict_of_both(of_short_life(now, *life, seed=2, first=10**9), train, before)
    assert (replaced.level, replaced.sentences[0][:6]) == ("retrain", "s_ad: ")


def test_a_quiet_weekend_at_the_end_of_train_time_makes_no_values_new():
    shares = np.repeat([1, 1, 1, 0.3, 0.3], DAY)
    keep = pa.array(np.random.default_rng(1).random(len(TRAIN)) < shares)
    train, now = (of_users(one, 5000, seed=seed) for seed, one in enumerate((TRAIN, rows(1, seed=2))))
    quiet = Drawn(train.rows.filter(keep), train.stretch)
    assert verdict_of(day_after(now, 3), quiet).level == "none"
    assert verdict_of(day_after(of_users(now, 5000, seed=3, first=10**6), 3), quiet).level == "retrain"


@pytest.mark.parametrize("lag", [0, 1, 2, 3, 4, 30])
def test_what_is_usual_is_measured_as_far_apart_as_the_day_is(lag):
    end = TRAIN.stretch.end
    found = past(TRAIN, Stretch(end + timedelta(days=lag), end + timedelta(days=lag + 1)), "train", 42)
    days = max(4 - lag, 0)
    assert [len(side) for side in found] == [5 * DAY, days * DAY, DAY, days * DAY]
    assert found.tells_usual == (days > 0)
    if days:
        assert found.known.stretch == (end - timedelta(days=days), end)
        assert found.before.stretch == (end - timedelta(days=5), end - timedelta(days=5 - days))
        assert found.last.stretch == (end - timedelta(days=1), end)


def test_the_day_before_alone_is_watched():
    found = verdict_of(rows(1, seed=2, price=1000.0), rows(2, seed=3), "day_before")
    assert found.level == "watch"


def test_a_slot_that_train_time_knows_of_is_watched_against_the_day_before():
    yesterday = Drift("day_before", "s_ad", "unseen_excess", 0.9)
    known = [Drift("train", "s_ad", "unseen", 0.0), Drift("train", "s_ad", "unseen_excess", 0.0)]
    assert verdict([*known, yesterday], Monitor()).level == "watch"
    assert verdict([known[0], yesterday], Monitor()).level == "retrain", "train time cannot tell of it"


def test_the_same_rows_in_another_order_give_the_same_figures():
    now = rows(1, seed=2)
    order = np.random.default_rng(1).permutation(len(now))
    assert verdict_of(Drawn(now.rows.take(pa.array(order)), now.stretch), TRAIN) == verdict_of(now, TRAIN)


def test_too_few_rows_for_a_classifier_leave_its_figures_out():
    few = Drawn(rows(1, seed=2).rows.slice(0, 150), rows(1, seed=2).stretch)
    assert "adversarial_auc" not in {one.figure.statistic for one in verdict_of(few, TRAIN).figures}
