"""Which rows of the raw log are impressions, when they happened, and why the others are refused. No Spark."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickmill.dataset import Dataset, EventTimeColumn, RowOrder
from clickmill.ingest import times, values

EPOCH = date(1970, 1, 1)


class Judged(NamedTuple):
    """For n rows: the columns of `click_log` but event_id and ds, and why a row is refused."""

    columns: dict[str, pa.Array]
    micros: npt.NDArray[np.int64]
    """(n,) event time, microseconds since 1970 UTC; 0 where refused for its time."""
    reason: npt.NDArray[np.object_]
    """(n,) None, or the first reason found."""


class Place(NamedTuple):
    """Where rows stand in the log's order, for logs without time."""

    ordinal: npt.NDArray[np.int64]
    """(n,) place from 0, in the log or, with `day`, in that day."""
    day: date | None
    day_rows: int


def wanted(dataset: Dataset) -> tuple[str, ...]:
    """The columns of the raw log that are needed, each once."""
    named = [dataset.label, *dataset.labels.values(), dataset.event_time.column, dataset.event_id, dataset.p_true]
    return tuple(dict.fromkeys([name for name in named if name is not None] + list(dataset.raw_columns)))


def out_columns(dataset: Dataset) -> dict[str, pa.DataType]:
    """Names and types of what `judge` returns, in order."""
    kinds: dict[str, pa.DataType] = {"event_time": pa.timestamp("us", tz="UTC"), "label": pa.int8()}
    kinds |= {f"label_{task}": pa.int8() for task in dataset.labels}
    kinds |= {c: pa.float64() if c in dataset.numbers else pa.string() for c in dataset.raw_columns}
    if dataset.p_true is not None:
        kinds["p_true"] = pa.float64()
    return kinds


def judge(raw: Mapping[str, pa.Array], dataset: Dataset, place: Place | None) -> Judged:
    """Types every column of n rows and refuses what does not fit: bad_time, bad_label[:task],
    bad_number:<column>, missing_event_id. `place` is needed with row order by place.
    """
    label, has_label = values.labels(raw[dataset.label])
    reason = np.full(len(label), None, object)
    micros, valid = _event_time(raw, dataset, place)
    _refuse(reason, ~valid, "bad_time")
    _refuse(reason, ~has_label, "bad_label")
    columns = {
        "event_time": pa.array(micros, pa.timestamp("us", tz="UTC")),
        "label": pa.array(label, pa.int8()),
    }
    for task, name in dataset.labels.items():
        one, has_one = values.labels(raw[name])
        _refuse(reason, ~has_one & ~values.missing(raw[name]), f"bad_label:{task}")
        columns[f"label_{task}"] = pa.array(one, pa.int8(), mask=~has_one)
    for name in dataset.raw_columns:
        columns[name] = _number(raw[name], name, reason) if name in dataset.numbers else values.text(raw[name])
    if dataset.p_true is not None:
        columns["p_true"] = _probability(raw[dataset.p_true], dataset.p_true, reason)
    if dataset.event_id is not None:
        _refuse(reason, values.missing(raw[dataset.event_id]), "missing_event_id")
    return Judged(columns, micros, reason)


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


def day_from(number: int) -> date:
    """The day with that number."""
    return EPOCH + timedelta(days=number)


def _event_time(
    raw: Mapping[str, pa.Array], dataset: Dataset, place: Place | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    spec = dataset.event_time
    if isinstance(spec, EventTimeColumn):
        return times.from_column(raw[spec.column], spec)
    if spec.column is not None:
        ordinal, valid = times.ordinals(raw[spec.column])
        return _spread(ordinal, spec, None), valid
    assert place is not None, "row order by place needs the place"
    return _spread(place.ordinal, spec, place), np.ones(len(place.ordinal), bool)


def _spread(ordinal: npt.NDArray[np.int64], spec: RowOrder, place: Place | None) -> npt.NDArray[np.int64]:
    if place is not None and place.day is not None:
        return times.from_order(ordinal, rows_per_day=max(place.day_rows, 1), first_day=place.day)
    assert spec.rows_per_day is not None
    assert spec.first_day is not None
    return times.from_order(ordinal, rows_per_day=spec.rows_per_day, first_day=spec.first_day)


def _number(raw: pa.Array, name: str, reason: npt.NDArray[np.object_]) -> pa.Array:
    number, valid = values.numbers(raw)
    _refuse(reason, ~valid & ~values.missing(raw), f"bad_number:{name}")
    return pa.array(number, pa.float64(), mask=~valid)


def _probability(raw: pa.Array, name: str, reason: npt.NDArray[np.object_]) -> pa.Array:
    number, valid = values.numbers(raw)
    _refuse(reason, ~(valid & (number >= 0) & (number <= 1)), f"bad_number:{name}")
    return pa.array(number, pa.float64(), mask=~valid)


def _refuse(reason: npt.NDArray[np.object_], where: npt.NDArray[np.bool_], why: str) -> None:
    """Writes the reason on those rows that have none yet."""
    if where.any():
        reason[where & (reason == None)] = why  # noqa: E711  (element by element)
