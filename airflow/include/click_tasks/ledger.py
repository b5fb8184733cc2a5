"""What the table `runs` knows of a job's end, where the platform loses exit codes and result files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any

log = logging.getLogger(__name__)


def sought(job: str, arguments: Sequence[str]) -> dict[str, str]:
    """What tells a task's run from others in the table: job, day and, where it is of some, models."""
    told = dict(pairwise(arguments))
    found = {"job": job, "ds": told["--ds"]}
    return found | ({"models": told["--models"]} if "--models" in told else {})


def ended(table: str | None, sought: Mapping[str, str], since: datetime) -> dict[str, Any] | None:
    """The exit code and the error of the newest such run that has ended since then, as in a verdict.

    table: a folder or an address, with the credentials in the environment. None where there is no such run, which
    is so of a job that never got to its work, or where the table cannot be read, with a warning.
    """
    if not table:
        return None
    try:
        rows = _rows(table, sought, since)
    except Exception as error:  # noqa: BLE001  (of whatever store: what the platform told then stands)
        log.warning("%s cannot be read and is not asked: %s", table, error)
        return None
    if not rows:
        return None
    last = max(rows, key=lambda row: row["at"])
    name, _, message = (last["error"] or "").partition(": ")
    error = {"name": name, "message": message} if name else None
    return {"exit_code": last["exit_code"], "error": error, "run_id": last["run_id"], "ds": sought["ds"]}


def _rows(table: str, sought: Mapping[str, str], since: datetime) -> list[dict[str, Any]]:
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    wanted = (pc.field("job") == sought["job"]) & (pc.field("ds") == date.fromisoformat(sought["ds"]))
    if "models" in sought:
        wanted &= pc.field("models") == json.dumps(sought["models"].split(","))
    columns = ["run_id", "at", "exit_code", "error"]
    found = (
        DeltaTable(table)
        .to_pyarrow_dataset()
        .to_table(columns=columns, filter=wanted & pc.field("exit_code").is_valid())
    )
    return [row for row in found.to_pylist() if row["at"] >= since]
