"""Which of several errors the driver raises."""

from __future__ import annotations

import itertools
import json

import pyarrow as pa
import pytest

from clickmill.errors import KeepRateError, RankError
from clickmill.train import report
from clickmill.train.report import Row, checked, failed
from clickmill.train.ring import BrokenRingError


def row(batch: pa.RecordBatch) -> Row:
    """As it arrives at the driver."""
    (told,) = batch.to_pylist()
    return Row(told["rank"], told["kind"], json.loads(told["value"]), told["data"])


def raised_at(monkeypatch: pytest.MonkeyPatch, second: float, rank: int, error: Exception) -> Row:
    monkeypatch.setattr(report.time, "time", lambda: second)
    return row(failed(rank, error, broken=isinstance(error, BrokenRingError)))


def test_rows_without_an_error_come_back() -> None:
    rows = [row(report.report(rank, "done", value=rank)) for rank in (0, 1)]
    assert checked(rows) == rows


def test_the_first_error_in_time_is_raised_whatever_its_rank_or_place(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        raised_at(monkeypatch, 12.0, 0, ValueError("a consequence")),
        raised_at(monkeypatch, 11.0, 1, BrokenRingError("a neighbour left")),
        raised_at(monkeypatch, 11.5, 2, ValueError("the culprit")),
    ]
    for order in itertools.permutations(rows):
        with pytest.raises(RankError, match="rank 2 failed: ValueError: the culprit"):
            checked(order)


def test_a_broken_ring_never_masks_the_error_that_broke_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        raised_at(monkeypatch, 1.0, 0, BrokenRingError("noticed early, by a clock that is slow")),
        raised_at(monkeypatch, 9.0, 1, KeepRateError("two rates")),
    ]
    with pytest.raises(KeepRateError, match="two rates"):
        checked(rows)
    with pytest.raises(RankError, match="rank 0 failed: BrokenRingError"):
        checked(rows[:1])


def test_errors_of_the_same_moment_go_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [raised_at(monkeypatch, 5.0, rank, ValueError(f"of {rank}")) for rank in (2, 1, 3)]
    with pytest.raises(RankError, match="rank 1 failed: ValueError: of 1"):
        checked(rows)
