"""When an impression happened: the log's spelling → UTC. No Spark."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.dataset import EventTimeColumn
from clickmill.ingest.values import numbers

DAY_US = 86_400_000_000
LAST_US = 2**33 * 1_000_000
"""Times before 1970 and from 2242 on are taken for mistakes."""

_OFFSET = r"(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
_INNER_OFFSET = r"[+-]\d\d:?\d\d\b"
_TIME_THEN_OFFSET = r":\d\d(?:\.\d+)?" + _OFFSET
_WALL, _INSTANT = pa.timestamp("us"), pa.timestamp("us", tz="UTC")

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def from_column(values: pa.Array, spec: EventTimeColumn) -> tuple[Micros, Mask]:
    """Microseconds since 1970 UTC (n,), and which of them are valid.

    Wall times are in `spec.timezone`. Where clocks are set back, an hour happens twice: the first is
    taken, as the log does not say. Where they are set forward, the hour that never was is not valid.
    """
    if spec.format in ("epoch_s", "epoch_ms", "seconds_since"):
        micros, valid = _from_numbers(values, spec)
    else:
        micros, valid = _from_times(values, spec)
    valid &= (micros >= 0) & (micros < LAST_US)
    return np.where(valid, micros, 0), valid


def from_order(ordinal: Micros, *, rows_per_day: int, first_day: date) -> Micros:
    """Microseconds since 1970 UTC of the rows with these places (≥ 0), `rows_per_day` evenly over each day."""
    day, rest = np.divmod(ordinal, rows_per_day)
    first = (first_day - date(1970, 1, 1)).days
    return (first + day) * DAY_US + np.floor(rest * (DAY_US / rows_per_day)).astype(np.int64)


def ordinals(values: pa.Array) -> tuple[Micros, Mask]:
    """Whole numbers ≥ 0 of an order column, and which rows have one."""
    number, valid = numbers(values)
    number = np.where(valid, number, -1.0)
    valid = (number >= 0) & (number < 2**52) & (number == np.floor(number))
    return np.where(valid, number, 0).astype(np.int64), valid


def day_of(micros: Micros) -> npt.NDArray[np.int32]:
    """Days since 1970-01-01, UTC."""
    return (micros // DAY_US).astype(np.int32)


def _from_numbers(values: pa.Array, spec: EventTimeColumn) -> tuple[Micros, Mask]:
    number, valid = numbers(values)
    scale, origin = (1e3 if spec.format == "epoch_ms" else 1e6), 0
    if spec.origin is not None:
        midnight = datetime.combine(spec.origin, time(), ZoneInfo(spec.timezone))
        origin = int(midnight.astimezone(UTC).timestamp()) * 1_000_000
    valid &= np.abs(number) < 2**53 / scale
    return np.rint(np.where(valid, number, 0) * scale).astype(np.int64) + origin, valid


def _from_times(values: pa.Array, spec: EventTimeColumn) -> tuple[Micros, Mask]:
    if pa.types.is_timestamp(values.type):
        whole = values.cast(pa.timestamp("us", tz=values.type.tz), safe=False)
        return _micros(whole if values.type.tz else _localized(whole, spec.timezone))
    if pa.types.is_date(values.type):
        return _micros(_localized(values.cast(_WALL), spec.timezone))
    texts = values.cast(pa.string())
    distinct = pc.unique(texts)  # logs repeat their times: parse each once
    times = _from_iso(distinct, spec.timezone) if spec.format == "iso" else _from_format(distinct, spec)
    micros, valid = _micros(times)
    at = pc.index_in(texts, value_set=distinct).to_numpy(zero_copy_only=False)
    return micros[at], valid[at]


def _from_iso(texts: pa.Array, zone: str) -> pa.Array:
    """`2026-01-31`, `2026-01-31 12:00[:00[.123456]]`, `…T…`, with or without `Z` or `+01:00`."""
    texts = pc.replace_substring_regex(texts, pattern=r"(\.\d{6})\d+", replacement=r"\1")
    instant = pc.match_substring_regex(texts, _TIME_THEN_OFFSET)
    aware = _parsed(pc.if_else(instant, texts, pa.scalar(None, pa.string())), _INSTANT)
    wall = _parsed(pc.if_else(instant, pa.scalar(None, pa.string()), texts), _WALL)
    return pc.coalesce(aware, _localized(wall, zone))


def _parsed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The times of a string array, null where a text is none."""
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, kind)
        half = len(texts) // 2  # Arrow does not say which text is wrong: narrow it down
        return pa.concat_arrays([_parsed(texts[:half], kind), _parsed(texts[half:], kind)])


def _from_format(texts: pa.Array, spec: EventTimeColumn) -> pa.Array:
    times = pc.strptime(texts, format=spec.format, unit="us", error_is_null=True)
    if times.type.tz:
        offset = _OFFSET if spec.format.endswith("%z") else _INNER_OFFSET
        wall = pc.replace_substring_regex(texts, pattern=offset, replacement="")
        form = spec.format.replace("%z", "")
        same = _as_written(pc.strptime(wall, format=form, unit="us", error_is_null=True), wall, form)
        return pc.if_else(same, times.cast(_INSTANT), pa.scalar(None, _INSTANT))
    same = _as_written(times, texts, spec.format)
    return _localized(pc.if_else(same, times, pa.scalar(None, times.type)), spec.timezone)


def _as_written(times: pa.Array, texts: pa.Array, form: str) -> pa.Array:
    """Which times say what the text said: C's strptime makes 2 March of 30 February, a new minute of second 60.

    It also takes "1410210" for 21 October, 0 h: without separators every part must have its full width;
    with them leading zeros and spaces may differ.
    """
    again = pc.strftime(times.cast(pa.timestamp("s")), format=form)
    if not re.sub(r"%[a-zA-Z]", "", form):
        return pc.equal(again, texts)
    return pc.equal(_figures(again), _figures(texts))


def _figures(texts: pa.Array) -> pa.Array:
    """The whole numbers in each text, without leading zeros."""
    apart = pc.replace_substring_regex(texts, pattern=r"\D+", replacement=" ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(apart, pattern=r"\b0+(\d)", replacement=r"\1"))


def _localized(wall: pa.Array, zone: str) -> pa.Array:
    if zone == "UTC":
        return wall.cast(_INSTANT)
    aware = pc.assume_timezone(wall, zone, ambiguous="earliest", nonexistent="earliest")
    was = pc.equal(pc.local_timestamp(aware), wall)
    return pc.if_else(was, aware.cast(_INSTANT), pa.scalar(None, _INSTANT))


def _micros(times: pa.Array) -> tuple[Micros, Mask]:
    valid = np.asarray(pc.is_valid(times).to_numpy(zero_copy_only=False), bool)
    return pc.fill_null(times.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), valid
