"""Which error the driver raises when ranks fail."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from clickmill.errors import KeepRateError, RankError
from clickmill.train import report
from clickmill.train.report import RankFailedError, Row, broken, checked, raised_in
from clickmill.train.ring import BrokenRingError


def row(batch: pa.RecordBatch) -> Row:
    """As it arrives at the driver."""
    (told,) = batch.to_pylist()
    return Row(told["rank"], told["kind"], json.loads(told["value"]), told["data"])


def told_by_spark(rank: int, error: Exception) -> str:
    """What Spark makes of a failed task."""
    return (
        f"Stage failed because barrier task 1 finished.\nTraceback:\n{RankFailedError.of(rank, error)}\n\tat org.x"
    )


def test_rows_without_an_error_come_back() -> None:
    rows = [row(report.report(rank, "done", value=rank)) for rank in (0, 1)]
    assert checked(rows) == rows


def test_a_rank_s_own_error_is_found_in_what_spark_says() -> None:
    found = raised_in(told_by_spark(2, ValueError('a "fault" {of two}\nlines é')))
    assert isinstance(found, RankError)
    assert str(found) == 'rank 2 failed: ValueError: a "fault" {of two}\nlines é'
    assert isinstance(raised_in(told_by_spark(0, KeepRateError("two rates"))), KeepRateError)
    assert str(raised_in(told_by_spark(1, RuntimeError()))) == "rank 1 failed: RuntimeError: RuntimeError"
    assert raised_in("Python worker exited unexpectedly (crashed)") is None


def test_a_ring_that_broke_for_no_reason_told_is_an_error_too() -> None:
    rows = [row(report.report(0, "done")), row(broken(1, BrokenRingError("a neighbour left")))]
    with pytest.raises(RankError, match="rank 1 failed: BrokenRingError: a neighbour left"):
        checked(rows)
