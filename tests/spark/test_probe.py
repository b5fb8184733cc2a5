"""`clickmill doctor --master` on a Spark of this machine: what its executors say; nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from running import QUICK_JVM
from test_tables import DAY, NEXT, impressions

from clickmill.config_files import load
from clickmill.probe.driver import _train_time
from clickmill.tables import Tables

CLICKMILL = str(Path(sys.executable).parent / "clickmill")


def doctor(master: str, *sets: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Its exit code and its checks by name."""
    command = [CLICKMILL, "doctor", "--master", master, "--json"]
    for item in sets:
        command += ["--set", item]
    done = subprocess.run(
        command, env=os.environ | QUICK_JVM | environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)["checks"]
    return done.returncode, {one["name"]: one for one in checks}


def sampled_days(warehouse: Path) -> Tables:
    """Two days of `sample`, of 500 rows each."""
    tables = Tables.without_spark(str(warehouse))
    for day in (DAY, NEXT):
        sampled = impressions(day, 500)
        rates = {"sample_id": ["x"] * 500, "keep_rate": [0.5] * 500, "weight": [2.0] * 500}
        for name, values in rates.items():
            sampled = sampled.append_column(name, [values])
        tables.write("sample", sampled, replace={"ds": day})
    return tables


def test_rows_of_train_time_are_its_share_and_values_grow_slower_than_days(tmp_path: Path) -> None:
    tables = sampled_days(tmp_path / "w")

    def train_time(days: int) -> tuple[int, int | None]:
        sets = (f"warehouse={tmp_path / 'w'}", f"split.train={days}d")
        return _train_time(tables.spark, load(("datasets/simulated.yaml",), sets))

    assert train_time(1) == (500, None)
    audit = [
        {"ds": day, "slot": slot, "bits": bits, "rows": 500, "distinct": values}
        for day, more in ((DAY, 0), (NEXT, 20))
        for slot, values in (("a", 100 + more), ("b", 300 + more))
        for bits in (18, 20)
    ]
    tables.write("feature_audit", audit, replace={"ds": [DAY, NEXT]})
    assert train_time(1) == (500, 420), "a day's mean, whatever the numbers of bits"
    rows, values = train_time(10)
    assert rows == 1000, "no more than there are"
    assert values is not None
    assert 2 * 420 < values < 10 * 420


def test_a_spark_that_fits_passes_and_nothing_stays_in_the_warehouse(tmp_path: Path) -> None:
    sampled_days(tmp_path / "ware house")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, found = doctor("local[2]", f"warehouse={tmp_path / 'ware house'}")
    assert (code, [name for name, one in found.items() if one["needed"] and not one["ok"]]) == (0, []), found
    assert found["executors"]["found"] == "tasks at once: 2, executors: 1, machines: 1"
    assert "GiB a rank" in found["memory for training"]["found"]
    assert "written by all" in found["warehouse of executors"]["found"]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_what_does_not_fit_is_told_with_exit_2(tmp_path: Path) -> None:
    address = f"warehouse=file://{tmp_path}/by-address"
    code, found = doctor("local[1]", address, "models.lr.ranks=2")
    assert code == 2
    assert [name for name, one in found.items() if one["needed"] and not one["ok"]] == ["slots for training"]
    assert "models.lr.ranks to 1" in found["slots for training"]["advice"]
    assert found["warehouse of executors"]["found"].endswith(
        "by-address/_doctor: written by Spark, read by Python"
    )


def test_a_master_that_nobody_is_at_is_told_at_once(tmp_path: Path) -> None:
    code, found = doctor("spark://127.0.0.1:1", f"warehouse={tmp_path}")
    assert code == 2
    assert not found["master"]["ok"]
    assert "executors" not in found
    assert "make cluster-up" in found["master"]["found"]
