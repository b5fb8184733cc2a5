"""encodings → histories in a folder that lasts as long as they are looked up, on Spark."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from clickmill.config import PERIOD, Config
from clickmill.errors import MissingColumnsError, SchemaError
from clickmill.histories import worker
from clickmill.models.card import Card
from clickmill.schema import TABLES
from clickmill.scoring import Contender
from clickmill.specs import duration
from clickmill.split import Stretch
from clickmill.tables import Tables

FOLDER = ".histories"
FORGOTTEN_S = 2 * 24 * 3600
"""A killed job's histories are removed by another job after so long."""


@contextmanager
def histories(tables: Tables, cfg: Config, columns: Sequence[str], days: Sequence[date]) -> Iterator[str]:
    """A folder with the history of each of these hash columns, of what the pinned `encodings` says of these days.

    It lies beside the artifacts, where every worker must reach it, and goes when the `with` ends. A column is put
    together by one worker. Raises MissingColumnsError where a column was not counted on any of the days,
    MissingTableError where nothing was, SchemaError where days were counted as a whole and hours are asked for.
    """
    root = Path(cfg.artifact_root, FOLDER)
    folder = root / secrets.token_hex(8)
    folder.mkdir(parents=True)
    _forget(root)
    try:
        _require_hours(tables, cfg, days)
        found = _write(tables, cfg, days, str(folder))
        missing = [column for column in columns if column not in found]
        if missing:
            raise MissingColumnsError(
                f"{tables.path('encodings')}: {', '.join(missing)} was not counted from {days[0]} to {days[-1]}; "
                f"there are {', '.join(sorted(found)) or 'none'}: name it in `encodings` and run encode"
            )
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def informed(
    tables: Tables, cfg: Config, found: Sequence[Contender], stretch: Stretch
) -> Iterator[tuple[Contender, ...]]:
    """The contenders, those that eat encodings with what was known before each row of a stretch of time.

    Raises SchemaError where one was trained on other periods than the table counts by.
    """
    eaters = [(one, one.model().card) for one in found if one.model().encoded]
    if not eaters:
        yield tuple(found)
        return
    for one, card in eaters:
        assert card.encodings is not None
        if card.encodings["period"] != cfg.encodings.period:
            raise SchemaError(
                f"{one.model_id} eats encodings by the {card.encodings['period']}, and encodings.period is "
                f"{cfg.encodings.period}: train it again"
            )
    columns = list(dict.fromkeys(column for one, _ in eaters for column in one.model().encoded))
    days = history_days(stretch, max((_reach(card) for _, card in eaters)))
    with histories(tables, cfg, columns, days) as folder:
        yield tuple(replace(one, histories=folder) if one.model().encoded else one for one in found)


def _require_hours(tables: Tables, cfg: Config, days: Sequence[date]) -> None:
    """Raises SchemaError where values are to be looked up by the hour and some day was counted as a whole: all of
    it would stand at its first hour, and rows of later hours would be encoded by labels later than theirs."""
    if cfg.encodings.period != "hour":  # (hours add up to days)
        return
    there = set(tables.days("encodings")) & set(tables.days("features"))
    whole = [day for day in days if day in there and not _counted_by_hour(tables, day)]
    if whole:
        raise SchemaError(
            f"{tables.path('encodings')}: {', '.join(map(str, whole))} was counted by the day, and "
            "encodings.period is hour: run encode for these days"
        )


def _counted_by_hour(tables: Tables, day: date) -> bool:
    """Whether the day's last counts stand at the hour of its last row."""
    counted = tables.last_time("encodings", day, column="period_start")
    return counted.hour == tables.last_time("features", day).hour


def lacking(tables: Tables, days: Sequence[date]) -> list[str]:
    """A warning where some of the days that rows look back to were not counted: they are encoded by fewer."""
    there = set(tables.days("encodings"))
    absent = [day.isoformat() for day in days if day not in there]
    if not absent or len(absent) == len(days):  # (nothing at all is an error)
        return []
    return [
        f"warning: encodings look back to {days[0]}, and {', '.join(absent)} was not counted: the rows after "
        "these days are encoded by less than those of other days"
    ]


def history_days(stretch: Stretch, reach: timedelta) -> tuple[date, ...]:
    """The days that a stretch touches, and those before it that its rows look back to."""
    return Stretch(stretch.start - reach, stretch.end).days


def looked_back(card: Card, stretch: Stretch) -> tuple[date, ...]:
    """The days whose counts the rows of a stretch of time are encoded by, for a model that eats encodings."""
    return history_days(stretch, _reach(card))


def _reach(card: Card) -> timedelta:
    """How far before a row the model looks."""
    assert card.encodings is not None
    periods = card.encodings["window"] + card.encodings["lag"]
    return int(periods) * duration(PERIOD[card.encodings["period"]])


def _write(tables: Tables, cfg: Config, days: Sequence[date], folder: str) -> set[str]:
    """Writes each column's history under `folder`; the columns."""
    rows = tables.scan("encodings", list(TABLES["encodings"].columns), days=days)
    by_slot = partial(worker.by_slot, period=cfg.encodings.period)
    parcels = rows.through(by_slot, worker.PARCELS).rows().repartition("slot")
    made = parcels.mapInArrow(partial(worker.histories, folder=folder), "slot string")
    return {row["slot"] for row in made.collect()}


def _forget(root: Path) -> None:
    """Removes what killed jobs left behind."""
    for place in root.iterdir():
        with suppress(OSError):
            if time.time() - place.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(place, ignore_errors=True)
