"""The judge on predictions against Spark ML's evaluator and SQL: CPU of a pass over rows of label and p.

Run: .venv/bin/python bench/judge.py [--rows 1000000 --rows 10000000] [--repeats 3] [--json]

One Spark session on two slots, sides in turn on the same Parquet file (event_id, label, p, three slice columns).

- evaluator: BinaryClassificationEvaluator (areaUnderROC) and the mean log-loss in SQL.
- ours: clickmill's judge without intervals: every metric of all rows and of each day, AUC to 1e-6.
- ours + intervals: with 200 replicates and three slices (3, 5 and 10 groups).

cpu: user and system seconds of the JVM and the Python workers, which are there before. The first run of each side
is told as `cold` and is in no median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hashing import Meter, machine

from clickmill.calibration import Calibrator, expit
from clickmill.evaluate.driver import Traffic, judge, scored
from clickmill.evaluate.slices import ByDay, ByValue, Everything, Slices, Units
from clickmill.evaluate.worker import Entry, Plan
from clickmill.scoring import P_OUTSIDE, Outside
from clickmill.split import Stretch

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DS = date(2026, 1, 10)
GROUPS = {"c_a": 3, "c_b": 5, "c_c": 10}
EVALUATOR, PLAIN, INTERVALS = "evaluator", "ours", "ours + intervals"
FILES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help="may be given more than once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    from clickmill.config import SparkConf
    from clickmill.session import get_spark

    settings: dict[str, str | None] = {"spark.driver.memory": "3g", "spark.ui.enabled": "false"}
    spark = get_spark(SparkConf(master="local[2]", settings=settings), app="bench")
    found = [measured(spark, rows, asked.repeats) for rows in asked.rows or [1_000_000, 10_000_000]]
    spark.stop()
    if asked.json:
        print(json.dumps(found))
        return
    print(machine())
    print("| rows | side | CPU s | cold | wall s | peak MB | µs of CPU a row | times the evaluator's CPU |")
    print("|-|-|-|-|-|-|-|-|")
    for one in found:
        peer = one["sides"][EVALUATOR]["cpu_s"]
        for name, side in one["sides"].items():
            each, peak = 1e6 * side["cpu_s"] / one["rows"], side["peak_mb"]
            cells = f"{side['cpu_s']:.1f} | {side['cold_cpu_s']:.1f} | {side['wall_s']:.1f} | {peak:,.0f}"
            print(f"| {one['rows']:,} | {name} | {cells} | {each:.2f} | {side['cpu_s'] / peer:.2f} |")
        print(f"AUC: {one['auc']}", flush=True)


def measured(spark: SparkSession, rows: int, repeats: int) -> dict[str, Any]:
    """The sides in turn."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (EVALUATOR, PLAIN, INTERVALS)}
    auc: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), rows)
        for _ in range(1 + repeats):
            for name in runs:
                frame = spark.read.parquet(folder)
                with Meter() as meter:
                    auc[name] = evaluator(frame) if name == EVALUATOR else ours(frame, intervals=name == INTERVALS)
                runs[name].append(meter.figures)
                spark.catalog.clearCache()
    sides = {
        name: {
            **{key: statistics.median(run[key] for run in some[1:]) for key in ("cpu_s", "wall_s")},
            "peak_mb": max(run["peak_mb"] for run in some),
            "cold_cpu_s": some[0]["cpu_s"],
        }
        for name, some in runs.items()
    }
    return {"rows": rows, "sides": sides, "auc": auc}


def write(folder: Path, rows: int) -> None:
    """Predictions of a calibrated model at a click-through rate of 3%, in FILES files."""
    rng = np.random.default_rng(1)
    for number, part in enumerate(np.array_split(np.arange(rows), FILES)):
        p = expit(-4.0 + rng.normal(0, 1.1, len(part)))
        times = np.full(len(part), np.datetime64("2026-01-10T05", "us"))
        columns = {
            "event_id": pa.array([f"e{n}" for n in part.tolist()]),
            "event_time": pa.array(times, pa.timestamp("us", "UTC")),
            "label": pa.array((rng.random(len(part)) < p).astype(np.int8)),
            P_OUTSIDE: p,
            **{name: pa.array([f"v{n}" for n in rng.integers(0, k, len(part))]) for name, k in GROUPS.items()},
        }
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")


def evaluator(frame: DataFrame) -> float:
    """AUC by Spark ML, log-loss by SQL."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.sql import functions as F

    rows = frame.select(F.col("label").cast("double").alias("label"), F.col(P_OUTSIDE).alias("rawPrediction"))
    loss = "avg(-(label * ln(rawPrediction) + (1 - label) * ln(1 - rawPrediction)))"
    rows.agg(F.expr(loss)).collect()
    return float(BinaryClassificationEvaluator(metricName="areaUnderROC").evaluate(rows))


def ours(frame: DataFrame, *, intervals: bool) -> float:
    """The judge that `evaluate` and `compare` run."""
    ways = [ByValue(name[2:], name, tuple(f"v{n}" for n in range(k - 1))) for name, k in GROUPS.items()]
    slices = Slices((Everything(), ByDay((DS,)), *(ways if intervals else ())))
    entry = Entry(Outside.called("outside"), Calibrator(), "none")
    plan = Plan((entry,), slices, Units(42), 200 if intervals else 0, 0.0, 42)
    judged = Traffic(frame, "full")
    stretch = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
    with scored(judged, plan) as rows:
        found = judge(rows, plan, judged, stretch, min_clicks=200)
    return float(found.models[0].last_stage()["all", "auc"]["value"])


if __name__ == "__main__":
    main()
