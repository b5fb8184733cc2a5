"""What the table `runs` knows of a job's end, where the platform loses exit codes and result files."""

from __future__ import annotations

import logging
from datetime import date, datetime
from typing import Any

log = logging.getLogger(__name__)


def ended(table: str | None, job: str, ds: str, since: datetime) -> dict[str, Any] | None:
    """The exit code and the error of the newest run of a job for a day that has ended since then, as in a verdict.

    table: a folder or an address, with the credentials in the environment. None where there is no such run, which
    is so of a job that never got to its work, or where the table cannot be read, with a warning.
    """
    if not table:
        return None
    try:
        rows = _rows(table, job, date.fromisoformat(ds), since)
    except Exception as error:  # noqa: BLE001  (of whatever store: what the platform told then stands)
        log.warning("%s cannot be read and is not asked: %s", table, error)
        return None
    if not rows:
        return None
    last = max(rows, key=lambda row: row["at"])
    name, _, message = (last["error"] or "").partition(": ")
    error = {"name": name, "message": message} if name else None
    return {"exit_code": last["exit_code"], "error": error, "run_id": last["run_id"], "ds": ds}


def _rows(table: str, job: str, day: date, since: datetime) -> list[dict[str, Any]]:
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    wanted = (pc.field("job") == job) & (pc.field("ds") == day) & pc.field("exit_code").is_valid()
    columns = ["run_id", "at", "exit_code", "error"]
    found = DeltaTable(table).to_pyarrow_dataset().to_table(columns=columns, filter=wanted)
    return [row for row in found.to_pylist() if row["at"] >= since]
