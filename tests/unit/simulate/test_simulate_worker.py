"""The simulated log's rows, without Spark: same rows however they are made, and the laws that they keep."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from clickmill.metrics import normalized_entropy
from clickmill.simulate import truth, worker

DAY = date(2026, 1, 5)
SIGMAS = 3.29  # 99.9% of a normal lies within


@cache
def world(*, ctr: float = 0.03, drift: float = 0.0, rows: int = 20_000, new: float = 0.01) -> worker.World:
    bare = worker.World(seed=7, users=20_000, drift=drift, new_value_share=new, rows_per_day=rows)
    return replace(bare, intercept=intercept(ctr))


@cache
def intercept(ctr: float) -> float:
    """Of the default world; drift, rows a day and the share of new values hardly move it."""
    bare = worker.World(seed=7, users=20_000, drift=0.0, new_value_share=0.01, rows_per_day=20_000)
    return worker.intercept_for(bare, ctr)


def log(made: worker.World, *blocks: int) -> pa.Table:
    """The rows of these blocks, counted from DAY on, as one partition."""
    ids = [pa.RecordBatch.from_pydict({"id": pa.array(blocks, pa.int64())})]
    return pa.Table.from_batches(worker.rows(iter(ids), world=made, first=DAY), worker.RAW_LOG)


def days(made: worker.World, count: int) -> pa.Table:
    return log(made, *range(count * worker.blocks_a_day(made)))


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def test_an_empty_partition_makes_no_rows() -> None:
    assert list(worker.rows(iter([]), world=world(), first=DAY)) == []
    assert log(world()).num_rows == 0


@pytest.mark.parametrize("partitions", [3, 7])
def test_rows_are_the_same_for_any_number_of_partitions(partitions: int) -> None:
    made = world(rows=25_000)
    whole = days(made, 3)
    parts = [log(made, *blocks) for blocks in np.array_split(np.arange(9), partitions)]
    assert pa.concat_tables(parts).combine_chunks() == whole.combine_chunks()


def test_a_day_is_the_same_whichever_day_the_log_starts_with() -> None:
    made = world(drift=0.02)
    later = log(made, 2, 3)
    ids = pa.RecordBatch.from_pydict({"id": [0, 1]})
    alone = pa.Table.from_batches(worker.rows(iter([ids]), world=made, first=DAY + timedelta(days=1)))
    assert later == alone


def test_another_seed_gives_other_rows() -> None:
    first = log(world(), 0)
    second = log(replace(world(), seed=8), 0)
    for name in ("time", "user", "I1", "C26", "p_true"):
        assert first[name] != second[name]


def test_a_day_that_is_no_whole_number_of_blocks_has_all_its_rows() -> None:
    made = world(rows=12_345)
    table = days(made, 2)
    assert table.num_rows == 2 * 12_345
    assert len(pc.unique(table["event_id"])) == table.num_rows
    assert pc.value_counts(table["ds"]).field("counts").to_pylist() == [12_345, 12_345]


def test_every_time_lies_on_its_own_day_and_every_hour_is_seen() -> None:
    table = days(world(), 2)
    assert pc.all(pc.equal(table["time"].cast(pa.date32()), table["ds"])).as_py()
    per_hour = np.bincount(pc.hour(table["time"]).to_numpy(), minlength=24)
    assert per_hour.min() > 0
    assert per_hour.max() > 2 * per_hour.min()


@pytest.mark.parametrize("ctr", [0.001, 0.03, 0.2])
def test_the_click_rate_is_the_one_asked_for(ctr: float) -> None:
    table = days(world(ctr=ctr, rows=200_000), 1)
    clicks, n = column(table, "click").sum(), table.num_rows
    assert abs(clicks - n * ctr) <= SIGMAS * np.sqrt(n * ctr * (1 - ctr))


@pytest.mark.parametrize("ctr", [0.001, 0.03])
def test_clicks_are_what_p_true_says(ctr: float) -> None:
    """Overall, in each tenth of p_true and with drift: the sum of clicks is within what chance allows."""
    table = days(world(ctr=ctr, drift=0.05), 5)
    p, click = column(table, "p_true"), column(table, "click")
    order = np.argsort(p)
    for part in (order, *np.array_split(order, 10)):
        allowed = 4 * np.sqrt((p[part] * (1 - p[part])).sum()) + 1
        assert abs(click[part].sum() - p[part].sum()) <= allowed


def test_without_drift_days_far_apart_have_one_click_rate() -> None:
    made = world()
    means = []
    for day in (date(2020, 5, 1), date(2026, 1, 1), date(2031, 12, 31)):
        p = np.concatenate([worker.block_rows(made, day, block)["p_true"].to_numpy() for block in range(2)])
        assert abs(p.mean() - 0.03) <= SIGMAS * p.std() / np.sqrt(len(p))
        means.append(p.mean())
    assert len(set(means)) == 3


def test_the_click_rate_stays_near_what_was_asked_under_the_default_drift() -> None:
    made = world(drift=0.02)
    rates = [
        worker.block_rows(made, DAY + timedelta(days=90 * k), 0)["p_true"].to_numpy().mean() for k in range(20)
    ]
    assert 0.024 < min(rates) < max(rates) < 0.037
    assert np.std(rates) > 2 * 0.03 * 0.013  # more than twice what chance gives blocks of one day


def test_conversions_are_only_among_clicks() -> None:
    table = days(world(ctr=0.2), 1)
    click, conversion = column(table, "click"), column(table, "conversion")
    assert (conversion <= click).all()
    assert 0.05 < conversion.sum() / click.sum() < 0.4


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_so_many_impressions_show_a_value_first_seen_that_day(share: float) -> None:
    made = world(new=share, rows=50_000)
    blocks = worker.blocks_a_day(made)
    before, after = log(made, *range(blocks)), log(made, *range(blocks, 2 * blocks))
    large = truth.SLOTS[truth.CARDINALITIES.index(1_000)]
    there = after[large].drop_null()
    unseen = pc.sum(pc.invert(pc.is_in(there, value_set=pc.unique(before[large])))).as_py() / len(there)
    assert unseen == pytest.approx(share, abs=0.006)


def test_small_slots_bring_nothing_new() -> None:
    table = days(world(new=0.3), 2)
    for name, size in zip(truth.SLOTS, truth.CARDINALITIES, strict=True):
        if size <= 30:
            assert len(pc.unique(table[name].drop_null())) == size


def test_slots_are_zipf_shaped_hex_words() -> None:
    table = days(world(rows=100_000), 1)
    for name in truth.SLOTS:
        words = pc.unique(table[name].drop_null())
        assert pc.all(pc.match_substring_regex(words, "^[0-9a-f]{8}$")).as_py()
    counts = np.sort(pc.value_counts(table["C26"]).field("counts").to_numpy())[::-1]
    assert len(counts) > 5_000  # a long tail …
    assert counts[0] > 0.05 * 100_000  # … below a heavy head
    assert table["C6"].null_count == pytest.approx(5_000, rel=0.1)
    assert table["C1"].null_count == 0


def test_numbers_are_heavy_tailed_integers_with_holes() -> None:
    table = days(world(rows=100_000), 1)
    missing = [table[name].null_count / table.num_rows for name in truth.NUMBERS]
    assert missing == pytest.approx([0.04 * place for place in range(13)], abs=0.01)
    assert pc.min(table["I2"]).as_py() < 0 <= min(pc.min(table[name]).as_py() for name in ("I1", "I5", "I13"))
    last = table["I13"].drop_null().to_numpy()
    assert last.dtype == np.int64
    assert last.mean() > 5 * np.median(last)


def test_the_truth_is_worth_knowing_and_its_crosses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """NE of p_true is 0.75 to 0.85; without the planted crosses' effects it is clearly worse."""
    made = world(rows=100_000)
    table = days(made, 1)
    p, click = column(table, "p_true"), column(table, "click")
    assert 0.75 < normalized_entropy(click, p) < 0.85
    monkeypatch.setattr(truth, "CROSSES", ())
    blunt = replace(made, intercept=worker.intercept_for(made, 0.03))
    without = column(days(blunt, 1), "p_true")
    assert normalized_entropy(click, without) > normalized_entropy(click, p) + 0.03


def test_a_user_has_an_effect_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(rows=100_000)
    known = column(days(made, 1), "p_true")
    monkeypatch.setattr(truth, "USER_SCALE", 0.0)
    table = days(made, 1)
    shift = np.log(known / (1 - known)) - np.log((p := column(table, "p_true")) / (1 - p))
    users = table["user"].to_numpy(zero_copy_only=False)
    assert shift.std() == pytest.approx(0.3, rel=0.2)
    some = users == users[0]
    assert some.sum() > 1
    assert np.ptp(shift[some]) < 1e-9
