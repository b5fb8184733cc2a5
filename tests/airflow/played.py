"""Stand-ins for spark-submit: a job that ends as a test says, and leaves the verdict that a job would."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PLAYER = """#!{python}
import json, sys
from pathlib import Path

ends = json.loads(Path({ends!r}).read_text())
job = next(Path(part).stem for part in sys.argv if part.endswith(".py"))
value = lambda name: sys.argv[sys.argv.index(name) + 1]
with open({calls!r}, "a+") as calls:
    print(json.dumps([job, value("--ds"), sys.argv[1:]]), file=calls)
    calls.seek(0)
    tries = sum(json.loads(line)[0] == job for line in calls)
end = ends.get(job, {{}})
if isinstance(end, list):
    end = end[min(tries, len(end)) - 1]
print("INFO of Spark\\n" * 30)
if not end.get("silent"):
    code = end.get("exit_code", 0)
    verdict = {{"run_id": "r-" + job, "job": job, "exit_code": code, "error": None, "ds": value("--ds"),
               "tables": {{"features": 3, job: 1}}, "counts": {{"rows_out": 9}}}}
    text = json.dumps(verdict | end)
    Path(value("--result-file")).write_text(text[: len(text) // 2] if end.get("torn") else text)
sys.exit(end.get("exit_code", 0))
"""


class Played:
    """A script to be called in place of spark-submit, and the calls that it has had."""

    def __init__(self, folder: Path) -> None:
        self._ends, self._calls = folder / "ends.json", folder / "calls.jsonl"
        self.script = folder / "spark-submit"
        text = PLAYER.format(python=sys.executable, ends=str(self._ends), calls=str(self._calls))
        self.script.write_text(text, encoding="utf-8")
        self.script.chmod(0o755)
        self.ends()

    def ends(self, **by_job: dict[str, Any] | list[dict[str, Any]]) -> None:
        """How jobs end: parts of the verdict by the job's name, or a list of them, for one try after the other.
        The others end well.
        """
        self._ends.write_text(json.dumps(by_job), encoding="utf-8")

    @property
    def calls(self) -> list[tuple[str, str, list[str]]]:
        """Job, day and arguments of each call."""
        if not self._calls.exists():
            return []
        return [tuple(json.loads(line)) for line in self._calls.read_text(encoding="utf-8").splitlines()]


def error(name: str, message: str, *, code: int) -> dict[str, Any]:
    """The part of a verdict that tells an error."""
    return {"exit_code": code, "error": {"name": name, "message": message}}
