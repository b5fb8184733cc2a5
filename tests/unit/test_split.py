"""Three stretches that never overlap and end with the last hour there is."""

from __future__ import annotations

from datetime import date, datetime

from hypothesis import given
from hypothesis import strategies as st

from clickmill.config import Split
from clickmill.split import Stretch, stretches

HOURS = st.integers(1, 100).map(lambda n: f"{n}h")


def test_the_stretches_of_a_daily_log() -> None:
    found = stretches(Split(train="7d", validation="1d", test="1d"), datetime(2026, 1, 10, 23, 59, 58))
    assert found.train == Stretch(datetime(2026, 1, 2), datetime(2026, 1, 9))
    assert found.validation == Stretch(datetime(2026, 1, 9), datetime(2026, 1, 10))
    assert found.test == Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
    assert found.train.days == tuple(date(2026, 1, day) for day in range(2, 9))
    assert found.test.days == (date(2026, 1, 10),)


@given(train=HOURS, validation=HOURS, test=HOURS, gap=HOURS, delay=HOURS, hour=st.integers(0, 23))
def test_they_follow_each_other_with_the_gap_between(
    train: str, validation: str, test: str, gap: str, delay: str, hour: int
) -> None:
    split = Split(train=train, validation=validation, test=test, gap=gap, label_delay=delay)
    found = stretches(split, datetime(2026, 1, 10, hour, 30))
    wait = int(gap[:-1]) * 3600
    assert (found.validation.start - found.train.end).total_seconds() == wait
    assert (found.test.start - found.validation.end).total_seconds() == wait
    assert found.train.start < found.train.end
    assert found.test.end <= datetime(2026, 1, 10, hour) + (datetime(2026, 1, 1, 1) - datetime(2026, 1, 1))
