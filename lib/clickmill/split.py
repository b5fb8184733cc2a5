"""Three stretches of time, train < validation < test, that never overlap."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import NamedTuple

from clickmill.config import Split
from clickmill.specs import duration

HOUR = timedelta(hours=1)


class Stretch(NamedTuple):
    """From `start` up to but not including `end`, both naive UTC."""

    start: datetime
    end: datetime

    @property
    def days(self) -> tuple[date, ...]:
        """Every day that the stretch touches, in order."""
        last = (self.end - timedelta(microseconds=1)).date()
        return tuple(self.start.date() + timedelta(days=i) for i in range((last - self.start.date()).days + 1))

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%dT%H:%M} to {self.end:%Y-%m-%dT%H:%M}"


class Stretches(NamedTuple):
    train: Stretch
    validation: Stretch
    test: Stretch

    def to_dict(self) -> dict[str, list[str]]:
        """ISO times by name, for cards and tables."""
        return {name: [s.start.isoformat(), s.end.isoformat()] for name, s in self._asdict().items()}


def stretches(split: Split, last: datetime) -> Stretches:
    """The three stretches that end with the hour of `last` (naive UTC), less `split.label_delay`."""
    end = last.replace(minute=0, second=0, microsecond=0) + HOUR - duration(split.label_delay)
    gap = duration(split.gap)
    test = Stretch(end - duration(split.test), end)
    validation = Stretch(test.start - gap - duration(split.validation), test.start - gap)
    train = Stretch(validation.start - gap - duration(split.train), validation.start - gap)
    return Stretches(train, validation, test)
