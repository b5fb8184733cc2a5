"""The judge on predictions against Spark ML's evaluator and SQL: CPU of a pass over rows of label and p.

Run: .venv/bin/python bench/judge.py [--rows 1000000 --rows 10000000] [--side ours] [--repeats 3] [--memory 3g]

One Spark session on two slots, sides in turn on the same Delta table `features` (p is its number `p`, beside three
carried columns), read as each side reads tables: the evaluator through Spark, ours as `evaluate` does.

- evaluator: BinaryClassificationEvaluator (areaUnderROC) and the mean log-loss in SQL.
- ours: clickmill's judge without intervals: every metric of all rows and of each day, AUC to 1e-6.
- ours + intervals: with 200 replicates and three slices (3, 5 and 10 groups).

cpu: user and system seconds of the JVM, the driver and the Python workers, which are there before. The first run
of each side is told as `cold` and is in no median.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from hashing import Meter, machine
from numpy.typing import NDArray
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from clickmill.calibration import Calibrator, expit
from clickmill.config_files import load
from clickmill.evaluate.driver import judge
from clickmill.evaluate.passes import scored, traffic
from clickmill.evaluate.slices import ByDay, ByValue, Everything, Slices
from clickmill.evaluate.worker import Entry, Plan
from clickmill.scoring import Outside
from clickmill.split import Stretch
from clickmill.tables import ByWorkers, Tables
from clickmill.units import Units

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DS = date(2026, 1, 10)
TEST = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
CONFIG = load(["datasets/simulated.yaml"])
GROUPS = {"c_a": 3, "c_b": 5, "c_c": 10}
SIDES = EVALUATOR, PLAIN, INTERVALS = ("evaluator", "ours", "ours + intervals")
FILES = 8
ROWS = pa.schema(
    [
        ("event_id", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("label", pa.int8()),
        ("n_p", pa.float64()),
        *((name, pa.string()) for name in GROUPS),
        ("ds", pa.date32()),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help="may be given more than once")
    parser.add_argument(
        "--side", action="append", choices=SIDES, help="all unless given; may be given more than once"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--memory", default="3g", help="the heap that the JVM may take; it takes most of what it may"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    from clickmill.config import SparkConf
    from clickmill.session import get_spark

    settings: dict[str, str | None] = {"spark.driver.memory": asked.memory, "spark.ui.enabled": "false"}
    spark = get_spark(SparkConf(master="local[2]", settings=settings), app="bench")
    sides = asked.side or SIDES
    found = [measured(spark, rows, asked.repeats, sides) for rows in asked.rows or [1_000_000, 10_000_000]]
    spark.stop()
    if asked.json:
        print(json.dumps(found))
        return
    print(machine())
    print("| rows | side | CPU s | cold | wall s | peak MB | µs of CPU a row | times the evaluator's CPU |")
    print("|-|-|-|-|-|-|-|-|")
    for one in found:
        peer = one["sides"].get(EVALUATOR, {}).get("cpu_s", math.nan)
        for name, side in one["sides"].items():
            each, peak = 1e6 * side["cpu_s"] / one["rows"], side["peak_mb"]
            cells = f"{side['cpu_s']:.1f} | {side['cold_cpu_s']:.1f} | {side['wall_s']:.1f} | {peak:,.0f}"
            print(f"| {one['rows']:,} | {name} | {cells} | {each:.2f} | {side['cpu_s'] / peer:.2f} |")
        print(f"AUC: {one['auc']}", flush=True)


def measured(spark: SparkSession, rows: int, repeats: int, sides: Sequence[str]) -> dict[str, Any]:
    """The sides in turn."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    auc: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write(spark, folder, rows)
        for _ in range(1 + repeats):
            for name in runs:
                tables = Tables(spark, folder, run_id="bench")
                own = time.thread_time()
                with Meter() as meter:
                    auc[name] = (
                        evaluator(tables) if name == EVALUATOR else ours(tables, intervals=name == INTERVALS)
                    )
                driver = time.thread_time() - own
                runs[name].append({**meter.figures, "cpu_s": meter.figures["cpu_s"] + driver})
    figures = {
        name: {
            **{key: statistics.median(run[key] for run in some[1:]) for key in ("cpu_s", "wall_s")},
            "peak_mb": max(run["peak_mb"] for run in some),
            "cold_cpu_s": some[0]["cpu_s"],
        }
        for name, some in runs.items()
    }
    return {"rows": rows, "sides": figures, "auc": auc}


def write(spark: SparkSession, folder: str, rows: int) -> None:
    """Predictions of a calibrated model at a click-through rate of 3%, in at least FILES files."""
    frame = spark.range(0, rows, 1, max(FILES, rows // 1_000_000))
    made = ByWorkers(frame, predicted, to_arrow_schema(from_arrow_schema(ROWS), timezone="UTC"))
    Tables(spark, folder, run_id="rows").write("features", made, replace={"ds": DS})


def predicted(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows by number."""
    for batch in numbers:
        number = batch.column(0).to_numpy()
        rng = np.random.default_rng(int(number[0]))
        p = expit(-4.0 + rng.normal(0, 1.1, len(number)))
        columns = {
            "event_id": pa.array([f"e{n}" for n in number.tolist()]),
            "event_time": pa.array(np.full(len(p), np.datetime64("2026-01-10T05", "us"))),
            "label": pa.array((rng.random(len(p)) < p).astype(np.int8)),
            "n_p": pa.array(p),
            **{name: pa.array([f"v{n}" for n in rng.integers(0, k, len(p))]) for name, k in GROUPS.items()},
            "ds": pa.repeat(pa.scalar(DS), len(p)),
        }
        yield pa.record_batch([columns[field.name].cast(field.type) for field in ROWS], schema=ROWS)


def evaluator(tables: Tables) -> float:
    """AUC by Spark ML, log-loss by SQL."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.sql import functions as F

    frame = tables.read("features", stretch=TEST)
    rows = frame.select(F.col("label").cast("double").alias("label"), F.col("n_p").alias("rawPrediction"))
    loss = "avg(-(label * ln(rawPrediction) + (1 - label) * ln(1 - rawPrediction)))"
    rows.agg(F.expr(loss)).collect()
    return float(BinaryClassificationEvaluator(metricName="areaUnderROC").evaluate(rows))


@dataclass(frozen=True)
class Told(Outside):
    """An outside system whose p lies in `features` as a number."""

    @property
    def columns(self) -> tuple[str, ...]:
        return ("n_p",)

    def p_sampled(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        return np.asarray(batch.column("n_p").to_numpy())


def ours(tables: Tables, *, intervals: bool) -> float:
    """The judge as `evaluate` runs it, predictions not stored."""
    ways = [ByValue(name[2:], name, tuple(f"v{n}" for n in range(k - 1))) for name, k in GROUPS.items()]
    slices = Slices((Everything(), ByDay((DS,)), *(ways if intervals else ())))
    plan = Plan((Entry(Told.called("told"), Calibrator(), "none"),), slices, Units(42), 200 * intervals, 0.0, 42)
    judged = traffic(tables, CONFIG, TEST)
    with scored(judged, plan) as parcels:
        found = judge(parcels, plan, judged, TEST, min_clicks=200)
    return float(found.models[0].last_stage()["all", "auc"]["value"])


if __name__ == "__main__":
    main()
