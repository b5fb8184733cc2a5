"""A small simulated world for tests of whole jobs: four days, 11 columns, a model with crosses and one without."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from clickmill.job import Arguments, execute

DS = date(2026, 1, 4)
SETS = (
    "simulate.rows_per_day=3000",
    "simulate.ctr=0.1",
    "simulate.drift=0",
    "sampling.keep_rate=0.3",
    "split.train=2d",
    "features.audit_bits=[18, 20]",
    "dataset.slots=[C1, C2, C3, C4, C5, C6]",
    "dataset.numbers=[I1, I2, I3]",
    "judge.slices=[{kind: seen, column: C6}, {kind: buckets, column: I1, edges: [1, 10]}]",
    "dataset.crosses=[[C1, C4], [C2, C5]]",
    "models.lr.bits=18",
    "models.lr.l2=3e-3",
    "models.lr_nocross.bits=18",
    "models.lr_nocross.l2=3e-3",
)
LINEAR = ("lr", "lr_nocross")
ON_DAYS = ("simulate", "ingest", "build_features", "encode", "downsample")


def run(
    job: str, warehouse: str, *sets: str, ds: date | None = DS, **arguments: Any
) -> tuple[int, dict[str, Any]]:
    """Runs a job in this process as its command line would; its exit code and its verdict. Linear models alone,
    unless `models` names others."""
    import importlib

    if job not in ON_DAYS:
        arguments.setdefault("models", LINEAR)
    result = Path(warehouse).with_suffix(".json")
    code = execute(
        importlib.import_module(f"clickmill.jobs.{job}").JOB,
        Arguments(
            conf=("datasets/simulated.yaml",),
            set=(f"warehouse={warehouse}", *SETS, *sets),
            ds=ds,
            result_file=str(result),
            **arguments,
        ),
    )
    verdict: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return code, verdict
