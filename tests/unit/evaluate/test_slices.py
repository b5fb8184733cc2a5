"""Groups of rows that are judged apart, and the units that the bootstrap draws."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from clickmill.bootstrap import unit_keys
from clickmill.config import Judge, Slice
from clickmill.evaluate.slices import ByDay, Everything, Slices, slice_column, way_of
from clickmill.units import Units, units_of

HOUR = 3_600_000_000
BATCH = pa.RecordBatch.from_pydict(
    {
        "event_id": ["a", "b", "c", "d"],
        "event_time": pa.array([0, 25 * HOUR, 23 * HOUR, 47 * HOUR], pa.timestamp("us", tz="UTC")),
        "c_user": ["u", None, "v", "w"],
        "n_I1": pa.array([None, -1.0, 1.0, 99.0], pa.float32()),
        "s_C1": pa.array([5, -7, 6, 2**31 - 1], pa.int32()),
    }
)
COMMON = {"c_user": ("v", "u")}
SEEN = {"s_C1": np.array([-7, 5], np.int32)}


def names(one: Slice) -> list[str]:
    way = way_of(one, common=COMMON, seen=SEEN)
    return [way.names[place] for place in way.groups(BATCH)]


def test_every_row_is_in_its_group() -> None:
    assert names(Slice(kind="values", column="user")) == ["user=u", "user=__missing__", "user=v", "user=__other__"]
    buckets = Slice(kind="buckets", column="I1", edges=(0.0, 1.0, 10.0))
    assert names(buckets) == ["I1=__missing__", "I1<0", "1<=I1<10", "I1>=10"]
    assert names(Slice(kind="hour")) == ["hour=00", "hour=01", "hour=23", "hour=23"]
    seen = ["C1=__seen__", "C1=__seen__", "C1=__unseen__", "C1=__unseen__"]
    assert names(Slice(kind="seen", column="C1")) == seen
    nothing = way_of(Slice(kind="seen", column="C1"), common={}, seen={"s_C1": np.array([], np.int32)})
    assert nothing.groups(BATCH).tolist() == [1, 1, 1, 1]


def test_all_ways_together_number_their_groups_on() -> None:
    slices = Slices((Everything(), ByDay((date(1970, 1, 1), date(1970, 1, 2)))))
    assert slices.names == ("all", "day=1970-01-01", "day=1970-01-02")
    assert slices.groups(BATCH).tolist() == [[0, 1], [0, 2], [0, 1], [0, 2]]
    assert slices.places(1) == range(1, 3)
    assert slices.columns == ("event_time",)


def test_every_group_has_a_name_of_its_own() -> None:
    asked = [
        Slice(kind="values", column="price"),
        Slice(kind="buckets", column="price", edges=(1.0, 1000000.1, 1000000.2)),
        Slice(kind="values", column="hour"),
        Slice(kind="hour"),
        Slice(kind="values", column="day"),
        Slice(kind="values", column="price"),
    ]
    common = {"c_price": ("1", "__other__"), "c_hour": ("10", "11"), "c_day": ("Monday", "2026-01-10")}
    ways = [way_of(one, common=common, seen={}) for one in asked]
    slices = Slices((Everything(), ByDay((date(2026, 1, 10),)), *ways))
    told = slices.names
    assert len(told) == len(set(told)) == sum(len(way.names) for way in slices.ways)
    assert [name for name in told if name.startswith("day=")] == ["day=2026-01-10"]
    first, again, numbers = (told[slices.places(way).start : slices.places(way).stop] for way in (2, 7, 3))
    assert first == ("price=1", "price=__other__", "c_price: price=__other__", "price=__missing__")
    assert len(again) == 4
    assert numbers[1:3] == ("1<=price<1000000.1", "1000000.1<=price<1000000.2")
    assert numbers[-1] == "n_price: price=__missing__"


def test_units_are_rows_values_or_blocks_of_time() -> None:
    own = units_of(Judge()).keys(BATCH)
    assert len(set(own.tolist())) == 4
    assert units_of(Judge(unit="user")) == Units(42, column="c_user")
    by_user = units_of(Judge(unit="user")).keys(BATCH)
    assert (by_user == unit_keys(["u", None, "v", "w"], ["a", "b", "c", "d"], 42)).all()
    assert len(set(units_of(Judge(unit="day")).keys(BATCH).tolist())) == 2
    assert len(set(units_of(Judge(unit="hour")).keys(BATCH).tolist())) == 4


def test_what_is_cut_is_a_column_of_features() -> None:
    assert slice_column(Slice(kind="values", column="user")) == "c_user"
    assert slice_column(Slice(kind="hour")) == "event_time"


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "values"},
        {"kind": "hour", "column": "I1"},
        {"kind": "buckets", "column": "I1"},
        {"kind": "values", "column": "user", "edges": [1]},
        {"kind": "buckets", "column": "I1", "edges": [2, 1]},
    ],
)
def test_a_slice_that_does_not_fit_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"named|edges"):
        Slice.model_validate(bad)
