"""What a job's end means to Airflow: its exit code, its own error, whether a retry may help.

0 done · 1 failed, a retry may help · 2 wrong usage, config or environment · 3 the input is wrong · 4 the gate
refused. What counts is the verdict in a job's --result-file; without one, the exit code that the platform tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

FAILED, USAGE, INPUT, REFUSED = 1, 2, 3, 4
MEANING = {
    FAILED: "a retry may help",
    USAGE: "wrong usage, config or environment: a retry cannot help",
    INPUT: "the input is wrong: a retry cannot help",
}
_SAID = re.compile(r"(?:Error code is|SystemExit|\(exit code): (\d+)")
"""In spark-submit's error as its hook words it, in Databricks' of a Python task, and in JobFailed's."""

Verdict = dict[str, Any]


class JobFailed(AirflowException):
    """A job ended with an exit code other than 0 and 4; the message holds the job's own error."""


class NotPromoted(AirflowSkipException):
    """The gate refused: an ordinary day, but without a new champion."""


class ByExitCode(RetryPolicy):
    """Wrong usage and wrong input are not tried again; whatever else failed is, as the task's `retries` say."""

    def evaluate(self, exception: BaseException, *_tries: int, **_told: Any) -> RetryDecision:
        code = exit_code(exception)
        if code in (USAGE, INPUT):
            return RetryDecision.fail(reason=f"exit code {code}: {MEANING[code]}")
        return RetryDecision.default()


def exit_code(error: BaseException) -> int:
    """The exit code that an error's words tell; 1 where they tell none."""
    found = _SAID.search(str(error))
    return int(found[1]) if found else FAILED


def verdict_in(result_file: str | None) -> Verdict | None:
    """What a job left in its result file; None where it left nothing (killed before its end, or never started)."""
    try:
        text = Path(result_file).read_text(encoding="utf-8") if result_file else ""
    except OSError:
        return None
    return json.loads(text) if text.strip() else None


def forget(result_file: str | None) -> None:
    """Takes an earlier try's verdict away, so that none but this try's is read."""
    if result_file:
        Path(result_file).parent.mkdir(parents=True, exist_ok=True)
        Path(result_file).unlink(missing_ok=True)


@contextmanager
def told(job: str, result_file: str | None) -> Iterator[None]:
    """Raises in place of the platform's error the job's own: NotPromoted for exit 4, else JobFailed."""
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:  # noqa: BLE001  (of whatever platform: it is told in the job's words)
        verdict = verdict_in(result_file) or {}
        code = verdict.get("exit_code") or exit_code(error)
        own = verdict.get("error")
        if code == REFUSED:
            raise NotPromoted(f"not promoted: {own['message'] if own else 'the gate refused'}") from None
        words = f"{own['name']}: {own['message']}" if own else str(error)
        raise JobFailed(f"{job}: {words} (exit code: {code}, {MEANING.get(code, MEANING[FAILED])})") from None
