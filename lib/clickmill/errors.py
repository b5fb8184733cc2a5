"""Every error that clickmill raises on purpose, with the exit code that it ends a job with.

0 done · 1 failed (a retry may help) · 2 wrong usage, config or environment ·
3 the input is wrong (a retry cannot help) · 4 the gate refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import date

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_REFUSED = 4


def nearest(found: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """The end of a message, `; did you mean 'bits'?`, where a known name is like the one found; else nothing."""
    near = difflib.get_close_matches(found, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


class ClickmillError(Exception):
    """Root of all named errors. `exit_code` is what a job that ends with it returns."""

    exit_code = EXIT_FAILED


# --- 2: wrong usage, config or environment --------------------------------------------------


class UsageError(ClickmillError):
    """The command line asks for something that cannot be done."""

    exit_code = EXIT_USAGE


class ConfigError(ClickmillError):
    """A config file or `--set` is wrong; the message names file, key, value and what is allowed."""

    exit_code = EXIT_USAGE


class PlatformError(ClickmillError):
    """The machine lacks something (Java, jars, write access); the message says what to do."""

    exit_code = EXIT_USAGE


class NoSpaceError(PlatformError):
    """A disk that is written to, the warehouse's or that of temporary files, is full, or a quota is used up."""


class NotEnoughSlotsError(PlatformError):
    """More ranks asked for than Spark has slots: a barrier stage would wait for ever."""


class NotEnoughRowGroupsError(PlatformError):
    """More ranks asked for than the pinned version has row groups to deal to them."""


class WorldSizeError(PlatformError):
    """Other ranks have come together than a training asks for."""


class NotEnoughMemoryError(PlatformError):
    """A model would not fit the memory of the machine or GPU that it is to be trained on."""


# --- 3: the input is wrong ------------------------------------------------------------------


class InputError(ClickmillError):
    """The data is wrong: running again on the same data cannot help."""

    exit_code = EXIT_INPUT


class NoRowsError(InputError):
    """An empty input, or a day or stretch without rows. `days`: those of a raw log that has none of them."""

    def __init__(self, message: str, days: Iterable[date] = ()) -> None:
        super().__init__(message)
        self.days = tuple(days)


class RejectLimitError(InputError):
    """More lines were rejected than `ingest.max_reject_share` allows."""


class MissingColumnsError(InputError):
    """Columns that are needed are not there."""


class SchemaError(InputError):
    """Rows do not fit the table's schema or constraints."""


class MissingTableError(InputError):
    """A table, or a version or day of it, is not there."""


class DamagedTableError(InputError):
    """A Delta table's log cannot be read."""


class UnsupportedTableError(InputError):
    """A Delta feature that files cannot be read with outside Spark; the message names it."""


class OverlapError(InputError):
    """A model would be judged or calibrated on time that it has learned from."""


class DegenerateLabelsError(InputError):
    """All labels agree, so that the metric is undefined."""


class InvalidProbabilityError(InputError):
    """A probability is NaN or outside [0, 1]."""


class MissingEventsError(InputError):
    """Predictions lack event_ids of the rows that are judged."""


class RepeatedEventsError(InputError):
    """Predictions have event_ids of the rows that are judged more than once."""


class OtherLabelsError(InputError):
    """The labels beside predictions are not those of the log."""


class KeepRateError(InputError):
    """A keep rate is missing, outside (0, 1], or mixed with another one."""


class ArtifactError(InputError):
    """A model's artifact is missing, damaged or of an unknown format."""


# --- 1: failed, a retry may help ------------------------------------------------------------


class NoSparkError(ClickmillError):
    """No Spark session came up on the master; the message says why."""


class RankError(ClickmillError):
    """A rank of a distributed training failed; the message holds that rank's own error."""


class NonFiniteLossError(ClickmillError):
    """The loss of a training became infinite or undefined; the message says where, and what was largest."""


class PreflightError(ClickmillError):
    """A network does not learn what it must be able to learn; see `--overfit-check`."""


class ConflictError(ClickmillError):
    """Another writer changed the same rows of the same table first."""


class DifferentError(ClickmillError):
    """A run that was reproduced gave another result; the message says what differs."""


# --- 4: the gate refused --------------------------------------------------------------------


class GateRefusedError(ClickmillError):
    """The challenger was not promoted; the message holds the rules that failed."""

    exit_code = EXIT_REFUSED
