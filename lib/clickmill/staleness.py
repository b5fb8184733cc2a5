"""Which days of a day job's result are missing, or were made from another config or an older input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from clickmill.config import Config
from clickmill.job import Job, Run
from clickmill.runs import latest
from clickmill.tables import Tables


def stale_runs(run: Run, jobs: Sequence[Job], *, producers: Sequence[Job]) -> Iterator[tuple[Run, str]]:
    """A run of each day job that has days to make (again), and its title; looked up as it is reached.

    Looked up through tables of its own: a run reads what it has once looked at in that version until it ends.
    """
    for job in jobs:
        days = stale_days(run.sibling(job).tables, job, producers, run.cfg, run.days)
        if days:
            yield run.sibling(job, days), f"{job.name}, {len(days)} days"
        else:
            run.say(f"{job.name}: all {len(run.days)} days are fresh")


def stale_days(
    tables: Tables, job: Job, producers: Sequence[Job], cfg: Config, days: Sequence[date]
) -> list[date]:
    """The days among `days` that `job` has to make (again), in order.

    A day is fresh when the table has it, the newest finished run that made it had the same digest of
    the config it hangs on, and read its input at (or after) the version that the day's newest
    producer run wrote. Raw logs outside our tables carry no version: a changed file is not seen.
    """
    there = set(tables.days(job.writes)) if job.writes else set()
    done = [row for row in latest(tables) if row["status"] == "done"]
    made = _newest_by_day([row for row in done if row["job"] == job.name])
    makers = [producer.name for producer in producers if producer.writes == job.reads]
    inputs = _newest_by_day([row for row in done if row["job"] in makers])
    current = cfg.digest(*job.config)
    return [
        day
        for day in days
        if day not in there
        or day not in made
        or made[day]["config_digest"] != current
        or _input_is_newer(job.reads, made[day], inputs.get(day))
    ]


def _newest_by_day(rows: Sequence[Mapping[str, Any]]) -> dict[date, Mapping[str, Any]]:
    """Rows come newest first; the first that covers a day made it."""
    newest: dict[date, Mapping[str, Any]] = {}
    for row in rows:
        for day in json.loads(row["days"]):
            newest.setdefault(date.fromisoformat(day), row)
    return newest


def _input_is_newer(table: str | None, made: Mapping[str, Any], source: Mapping[str, Any] | None) -> bool:
    if table is None or source is None:
        return False
    written = json.loads(source["versions_out"]).get(table, -1)
    read = json.loads(made["versions_in"]).get(table, -1)
    return bool(written > read)
