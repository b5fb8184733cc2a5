"""A small world for real days: one CSV file a day, four columns, two linear models; and its tables as digests."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from conftest import ROOT

_TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
README = re.findall(r"^```sh\n(.*?)^```$", _TEXT[_TEXT.index("\n### Airflow\n") :], re.MULTILINE | re.DOTALL)
"""The README's two blocks on Airflow: a day in one process, and days with scheduler and UI."""
FIRST = date(2026, 3, 1)
ROWS = 2400
POISON = "no fields at all\n"
CONFIG = """
dataset:
  name: small
  source: {format: tsv, path: "log-{ds}.tsv", header: true}
  label: click
  event_time: {kind: column, column: time, format: "%Y-%m-%d %H:%M:%S"}
  slots: [ad, site, device]
  numbers: [price]
  crosses: [[ad, site]]
warehouse: ware house
sampling: {keep_rate: 0.5}
split: {train: 2d}
features: {audit_bits: [18, 20]}
judge: {replicates: 50}
gate: {calibration_band: [0.1, 10]}
models:
  lr: {kind: logreg, bits: 18, l2: 0.0001}
  lr_nocross: {kind: logreg, bits: 18, l2: 0.0001, columns: {crosses: []}}
"""
DIGESTS = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
import stored
from pathlib import Path
own = ("run_id", "seconds", "artifact", "versions", "training", "at", "host", "process")
for table in sorted(path.parent for path in Path(sys.argv[2]).glob("*/_delta_log")):
    if table.name != "runs":
        rows = stored.rows(sys.argv[2], table.name, without=own)
        print(json.dumps([table.name, len(rows), hashlib.sha256(str(rows).encode()).hexdigest()]))
"""
"""For the other environment: Airflow's own reads no Delta."""


class World:
    """A folder with a config, a log, and an Airflow of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.warehouse = folder / "ware house"
        (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
        base = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "CLICKMILL"))}
        self.environment = base | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "CLICKMILL_HOME": str(folder),
            "CLICKMILL_CONF": f"'{folder}/small.yaml'",
            "CLICKMILL_DRIVER_MEMORY": "1g",
            "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
            "CLICKMILL_RETRY_SECONDS": "5",
            **environment,
        }

    def day(self, number: int) -> date:
        """The day of this number, from 1."""
        return FIRST + timedelta(days=number - 1)

    def log(self, number: int) -> Path:
        """The log of a day, written if it is not there: the same on every call."""
        path = self.folder / f"log-{self.day(number)}.tsv"
        if not path.exists():
            path.write_text("".join(_lines(self.day(number))), encoding="utf-8")
        return path

    def poison(self, number: int, *, share: float) -> None:
        """Puts so many bad lines into the day's log."""
        with open(self.log(number), "a", encoding="utf-8") as log:
            log.write(POISON * math.ceil(ROWS * share))

    def mend(self, number: int) -> None:
        """Writes the day's log as it was."""
        self.log(number).unlink()
        self.log(number)

    def sh(self, script: str, *, timeout: int = 900, fails: bool = False) -> str:
        """Runs a script in the checkout with Airflow's environment; what it printed."""
        process = subprocess.Popen(
            ["sh", "-euc", f". airflow/env.sh\n{script}"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # (or what it started would go on)
            raise
        assert (process.returncode != 0) == fails, said[-6000:]
        return said

    def tables(self) -> dict[str, Any]:
        """Rows and digest of every table but `runs`, without what may differ between equal runs."""
        done = subprocess.run(
            [ROOT / ".venv" / "bin" / "python", "-c", DIGESTS, ROOT / "tests", self.warehouse],
            capture_output=True,
            text=True,
            check=True,
        )
        return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


def _lines(day: date) -> list[str]:
    rng = random.Random(day.toordinal())
    lines = ["time\tad\tsite\tdevice\tprice\tclick\n"]
    for row in range(ROWS):
        ad, site, device = rng.randrange(30), rng.randrange(10), rng.choice(["phone", "desk"])
        price = round(rng.lognormvariate(1, 1), 2)
        logit = -1.5 + 1.5 * math.sin(ad) + math.sin(3 * site) + math.sin(ad * site) - 0.1 * min(price, 9)
        click = int(rng.random() < 1 / (1 + math.exp(-logit)))
        second = row * 86_400 // ROWS
        time = f"{day} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        lines.append(f"{time}\tad{ad}\tsite{site}\t{device}\t{price}\t{click}\n")
    return lines
