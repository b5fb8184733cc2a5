"""The log's spelling of time → UTC microseconds; what is no time says so."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from clickmill.dataset import EventTimeColumn
from clickmill.ingest import times


def _utc(values: Any, **spec: Any) -> list[str | None]:
    array = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    micros, valid = times.from_column(array, EventTimeColumn(kind="column", column="t", **spec))
    return [str(np.datetime64(int(m), "us")) if ok else None for m, ok in zip(micros, valid, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01", "2026-01-01T00:00:00.000000"),
        ("2026-01-01 12:30", "2026-01-01T12:30:00.000000"),
        ("2026-01-01T12:30:00.5", "2026-01-01T12:30:00.500000"),
        ("2026-01-01T12:30:00Z", "2026-01-01T12:30:00.000000"),
        ("2026-01-01T12:30:00+02:00", "2026-01-01T10:30:00.000000"),
        ("2026-01-01T12:30:00.123456789Z", "2026-01-01T12:30:00.123456"),
        ("20260101", None),
        ("2026-13-01", None),
        ("1969-12-31", None),
        ("tomorrow", None),
        ("", None),
        (None, None),
    ],
)
def test_iso_times(text: str | None, expected: str | None) -> None:
    assert _utc([text]) == [expected]
    # among others: one bad time does not spoil its neighbours, nor a zone those without one
    around = ["2026-06-01 00:00:00", text, "2026-06-01T00:00:00Z"]
    assert _utc(around) == ["2026-06-01T00:00:00.000000", expected, "2026-06-01T00:00:00.000000"]


def test_a_format_without_separators_wants_every_digit() -> None:
    hours = ["14102100", "14102214", "14102199", "1410210", "141021 0", "14102100x", None]
    assert (
        _utc(hours, format="%y%m%d%H") == ["2014-10-21T00:00:00.000000", "2014-10-22T14:00:00.000000"] + [None] * 5
    )


@pytest.mark.parametrize(
    ("format", "bad", "good"),
    [
        ("%Y-%m-%d %H:%M:%S", "2026-02-30 00:00:00", "2026-03-02 00:00:00"),
        ("%Y-%m-%d %H:%M:%S", "2025-02-29 01:02:03", "2024-02-29 01:02:03"),
        ("%Y-%m-%d %H:%M:%S", "2026-01-01 23:59:60", "2026-01-01 23:59:59"),
        ("%d/%m/%Y", "31/04/2026", "30/04/2026"),
        ("%d %b %Y", "31 Apr 2026", "1 May 2026"),
        ("%Y%m%d", "20260230", "20260302"),
        ("%d/%b/%Y:%H:%M:%S %z", "30/Feb/2026:13:55:36 -0700", "10/Oct/2000:13:55:36 -0700"),
        ("%b %d %H:%M:%S %z %Y", "Feb 30 20:19:24 +0200 2026", "Oct 10 20:19:24 +0200 2018"),
        ("%Y-%m-%d %H:%M:%S%z", "2026-02-30 00:00:00+0200", "2026-02-28 00:00:00+0200"),
    ],
)
def test_a_day_or_second_that_never_was_is_no_time(format: str, bad: str, good: str) -> None:
    assert _utc([bad, good], format=format)[0] is None
    assert _utc([bad, good], format=format)[1] is not None


def test_other_formats_may_leave_out_leading_zeros() -> None:
    assert _utc(["1/2/2026", "01/02/2026"], format="%d/%m/%Y") == ["2026-02-01T00:00:00.000000"] * 2


def test_local_times_follow_daylight_saving() -> None:
    local = ["2026-03-29 01:59:59", "2026-03-29 03:00:00", "2026-10-25 03:30:00", "2026-07-01T00:00:00Z"]
    assert _utc(local, timezone="Europe/Berlin") == [
        "2026-03-29T00:59:59.000000",
        "2026-03-29T01:00:00.000000",
        "2026-10-25T02:30:00.000000",
        "2026-07-01T00:00:00.000000",
    ]


def test_an_hour_that_never_was_is_no_time_and_one_that_was_twice_is_the_first() -> None:
    assert _utc(["2026-03-29 02:30:00"], timezone="Europe/Berlin") == [None]
    assert _utc(["26032902"], format="%y%m%d%H", timezone="Europe/Berlin") == [None]
    assert _utc(["2026-10-25 02:30:00"], timezone="Europe/Berlin") == ["2026-10-25T00:30:00.000000"]


def test_every_hour_of_a_year_agrees_with_zoneinfo() -> None:
    zone = ZoneInfo("America/New_York")
    instants = np.arange("2026-01-01", "2027-01-01", dtype="datetime64[h]")
    local = [datetime.fromtimestamp(int(t.astype("int64")) * 3600, zone) for t in instants]
    found = _utc([f"{t:%Y-%m-%d %H:%M:%S}" for t in local], timezone="America/New_York")
    expected = [str(t.astype("datetime64[us]")) for t in instants]
    differ = [t for t, f, e in zip(local, found, expected, strict=True) if f != e]
    assert [t.fold for t in differ] == [1]  # only the second of the two equal hours cannot be told


def test_numbers_of_seconds() -> None:
    assert _utc(["1767225600", "1767225600.5", "x", "nan", None, "9e99", "-1"], format="epoch_s") == [
        "2026-01-01T00:00:00.000000",
        "2026-01-01T00:00:00.500000",
        *[None] * 5,
    ]
    assert _utc(["1767225600123"], format="epoch_ms") == ["2026-01-01T00:00:00.123000"]
    assert _utc(["0", "3600.25"], format="seconds_since", origin=date(2026, 3, 29), timezone="Europe/Berlin") == [
        "2026-03-28T23:00:00.000000",
        "2026-03-29T00:00:00.250000",
    ]


def test_columns_that_are_times_already() -> None:
    noon = datetime(2026, 1, 1, 12)
    assert _utc(pa.array([noon, None], pa.timestamp("ns", "UTC"))) == ["2026-01-01T12:00:00.000000", None]
    assert _utc(pa.array([noon], pa.timestamp("ms")), timezone="Europe/Berlin") == ["2026-01-01T11:00:00.000000"]
    assert _utc(pa.array([date(2026, 1, 1)])) == ["2026-01-01T00:00:00.000000"]
    assert _utc(pa.array([1767225600], pa.int64()), format="epoch_s") == ["2026-01-01T00:00:00.000000"]


@pytest.mark.parametrize("rows_per_day", [1, 3, 1000, 548_935, 195_841_983])
def test_row_order_fills_each_day_evenly(rows_per_day: int) -> None:
    ordinal = np.array([0, rows_per_day - 1, rows_per_day, 10 * rows_per_day - 1], np.int64)
    micros = times.from_order(ordinal, rows_per_day=rows_per_day, first_day=date(1970, 1, 3))
    assert times.day_of(micros).tolist() == [2, 2, 3, 11]
    assert micros[0] == 2 * times.DAY_US
    assert micros[1] - micros[0] == pytest.approx(times.DAY_US * (1 - 1 / rows_per_day), abs=2)


def test_ordinals_are_whole_numbers_from_zero() -> None:
    ordinal, valid = times.ordinals(pa.array(["0", "16467982", "5.0", "1.5", "-1", "x", None]))
    assert valid.tolist() == [True, True, True, False, False, False, False]
    assert ordinal[:3].tolist() == [0, 16467982, 5]
