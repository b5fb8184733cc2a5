"""What a job's end means to Airflow: its exit code, its own error, whether a retry may help.

0 done · 1 failed, a retry may help · 2 wrong usage, config or environment · 3 the input is wrong · 4 the gate
refused. What counts is the verdict in a job's --result-file; without one, where the platform tells of a failure,
what the table `runs` says, where it is named and has the run; else the exit code that the platform tells.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
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
_OF_SPARK = re.compile(r"Cannot execute: .*?\. Error code is: (\d+)", re.DOTALL)
"""How spark-submit's error begins, as its hook words it; the last lines of Spark's output follow."""
_OF_PYTHON = re.compile(r"SystemExit: (\d+)")
"""In Databricks' error of a Python task, whose trace ends with it."""

log = logging.getLogger(__name__)
Verdict = dict[str, Any]
Ask = Callable[[], Verdict | None]


class JobFailed(AirflowException):
    """A job ended with an exit code other than 0 and 4; the message holds the job's own error."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


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
    """A failed job's exit code; of a platform's error the one that its words tell, 1 where they tell none."""
    if isinstance(error, JobFailed):
        return error.code
    if isinstance(error, FileNotFoundError | PermissionError):  # (of spark-submit itself)
        return USAGE
    words = str(error)
    if of_spark := _OF_SPARK.match(words):
        return int(of_spark[1])
    of_python = _OF_PYTHON.findall(words)
    return int(of_python[-1]) if of_python else FAILED


def verdict_in(result_file: str | None) -> Verdict | None:
    """What a job left in its result file; None where nothing whole is there (killed, or never started)."""
    try:
        text = Path(result_file).read_text(encoding="utf-8") if result_file else ""
        verdict = json.loads(text) if text.strip() else None
    except OSError:
        return None
    except ValueError as error:
        log.warning("%s holds no whole verdict and is passed over: %s", result_file, error)
        return None
    if verdict is not None and not isinstance(verdict, dict):
        log.warning("%s holds no verdict and is passed over: %.80s", result_file, text)
        return None
    return verdict


def forget(result_file: str | None) -> None:
    """Takes an earlier try's verdict away, so that none but this try's is read."""
    if result_file:
        Path(result_file).parent.mkdir(parents=True, exist_ok=True)
        Path(result_file).unlink(missing_ok=True)


@contextmanager
def told(job: str, result_file: str | None, in_runs: Ask = lambda: None) -> Iterator[None]:
    """Raises the job's own error in place of the platform's: NotPromoted for exit 4, else JobFailed.

    It does so where the platform tells of none, too. in_runs: what to ask where the platform does and there is no
    verdict.
    """
    ended = None
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:  # noqa: BLE001  (of whatever platform: it is told in the job's words)
        ended = error
    verdict = verdict_in(result_file) or (in_runs() if ended else None) or {}
    code = verdict.get("exit_code") or (exit_code(ended) if ended else 0)
    if not code:
        return
    own = verdict.get("error")
    if code == REFUSED:
        raise NotPromoted(f"not promoted: {own['message'] if own else 'the gate refused'}")
    words = f"{own['name']}: {own['message']}" if own else str(ended)
    meaning = MEANING.get(code, MEANING[FAILED])
    raise JobFailed(f"{job}: {words} (exit code: {code}, {meaning})", code=code)
