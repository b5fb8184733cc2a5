"""What a raw log is: where it lies, its form, and what its columns mean."""

from __future__ import annotations

import re
import zoneinfo
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from clickmill.errors import nearest

NAME = re.compile(r"^[A-Za-z0-9_]+$")


class Strict(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def misfit(message: str, *key: str) -> PydanticCustomError:
    """What a validator of a whole section raises where the key below it that is to blame is known."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "key": key})


class Source(Strict):
    """Where the raw log lies, and its form."""

    path: str
    """A file, a folder or a glob; `{ds}` stands for the day. For Delta: the table's folder."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "delta"]
    header: bool = False
    """Text formats: the first line of each file names the columns."""
    columns: tuple[str, ...] | None = None
    """CSV and TSV without header: the names of the fields, in order."""
    max_line_bytes: int = Field(65536, ge=64, le=2**26)
    """A longer line of a text format is rejected."""
    split_bytes: int = Field(2**25, ge=1)
    """Text formats: how much of a file one task reads (a gzip file is always read by one task)."""
    day_column: str | None = None
    """Parquet and Delta: a column that holds the day, so that only the run's days are read."""

    @property
    def is_text(self) -> bool:
        """Whether the log is made of lines."""
        return self.format in ("csv", "tsv", "jsonl")

    @model_validator(mode="after")
    def _form(self) -> Source:
        if self.format in ("csv", "tsv") and self.header == (self.columns is not None):
            raise ValueError(
                f"{self.format}: give either header: true or columns, the names of the fields in order"
            )
        if self.format not in ("csv", "tsv") and (self.header or self.columns is not None):
            raise ValueError(f"{self.format} names its own columns: header and columns are for csv and tsv")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ValueError("columns: a name stands twice")
        if self.day_column is not None and self.is_text:
            raise ValueError(
                f"day_column is for parquet and delta, not for {self.format}: write {{ds}} in the path"
            )
        return self


class EventTimeColumn(Strict):
    """The time of an impression stands in a column."""

    kind: Literal["column"]
    column: str
    format: str = "iso"
    """`iso`, `epoch_s`, `epoch_ms`, `seconds_since` (see `origin`), or a strptime format."""
    origin: date | None = None
    """For `seconds_since`: the day whose midnight is second 0."""
    timezone: str = "UTC"
    """IANA name of the zone that the log's times are written in (times with an offset of their own excepted)."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, text: str) -> str:
        if text not in ("iso", "epoch_s", "epoch_ms", "seconds_since") and "%" not in text:
            raise ValueError(
                "allowed are iso, epoch_s, epoch_ms, seconds_since, or a strptime format such as %y%m%d%H"
            )
        if "%f" in text:
            raise ValueError("%f is not supported: fractions of a second are read by format: iso")
        if "%Z" in text:
            raise ValueError("%Z is not supported: names of zones are not read; use %z, or `timezone`")
        return text

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            hint = nearest(name, sorted(zoneinfo.available_timezones()))
            raise ValueError(f"{name!r} is not the name of a time zone, such as Europe/Berlin{hint}") from None
        return name

    @model_validator(mode="after")
    def _origin_given(self) -> EventTimeColumn:
        if (self.format == "seconds_since") != (self.origin is not None):
            raise ValueError("origin is needed with format: seconds_since, and only there")
        return self


class RowOrder(Strict):
    """The log has an order but no time: its rows are spread evenly over days, so many a day from a first day on.

    With `{ds}` in the source's path and no `column`, each day's files are that day, and their rows are
    spread evenly over it: then neither `rows_per_day` nor `first_day` is given.
    """

    kind: Literal["row_order"]
    column: str | None = None
    """A column that holds the ordinal (from 0); without it the line's place in the sorted files."""
    rows_per_day: int | None = Field(None, gt=0)
    first_day: date | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> RowOrder:
        if (self.rows_per_day is None) != (self.first_day is None):
            raise ValueError("rows_per_day and first_day belong together")
        if self.column is not None and self.rows_per_day is None:
            raise ValueError("an order column needs rows_per_day and first_day")
        return self


class Dataset(Strict):
    """What the columns of the raw log are."""

    name: str
    source: Source
    label: str
    """Column that is 1 for a click and 0 otherwise."""
    labels: dict[str, str] = {}
    """Further labels, task name to column: kept as `label_<task>`."""
    event_time: Annotated[EventTimeColumn | RowOrder, Field(discriminator="kind")]
    event_id: str | None = None
    """The log's own key; without one it is the hash of the row and its occurrence number."""
    p_true: str | None = None
    """Column with the true click probability (simulated logs only)."""
    slots: tuple[str, ...] = ()
    """Categorical columns, hashed as text."""
    numbers: tuple[str, ...] = ()
    """Numeric columns: a bucket slot and a float each."""
    crosses: tuple[tuple[str, ...], ...] = ()
    """Each a list of two to four slots or numbers."""
    carry: tuple[str, ...] = ()
    """Columns passed through unhashed for the judge (slice columns, bootstrap unit)."""

    @model_validator(mode="after")
    def _names(self) -> Dataset:
        for key, names in (*self._named().items(), ("name", (self.name,)), ("labels", tuple(self.labels))):
            for name in names:
                if not NAME.match(name):
                    raise misfit(f"{name!r} is not a name: only letters, digits and _ are allowed", key)
        used = [*self.slots, *self.numbers]
        if not used:
            raise misfit("a data set needs at least one slot or number", "slots")
        for key, named in (("slots", used), ("carry", self.raw_columns), ("labels", self.labels)):
            lower = [name.lower() for name in named]
            twice = sorted({name for name in named if lower.count(name.lower()) > 1})
            if twice:
                raise misfit(f"names must differ, ignoring case: {twice} stand twice", self._key_of(twice, key))
        leaks = sorted({self.label, *self.labels.values()} & set(self.raw_columns))
        if leaks:
            message = f"{leaks} are labels (label, labels): they cannot be slots, numbers or carried too"
            raise misfit(message, self._key_of(leaks, "label"))
        self._check_crosses(used)
        self._check_reserved()
        self._check_order()
        self._check_source()
        return self

    def _named(self) -> dict[str, tuple[str, ...]]:
        """The lists of raw columns, by key."""
        return {"slots": self.slots, "numbers": self.numbers, "carry": self.carry}

    def _key_of(self, names: list[str], otherwise: str) -> str:
        """The last of the lists of raw columns that has one of these names."""
        return next((key for key, own in reversed(self._named().items()) if set(names) & set(own)), otherwise)

    def _check_crosses(self, used: list[str]) -> None:
        for cross in self.crosses:
            if not 2 <= len(cross) <= 4:
                message = f"cross {list(cross)} has {len(cross)} parts: two to four are allowed"
                raise misfit(message, "crosses")
            unknown = [part for part in cross if part not in used]
            if unknown:
                message = f"cross {list(cross)} names {unknown}, which are neither slots nor numbers"
                raise misfit(message + nearest(unknown[0], used), "crosses")
        names = ["_".join(cross).lower() for cross in self.crosses]
        if len(set(names)) != len(names):
            raise misfit("two crosses have the same name", "crosses")

    def _check_source(self) -> None:
        """A file without header has the columns that the config says it has."""
        there = self.source.columns
        if there is None:
            return
        at = {"label": (self.label,), "labels": tuple(self.labels.values())}
        at |= {"event_time": (self.event_time.column,) if self.event_time.column else ()}
        at |= {key: (name,) for key in ("event_id", "p_true") if (name := getattr(self, key))}
        for key, names in (self._named() | at).items():
            for name in names:
                if name not in there:
                    message = f"{name!r} is not among source.columns, {', '.join(there)}"
                    raise misfit(message + nearest(name, there), key)

    def _check_reserved(self) -> None:
        """Raw columns keep their names in `click_log`, beside the columns that clickmill makes."""
        made = {"event_id", "event_time", "ds", "label", "p_true"}
        made |= {f"label_{task}".lower() for task in self.labels}
        taken = [name for name in self.raw_columns if name.lower() in made]
        if taken:
            message = f"{taken} cannot be slots, numbers or carried: click_log has columns of these names"
            raise misfit(message, self._key_of(taken, "slots"))

    def _check_order(self) -> None:
        order = self.event_time
        if not isinstance(order, RowOrder) or order.column is not None:
            return
        if not self.source.is_text:
            message = f"row_order without a column needs a file of lines; {self.source.format} has no order"
            raise misfit(message, "event_time")
        if ("{ds}" in self.source.path) == (order.rows_per_day is not None):
            message = "row_order by place needs either rows_per_day and first_day, or {ds} in source.path"
            raise misfit(message, "event_time")

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Slots, numbers and carried columns of the raw log, each once, in that order."""
        return tuple(dict.fromkeys((*self.slots, *self.numbers, *self.carry)))
