"""How often one training seed of a spec "beats" another: the gate's false alarms that no equal NE stands behind.

Models of one spec, each trained on a sample of another seed, are judged on one test day; for every ordered pair
the upper bound of the paired NE difference is held against `min_gain`. Example:

python bench/seeds.py --seeds 10 --rows-per-day 20000
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from deltalake import DeltaTable

from clickmill.job import Arguments, execute
from clickmill.jobs import build_features, calibrate, downsample, evaluate, ingest, simulate, train_logreg

DS = date(2026, 1, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows-per-day", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clickmill-seeds-") as folder:
        names = [f"lr{seed}" for seed in range(asked.seeds)]
        models = {name: {"kind": "logreg", "bits": 20, "l2": 3e-3} for name in names}
        (Path(folder) / "models.yaml").write_text(json.dumps({"models": models}), encoding="utf-8")
        base = (f"warehouse={folder}/w", f"simulate.rows_per_day={asked.rows_per_day}")

        def run(job: object, *sets: str, days: int | None = 10, models: tuple[str, ...] = ()) -> None:
            conf = ("datasets/simulated.yaml", f"{folder}/models.yaml")
            arguments = Arguments(conf, (*base, *sets), DS, days, models, json=False)
            assert execute(job.JOB, arguments) == 0  # type: ignore[attr-defined]

        for job in (simulate, ingest, build_features):
            run(job)
        for seed, name in enumerate(names):
            run(downsample, f"sampling.seed={seed}")
            run(train_logreg, f"sampling.seed={seed}", days=None, models=(name,))
        for job in (calibrate, evaluate):
            run(job, days=None, models=tuple(names))
        rows = DeltaTable(f"{folder}/w/comparisons").to_pyarrow_table().to_pylist()
    pairs = [row for row in rows if (row["slice"], row["metric"]) == ("all", "ne")]
    high = np.array([row["high"] for row in pairs])
    error = np.mean([row["standard_error"] for row in pairs])
    spread = np.std([row["difference"] for row in pairs])
    print(f"{len(pairs)} ordered pairs; standard error {error:.5f}, spread of the differences {spread:.5f}")
    for gain in (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003):
        print(f"min_gain {gain:.4f}: {np.mean(high < -gain):.1%} promoted")
    print(f"at most 5% from min_gain {-np.quantile(high, 0.05):.5f}")


if __name__ == "__main__":
    main()
