"""train_xgboost against SparkXGBClassifier and XGBoost in one process: the same rows, the same parameters.

Run: .venv/bin/python bench/trees.py [--rows 500000 4000000] [--rounds 30] [--repeats 3]

39 numbers a row, a tenth of them missing, about 9% clicks that hang on numbers, products and steps; a Delta table
of eight files. Depth 6, eta 0.3, 256 bins. Every side reads the table and ends with trees; a fit is timed from the
call to its end. Each fit runs in a process of its own, in turn, so that all are cold but for Spark's start and its
first read of the table's log, which are not timed; ours and SparkXGBClassifier on two slots, XGBoost alone with
one thread and with two.

- ours also follows the log-loss of the training and of 10,000 validation rows after each round, and explains 1,000
  rows.
- NE: of the three sides' trees on 200,000 other rows.
- CPU: all processes of a side, the JVM included. Memory: the peak of the sum of their proportional set sizes.

(Called trees.py: a bench/xgboost.py would hide the library from every script beside it.)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from logreg import DAY, SAMPLE_ID, Peak, machine, session, timed

FEATURES = 39
NAMES = tuple(f"n_f{n}" for n in range(FEATURES))
FILES = 8
VALIDATION, TEST = 10_000, 200_000
GROWTH = {"max_depth": 6, "eta": 0.3, "max_bin": 256}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000, 4_000_000])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", default="4g", help="of the JVM, on either side")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(SIDES[asked.side](asked)))
        return
    print(json.dumps(machine()))
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            compare(asked, Path(folder), rows)


def compare(asked: argparse.Namespace, work: Path, rows: int) -> None:
    """All sides in turn, so many times; a JSON object for each fit, one for each side's medians, one of ratios."""
    for n in range(FILES):
        write(work / "warehouse" / "sample", rows // FILES, seed=n, days=0)
    write(work / "warehouse" / "features", VALIDATION, seed=FILES, days=1)
    fits: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(asked.repeats):
        for side in SIDES:
            fits[side].append(child(asked, work, side))
            print(json.dumps({"rows": rows, "side": side, **fits[side][-1]}), flush=True)
    medians = {
        side: {
            name: statistics.median(fit[name] for fit in found) for name in ("wall_s", "cpu_s", "peak_mb", "ne")
        }
        for side, found in fits.items()
    }
    for side, figures in medians.items():
        print(json.dumps({"rows": rows, "median_of": side, **figures}))
    ours, spark = medians["ours"], medians["spark"]
    native = min((medians["native, 1 thread"], medians["native, 2 threads"]), key=lambda found: found["wall_s"])
    ratios = {
        "spark_wall_over_ours": round(spark["wall_s"] / ours["wall_s"], 2),
        "pair_by_pair": [
            round(b["wall_s"] / a["wall_s"], 2) for a, b in zip(fits["ours"], fits["spark"], strict=True)
        ],
        "ours_wall_over_native": round(ours["wall_s"] / native["wall_s"], 2),
        "ours_peak_over_native": round(ours["peak_mb"] / native["peak_mb"], 2),
        "ours_peak_over_spark": round(ours["peak_mb"] / spark["peak_mb"], 2),
    }
    print(json.dumps({"rows": rows, **ratios}), flush=True)


def child(asked: argparse.Namespace, work: Path, side: str) -> dict[str, Any]:
    """One fit in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--work", str(work), "--rounds", str(asked.rounds)]
    done = subprocess.run([*command, "--memory", asked.memory], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- the sides --------------------------------------------------------------------------------


def ours(asked: argparse.Namespace) -> dict[str, Any]:
    from clickmill.config import Config
    from clickmill.models import artifact
    from clickmill.models.xgboost import XgboostModel
    from clickmill.split import Stretch, Stretches
    from clickmill.tables import Tables
    from clickmill.train.xgboost.driver import train

    columns: dict[str, list[str]] = {"slots": [], "crosses": []}
    growth = {"rounds": asked.rounds, "early_stopping_rounds": None, "checkpoint_rounds": asked.rounds, **GROWTH}
    spec = {"kind": "xgboost", "values": "hashes", "columns": columns, "ranks": 2, **growth}
    dataset = {
        "name": "bench",
        "source": {"path": "x", "format": "parquet"},
        "label": "click",
        "event_time": {"kind": "column", "column": "time"},
        "slots": [],
        "numbers": [name.removeprefix("n_") for name in NAMES],
    }
    warehouse = str(asked.work / "warehouse")
    cfg = Config.model_validate(
        {"dataset": dataset, "warehouse": warehouse, "sampling": {"keep_rate": 1}, "models": {"trees": spec}}
    )
    day = timedelta(days=1)
    stretches = Stretches(*(Stretch(DAY + n * day, DAY + (n + 1) * day) for n in range(3)))
    with session(asked.memory) as spark, Peak() as peak:
        tables = Tables(spark, warehouse, run_id="bench")
        warm(spark, tables.path("sample"))
        row, spent = timed(lambda: train(tables, cfg, name="trees", ds=DAY.date(), stretches=stretches))
    model = artifact.load(row["artifact"])
    assert isinstance(model, XgboostModel)
    phases = json.loads(row["training"])["seconds"]
    return {**spent, "peak_mb": peak.megabytes, "ne": ne_of(model.booster), "seconds": phases}


def spark_xgboost(asked: argparse.Namespace) -> dict[str, Any]:
    from xgboost.spark import SparkXGBClassifier

    with session(asked.memory) as spark, Peak() as peak:
        path = str(asked.work / "warehouse" / "sample")
        warm(spark, path)
        trainer = SparkXGBClassifier(
            features_col=list(NAMES),
            label_col="label",
            num_workers=2,
            n_estimators=asked.rounds,
            tree_method="hist",
            missing=float("nan"),
            **{"max_depth": 6, "learning_rate": 0.3, "max_bin": 256},
        )
        model, spent = timed(lambda: trainer.fit(spark.read.format("delta").load(path)))
    return {**spent, "peak_mb": peak.megabytes, "ne": ne_of(model.get_booster())}


def native(asked: argparse.Namespace, threads: int) -> dict[str, Any]:
    import xgboost
    from deltalake import DeltaTable

    def fit() -> Any:
        table = DeltaTable(str(asked.work / "warehouse" / "sample")).to_pyarrow_table(columns=[*NAMES, "label"])
        matrix = np.empty((len(table), FEATURES), np.float32)
        for place, name in enumerate(NAMES):
            matrix[:, place] = table[name].to_numpy()
        rows = xgboost.QuantileDMatrix(matrix, table["label"].to_numpy(), max_bin=256, nthread=threads)
        parameters = {"objective": "binary:logistic", "tree_method": "hist", "nthread": threads, **GROWTH}
        return xgboost.train(parameters, rows, asked.rounds)

    with Peak() as peak:
        booster, spent = timed(fit)
    return {**spent, "peak_mb": peak.megabytes, "ne": ne_of(booster)}


def one_thread(asked: argparse.Namespace) -> dict[str, Any]:
    return native(asked, 1)


def two_threads(asked: argparse.Namespace) -> dict[str, Any]:
    return native(asked, 2)


SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ours": ours,
    "spark": spark_xgboost,
    "native, 1 thread": one_thread,
    "native, 2 threads": two_threads,
}


def warm(spark: Any, path: str) -> None:
    """What a session's first look at a Delta table costs, and no row of it."""
    assert spark.read.format("delta").load(path).schema.names


def ne_of(booster: Any) -> float:
    """NE on rows that no side has seen."""
    import xgboost

    from clickmill.metrics import normalized_entropy

    matrix, label = log(TEST, seed=99)
    booster.set_param({"nthread": 2})
    rows = xgboost.DMatrix(matrix, feature_names=booster.feature_names)
    return round(normalized_entropy(label, booster.predict(rows).astype(float)), 5)


# --- the log ----------------------------------------------------------------------------------


def log(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 39) floats with NaN and (n,) labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    effect = 0.5 * x[:, 0] + 0.4 * x[:, 1] * x[:, 2] + 0.6 * (x[:, 3] > 1) + 0.3 * np.sin(2 * x[:, 4])
    effect += 0.02 * x[:, 5:25].sum(axis=1)
    label = (rng.random(rows) < 1 / (1 + np.exp(2.7 - effect))).astype(np.int8)
    x[rng.random(x.shape, np.float32) < 0.1] = np.nan
    return x, label


def write(path: Path, rows: int, *, seed: int, days: int) -> None:
    """One more file of a table, `days` after the first day."""
    from deltalake import write_deltalake

    matrix, label = log(rows, seed)
    columns: dict[str, Any] = {name: pa.array(matrix[:, j], from_pandas=True) for j, name in enumerate(NAMES)}
    columns |= {"label": label, "weight": np.ones(rows), "keep_rate": np.ones(rows)}
    table = pa.table(columns)
    day = DAY + timedelta(days=days)
    for name, value in (
        ("event_time", pa.scalar(day, pa.timestamp("us", "UTC"))),
        ("ds", pa.scalar(day.date())),
        ("sample_id", pa.scalar(SAMPLE_ID)),
    ):
        table = table.append_column(name, pa.repeat(value, rows))
    write_deltalake(str(path), table, mode="append", partition_by=["ds", "sample_id"])


if __name__ == "__main__":
    main()
