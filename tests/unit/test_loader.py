"""The loader: every row once an epoch, the same order on every rerun, equal steps, and on from any step."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import WriterProperties, write_deltalake

from clickmill import reader
from clickmill.errors import (
    InputError,
    MissingColumnsError,
    MissingTableError,
    NoRowsError,
    NotEnoughRowGroupsError,
)
from clickmill.loader import Batch, Columns, Counted, Loader, counted
from clickmill.models import xgboost as trees
from clickmill.reader import Shard
from clickmill.split import Stretch

ROWS, GROUP, BATCH = 10_000, 700, 256
START = datetime(2026, 1, 1)
COLUMNS = Columns(("s_ad", "s_site"), ("n_price",), weight="weight", carried=("event_id",))
WITHIN = Stretch(START + timedelta(hours=5, minutes=7), START + timedelta(hours=31))


def rows(**changes: Any) -> pa.Table:
    """Two days, the times of a row group close together; a tenth of the prices is missing."""
    rng = np.random.default_rng(0)
    price = rng.normal(size=ROWS).astype(np.float32)
    times = np.datetime64(START, "us") + np.sort(rng.integers(0, 48 * 3_600_000_000, ROWS)).astype(
        "timedelta64[us]"
    )
    columns: dict[str, Any] = {
        "event_id": [f"e{i}" for i in range(ROWS)],
        "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "label": (rng.random(ROWS) < 0.2).astype(np.int8),
        "weight": np.where(np.arange(ROWS) % 3 == 0, 1.0, 2.5),
        "s_ad": rng.integers(-(2**31), 2**31, ROWS).astype(np.int32),
        "s_site": np.arange(ROWS, dtype=np.int32),
        "n_price": pa.array(price, mask=rng.random(ROWS) < 0.1),
        "ds": pa.array(times.astype("datetime64[D]"), pa.date32()),
    }
    return pa.table(columns | changes)


TABLE = rows()


def pieces(folder: Path, table: pa.Table = TABLE, stretch: Stretch | None = WITHIN) -> tuple[Counted, ...]:
    properties = WriterProperties(max_row_group_size=GROUP)
    write_deltalake(str(folder), table, partition_by=["ds"], writer_properties=properties)
    (shard,) = reader.plan(str(folder), version=0, shards=1)
    return counted(shard.pieces, stretch)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Counted, ...]:
    return pieces(tmp_path_factory.mktemp("table"))


def loader(found: Sequence[Counted], **changes: Any) -> Loader:
    return Loader(found, COLUMNS, **({"batch_rows": BATCH, "seed": 1, "window_rows": 1000} | changes))


def ids(batches: Sequence[Batch]) -> list[str]:
    return [one for batch in batches for one in batch.carried["event_id"].to_pylist()]


def within() -> list[str]:
    times = TABLE["event_time"].cast(pa.timestamp("us")).to_numpy()
    start, end = (np.datetime64(edge, "us") for edge in WITHIN)
    return np.array(TABLE["event_id"].to_pylist())[(times >= start) & (times < end)].tolist()


def same(one: Batch, other: Batch) -> bool:
    arrays = zip(one[1:5], other[1:5], strict=True)
    return one.step == other.step and all(a.tobytes() == b.tobytes() for a, b in arrays)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_row_of_the_stretch_comes_once_an_epoch_in_equal_steps(
    found: tuple[Counted, ...], size: int
) -> None:
    ranks = [loader(found, rank=rank, size=size) for rank in range(size)]
    for epoch in (0, 1):
        parts = [list(one.epoch(epoch)) for one in ranks]
        assert Counter(one for part in parts for one in ids(part)) == Counter(within())
        longest = -(-len(within()) // size)
        assert {len(part) for part in parts} == {-(-longest // BATCH)} == {one.steps for one in ranks}
        for batch in (batch for part in parts for batch in part):
            assert batch.whole.shape == (BATCH, 2)
            assert batch.real.shape == (BATCH, 1)
            assert batch.label.shape == batch.weight.shape == (BATCH,)
            assert (batch.weight > 0).sum() == batch.rows == len(batch.carried)
            assert not batch.weight[batch.rows :].any()


def test_a_batch_has_the_table_s_values_row_by_row(found: tuple[Counted, ...]) -> None:
    for batch in loader(found).epoch(3):
        own = TABLE.take([int(one[1:]) for one in ids([batch])])
        number = batch.rows
        for place, name in enumerate(COLUMNS.whole):
            np.testing.assert_array_equal(batch.whole[:number, place], own[name].to_numpy())
        np.testing.assert_array_equal(batch.real[:number, 0], own["n_price"].to_numpy())
        np.testing.assert_array_equal(batch.label[:number], own["label"].to_numpy())
        np.testing.assert_array_equal(batch.weight[:number], own["weight"].to_numpy().astype(np.float32))


def test_batches_lie_in_the_memory_that_was_asked_for(found: tuple[Counted, ...]) -> None:
    made: list[Any] = []

    def empty(shape: Any, kind: type) -> Any:
        made.append(np.empty(shape, kind))
        return made[-1]

    one, plain = next(loader(found, empty=empty).epoch(0)), next(loader(found).epoch(0))
    for part, other in zip(one[1:5], plain[1:5], strict=True):
        assert any(np.shares_memory(part, own) for own in made)
        np.testing.assert_array_equal(part, other)


def test_a_row_s_file_and_row_group_are_known(found: tuple[Counted, ...]) -> None:
    held = {}
    for piece, _, _ in found:
        batches = reader.read(Shard((piece,)), columns=("event_id",))
        name = f"{piece.path}, row group {piece.row_group}"
        held[name] = {one for own in batches for one in own["event_id"].to_pylist()}
    for batch in loader(found).epoch(3):
        for row, one in enumerate(ids([batch])):
            (name,) = batch.sources(np.array([row]))
            assert one in held[name]
    assert set(batch.sources(np.arange(batch.rows))) <= held.keys()


def test_a_number_too_large_for_a_float_is_the_largest_as_where_it_is_scored(tmp_path: Path) -> None:
    price = np.resize(np.array([np.inf, -np.inf, np.nan, 1.5], np.float32), ROWS)
    scored = trees.numbers(pa.RecordBatch.from_pydict({"n_price": price[:4]}), "n_price")
    with_nulls, without = pa.array(price, mask=np.arange(ROWS) % 8 == 0), pa.array(price)
    for place, column in enumerate((with_nulls, without)):
        own = pieces(tmp_path / str(place), rows(n_price=column))
        found = np.concatenate([batch.real[: batch.rows, 0] for batch in loader(own).epoch(0)])
        np.testing.assert_array_equal(np.unique(found), np.unique(scored))


def test_the_order_hangs_on_seed_and_epoch_and_not_on_what_is_read_ahead(found: tuple[Counted, ...]) -> None:
    plain = ids(list(loader(found).epoch(0)))
    for changes in ({"threads": 4}, {"ahead": 3}, {"threads": 3, "ahead": 0}):
        assert ids(list(loader(found, **changes).epoch(0))) == plain
    for other in (loader(found).epoch(1), loader(found, seed=2).epoch(0)):
        assert ids(list(other)) != plain
    assert loader(found).parts(0) != loader(found).parts(1)
    places = np.array([int(one[1:]) for one in plain])
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.5
    assert np.mean(np.abs(np.diff(places)) == 1) < 0.01


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (1, 2), (2, 3)])
def test_it_goes_on_at_any_step_with_what_remains_to_the_bit(
    found: tuple[Counted, ...], rank: int, size: int
) -> None:
    one = loader(found, rank=rank, size=size)
    whole = list(one.epoch(5))
    for first in (0, 1, 3, 4, 5, len(whole) - 1, len(whole)):
        rest = list(loader(found, rank=rank, size=size).epoch(5, first=first))
        assert len(rest) == len(whole) - first
        assert all(same(a, b) for a, b in zip(rest, whole[first:], strict=True))
        assert ids(rest) == ids(whole[first:])


def test_going_on_reads_no_row_group_of_the_steps_before(found: tuple[Counted, ...]) -> None:
    one = loader(found)
    assert [part.last - part.first for part in one.parts(0)] == [
        one._pieces[place].rows for place in np.random.default_rng([1, 0, 0]).permutation(len(found))
    ]
    later = one.parts(0, skip=5000)
    assert sum(part.last - part.first for part in later) == len(within()) - 5000
    assert len(later) < len(one.parts(0))


def test_only_row_groups_on_an_end_of_the_stretch_are_read_to_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    plain = reader.read
    monkeypatch.setattr(reader, "read", lambda shard, **asked: (read.append(shard), plain(shard, **asked))[1])
    found = pieces(tmp_path)
    assert sum(one.rows for one in found) == len(within())
    assert 1 <= len(read) <= 2
    assert sum(one.rows for one in pieces(tmp_path / "all", stretch=None)) == ROWS


def test_a_training_that_stops_early_leaves_no_thread(found: tuple[Counted, ...]) -> None:
    before = threading.active_count()
    batches = loader(found, threads=3, ahead=2).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_each_window_is_shuffled_by_a_draw_of_its_own(tmp_path: Path) -> None:
    found = pieces(tmp_path, TABLE.slice(0, GROUP), stretch=None)
    batches = list(Loader(found, COLUMNS, batch_rows=100, seed=0, window_rows=100).epoch(0))
    orders = [tuple(int(one[1:]) % 100 for one in ids([batch])) for batch in batches]
    assert len(orders) == len(set(orders)) == GROUP // 100


def test_a_rank_whose_rows_end_first_goes_on_with_weight_0(tmp_path: Path) -> None:
    found = pieces(tmp_path, TABLE.slice(0, 5), stretch=None)
    alone = Loader(found, COLUMNS, batch_rows=2, seed=0)
    assert [batch.rows for batch in alone.epoch(0)] == [2, 2, 1]
    empty = list(alone.epoch(0, first=3))
    assert empty == []


def test_a_batch_is_no_larger_than_what_a_rank_has(tmp_path: Path) -> None:
    found = pieces(tmp_path, TABLE.slice(0, 5), stretch=None)
    batches = list(Loader(found, COLUMNS, batch_rows=10**9, seed=0).epoch(0))
    assert [(batch.rows, len(batch.label)) for batch in batches] == [(5, 5)]


def test_what_cannot_be_loaded_is_refused_by_name(found: tuple[Counted, ...], tmp_path: Path) -> None:
    with pytest.raises(NoRowsError, match="no rows in these days"):
        loader(())
    with pytest.raises(NotEnoughRowGroupsError, match=f"99 ranks and {len(found)} row groups .*or fewer"):
        loader(found, size=99)
    for absent in (Columns(("s_shop",)), Columns(("s_ad",), ("n_shop",)), Columns(("s_ad",), weight="shop")):
        with pytest.raises(MissingColumnsError, match="shop"):
            list(Loader(found, absent, batch_rows=BATCH, seed=1).epoch(0))
    wrong = pieces(tmp_path / "label", rows(label=np.full(ROWS, 2, np.int8)))
    with pytest.raises(InputError, match=r"row group \d+.*a label is neither 0 nor 1"):
        list(loader(wrong).epoch(0))
    holes = pieces(tmp_path / "null", rows(s_ad=pa.array([None] * ROWS, pa.int32())))
    with pytest.raises(MissingColumnsError, match="s_ad is null"):
        list(loader(holes).epoch(0))
    more = [one._replace(rows=one.rows + 1) for one in found]
    with pytest.raises(InputError, match="the table's files have changed"):
        list(loader(more).epoch(0))
    gone = pieces(tmp_path / "gone", rows())
    for path in (tmp_path / "gone").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(MissingTableError, match=r"parquet: the table's version names this file.*vacuumed"):
        list(loader(gone).epoch(0))
    with pytest.raises(MissingTableError, match="vacuumed"):
        reader.plan(str(tmp_path / "gone"), version=0, shards=1)
