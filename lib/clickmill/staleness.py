"""What was made from something that has changed since.

The days of a day job's result that are missing, or were made from another config or an older input; and the models
that looked values up in counts that were made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from clickmill.config import Config
from clickmill.histories.driver import looked_back
from clickmill.job import Job, Run
from clickmill.models import artifact
from clickmill.runs import latest
from clickmill.split import Stretch
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


def counted_again(tables: Tables, models: Sequence[Mapping[str, Any]]) -> dict[str, list[date]]:
    """The days that each model (a row of `models`) looked back to and that `encode` has counted since, in order.

    By model id; without those that eat no encodings or whose counts are still those they were trained on.
    """
    eaters = {row["model_id"]: row for row in models if "encodings" in json.loads(row.get("versions") or "{}")}
    if not eaters:
        return {}
    made = [row for row in latest(tables) if (row["job"], row["status"]) == ("encode", "done")]
    wrote = {
        day: json.loads(run["versions_out"]).get("encodings", -1) for day, run in _newest_by_day(made).items()
    }
    found = {}
    for model_id, row in eaters.items():
        read, stretches = json.loads(row["versions"])["encodings"], json.loads(row["stretches"])
        if not any(version > read for version in wrote.values()):
            continue
        first, last = (
            datetime.fromisoformat(stretches[name][end]) for name, end in (("train", 0), ("validation", 1))
        )
        days = looked_back(artifact.load(Path(row["artifact"])).card, Stretch(first, last))
        again = [day for day in days if wrote.get(day, -1) > read]
        if again:
            found[model_id] = again
    return found


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
