"""Distributed logistic regression against spark.ml and scikit-learn: the same matrix, the same objective.

Run: .venv/bin/python bench/logreg.py [--rows 1000000 250000] [--bits 22 18] [--spark-iterations 100]

59 binary features a row (13 of few values, 26 Zipf-like, 20 products of two of these), 3% clicks,
objective: mean log-loss + (1e-5 / 2)·‖θ‖², intercept free. Every side runs in processes of its own on
two slots, one after another, and reads the same rows from Parquet (ours: a Delta table); what is timed is
the whole fit call. First it is checked that spark.ml's reported objective and ours agree at two weight
vectors: at its start (no weights, base rate) and at its last one.

- Gap: (objective − best) / best; best is the lowest objective that any side reached.
- ours: fit calls that stop at the iteration at which an untimed run had reached the gap. Cold: a fresh
  session, no Python worker started; the kernels lie compiled on disk, where that untimed run left them.
  Warm: later fits of the same session.
- spark.ml, cold: the first fit of a fresh session, `--spark-iterations` long; its objectiveHistory says at
  which iteration it reached the gap, and each iteration is taken to last equally long. Warm: fits of 2 and
  22 iterations after that give the set-up and the time per iteration.
- scikit-learn (lbfgs, one process) keeps no history: fits of 10, 20, 40, … iterations until one has reached
  the gap, that one's figures (so up to twice what it needs). No fit is begun that would, at the pace of the
  one before it, take longer than `--sklearn-seconds`.
- CPU: all processes of a side, the JVM included. Memory: the peak of the sum of their proportional set
  sizes, sampled every 0.2 s; session and idle JVM are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

L2 = 1e-5
COLUMNS = tuple(f"s_f{n}" for n in range(59))
GAPS = (1e-2, 1e-3)
SHORT = (2, 22)
"""Iterations of the two short fits of a warm spark.ml."""
FILES = 8
DAY = datetime(2026, 1, 1)
SAMPLE_ID = "w1-s42"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 250_000])
    parser.add_argument("--bits", type=int, nargs="+", default=[22, 18])
    parser.add_argument("--spark-iterations", type=int, default=100)
    parser.add_argument("--best-iterations", type=int, default=300, help="of our run that looks for the optimum")
    parser.add_argument("--sklearn-seconds", type=float, default=400)
    parser.add_argument("--memory", default="4g", help="of the JVM, on either side")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--iterations", type=int, nargs="+", default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments)))
        return
    print(json.dumps(machine()))
    for rows, bits in zip(arguments.rows, arguments.bits, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            compare(arguments, Path(folder), rows, bits)


def compare(arguments: argparse.Namespace, work: Path, rows: int, bits: int) -> None:
    """All sides on one matrix; prints a JSON object a line."""
    hashes, label = log(rows)
    write(work, hashes, label, bits)
    del hashes, label
    best_run = child(arguments, work, "ours", [arguments.best_iterations])["fits"][0]
    spark = child(arguments, work, "spark", [arguments.spark_iterations])
    sklearn = child(arguments, work, "sklearn", [])
    ends = [best_run["objective"], spark["history"][-1], *(fit["objective"] for fit in sklearn["fits"])]
    best = min(ends)
    size = {"rows": rows, "bits": bits, "features": len(COLUMNS), "clicks": best_run["clicks"]}
    found = {"best": best, "best_by": ("ours", "spark.ml", *["scikit-learn"] * len(ends))[ends.index(best)]}
    print(json.dumps({**size, "active": best_run["active"], **found, "same_objective": spark["same"]}))
    for gap in GAPS:
        limit = best * (1 + gap)
        sides = {
            **ours_to(arguments, work, reached(best_run["history"], limit)),
            **spark_to(spark, reached(spark["history"], limit), arguments.spark_iterations),
            "scikit-learn": sklearn_to(sklearn, limit),
        }
        for name, figures in sides.items():
            print(json.dumps({**size, "gap": gap, "side": name, **figures}))
        for heat in ("cold", "warm"):
            print(json.dumps({**size, "gap": gap, "times_faster": heat, **ratios(sides, heat)}), flush=True)


# --- what the figures mean --------------------------------------------------------------------


def reached(history: list[float], limit: float) -> int | None:
    """The first iteration whose objective is at most `limit`; history[0] is the start."""
    return next((at for at, objective in enumerate(history) if objective <= limit), None)


def ours_to(arguments: argparse.Namespace, work: Path, iterations: int | None) -> dict[str, Any]:
    """A fresh session: the first fit is cold, of the three after it the middle one is warm."""
    if iterations is None:
        return {f"ours, {heat}": {"reached": False} for heat in ("cold", "warm")}
    found = child(arguments, work, "ours", [max(iterations, 1)] * 4)
    warm = sorted(found["fits"][1:], key=lambda fit: fit["wall_s"])[1]
    figures = [found["fits"][0], warm]
    shown = ("wall_s", "cpu_s", "iterations", "objective", "seconds")
    return {
        f"ours, {heat}": {name: fit[name] for name in shown} | {"peak_mb": found["peak_mb"]}
        for heat, fit in zip(("cold", "warm"), figures, strict=True)
    }


def spark_to(spark: dict[str, Any], at: int | None, iterations: int) -> dict[str, Any]:
    """Equal time for each iteration; warm: set-up and slope from two short fits."""
    done = iterations if at is None else at
    few, more = spark["short"]
    extra = (done - few["iterations"]) / (more["iterations"] - few["iterations"])
    warm = {name: few[name] + max(more[name] - few[name], 0.0) * extra for name in ("wall_s", "cpu_s")}
    cold = {name: spark["cold"][name] * done / spark["cold"]["iterations"] for name in ("wall_s", "cpu_s")}
    rest = {"iterations": done, "reached": at is not None, "peak_mb": spark["peak_mb"]}
    return {"spark.ml, cold": cold | rest, "spark.ml, warm": warm | rest}


def sklearn_to(found: dict[str, Any], limit: float) -> dict[str, Any]:
    good = [fit for fit in found["fits"] if fit["objective"] <= limit]
    chosen = good[0] if good else found["fits"][-1]
    return {**chosen, "reached": bool(good), "peak_mb": found["peak_mb"]}


def ratios(sides: dict[str, Any], heat: str) -> dict[str, Any]:
    """spark.ml's figure over ours; where spark.ml did not reach the gap it is a lower bound."""
    ours, theirs = sides[f"ours, {heat}"], sides[f"spark.ml, {heat}"]
    if "wall_s" not in ours:
        return {"wall": None, "cpu": None}
    return {
        "wall": round(theirs["wall_s"] / ours["wall_s"], 1),
        "cpu": round(theirs["cpu_s"] / ours["cpu_s"], 1),
        "memory_of_ours": round(ours["peak_mb"] / theirs["peak_mb"], 2),
        "at_least": not theirs["reached"],
    }


# --- the sides, each in a process of its own --------------------------------------------------


def child(arguments: argparse.Namespace, work: Path, side: str, iterations: list[int]) -> dict[str, Any]:
    """Runs a side in a new process and returns what it prints."""
    command = [sys.executable, __file__, "--side", side, "--work", str(work), "--memory", arguments.memory]
    command += ["--iterations", *map(str, iterations)] if iterations else []
    command += ["--sklearn-seconds", str(arguments.sklearn_seconds)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(work / "kernels"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    brief = {name: value for name, value in found.items() if name != "history"}
    print(f"{side} has run: {json.dumps(brief)}", file=sys.stderr, flush=True)
    return found


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """One fit after another, of so many iterations each, in one session."""
    from clickmill.specs import LogregSpec
    from clickmill.split import Stretch, Stretches
    from clickmill.tables import Tables
    from clickmill.train.logreg.driver import fit
    from clickmill.train.logreg.worker import Task

    about = json.loads((arguments.work / "about.json").read_text())
    day = timedelta(days=1)
    stretches = Stretches(*(Stretch(DAY + n * day, DAY + (n + 1) * day) for n in range(3)))
    fits = []
    with session(arguments.memory) as spark, Peak() as peak:
        for iterations in arguments.iterations:
            spec = LogregSpec(
                kind="logreg", bits=about["bits"], l2=L2, max_iterations=iterations, tolerance=1e-12, ranks=2
            )
            slots = tuple(column.removeprefix("s_") for column in COLUMNS)
            tables = Tables(spark, str(arguments.work / "warehouse"), run_id="bench")
            task = Task(spec, COLUMNS, slots)
            fitted, spent = timed(lambda: fit(tables, task, stretches=stretches, sample_id=SAMPLE_ID))  # noqa: B023
            figures = fitted.figures
            names = ("objective", "iterations", "seconds", "clicks", "active")
            history = [figures["base_rate_loss"], *figures["history"]]
            fits.append({**spent, **{name: figures[name] for name in names}, "history": history})
    return {"fits": fits, "peak_mb": peak.megabytes}


def spark_ml(arguments: argparse.Namespace) -> dict[str, Any]:
    """A cold fit, two short warm ones, and whether its objective is ours."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import DoubleType, StructField, StructType

    size = json.loads((arguments.work / "about.json").read_text())
    schema = StructType([StructField("label", DoubleType()), StructField("features", VectorUDT())])
    fits = []
    with session(arguments.memory) as spark, Peak() as peak:
        frame = spark.read.schema(schema).parquet(str(arguments.work / "vectors"))
        for iterations in (arguments.iterations[0], *SHORT):
            trainer = LogisticRegression(
                regParam=L2, elasticNetParam=0.0, standardization=False, maxIter=iterations, tol=1e-14
            )
            model, spent = timed(lambda: trainer.fit(frame))  # noqa: B023
            history = list(model.summary.objectiveHistory)
            fits.append({**spent, "iterations": len(history) - 1, "history": history})
        last = model.coefficients.toArray(), float(model.intercept)
    q = size["clicks"] / size["rows"]
    start = np.zeros(2 ** size["bits"]), float(np.log(q / (1 - q)))
    told = fits[-1]["history"]
    same = {
        name: {"spark.ml": at, "ours": objective(arguments.work, *point)}
        for name, at, point in (("start", told[0], start), (f"after {SHORT[1]} iterations", told[-1], last))
    }
    for name, pair in same.items():
        if abs(pair["ours"] - pair["spark.ml"]) > 1e-9 * abs(pair["ours"]):
            raise SystemExit(f"the two objectives differ at {name}: {pair}")
    return {
        "cold": fits[0],
        "short": fits[1:],
        "history": fits[0]["history"],
        "same": same,
        "peak_mb": peak.megabytes,
    }


def scikit_learn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fits of more and more iterations, until the objective hardly falls or the next would take too long."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore", ConvergenceWarning)
    fits: list[dict[str, Any]] = []
    with Peak() as peak:
        matrix, label = matrix_of(arguments.work)
        for iterations in (10, 20, 40, 80, 160, 320):
            model = LogisticRegression(C=1 / (L2 * len(label)), solver="lbfgs", max_iter=iterations, tol=1e-12)
            _, spent = timed(lambda: model.fit(matrix, label))  # noqa: B023
            at = objective(arguments.work, model.coef_[0], float(model.intercept_[0]))
            fits.append({**spent, "iterations": int(model.n_iter_[0]), "objective": at})
            settled = len(fits) > 1 and fits[-2]["objective"] - at < 1e-4 * at
            if settled or 2 * spent["wall_s"] > arguments.sklearn_seconds:
                break
    return {"fits": fits, "peak_mb": peak.megabytes}


SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ours": ours,
    "spark": spark_ml,
    "sklearn": scikit_learn,
}


def objective(work: Path, weights: np.ndarray, intercept: float) -> float:
    """Ours at weights (2^bits,): what `clickmill.train.logreg` minimises, by its own passes over the rows."""
    from clickmill.train.logreg.problem import Problem
    from clickmill.train.logreg.rows import find_active, load
    from clickmill.train.logreg.solver import Penalty
    from clickmill.train.ring import SoloRing

    bits = json.loads((work / "about.json").read_text())["bits"]
    files = sorted((work / "warehouse" / "sample").rglob("*.parquet"))
    batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches(65536))
    rows = load(batches, COLUMNS, bits)
    active = find_active(rows, SoloRing(), slots=COLUMNS, bits=bits, min_count=1)
    for block in rows.cells:
        active.relabel(block)
    problem = Problem(rows, np.ones(len(rows)), len(active), SoloRing())
    theta = np.zeros(problem.length)
    theta[0] = intercept
    theta[active.position] = weights[active.index]
    margins = problem.margins(theta)
    unused = L2 / 2 * float(weights @ weights - weights[active.index] @ weights[active.index])
    return problem.line(margins, margins, 0.0).loss + Penalty(L2).value(problem, theta) + unused


# --- the log ----------------------------------------------------------------------------------


def log(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 59) whole hashes as int32 and (n,) labels."""
    rng = np.random.default_rng(seed)
    numbers = [np.minimum(rng.geometric(0.2, rows), 20) for _ in range(13)]
    tails = np.geomspace(3, 1e6, 26)
    slots = [(tail ** rng.random(rows)).astype(np.int64) for tail in tails]
    hashed = [mixed(n, values) for n, values in enumerate([*numbers, *slots])]
    hashed += [mixed(99 + n, hashed[13 + n] ^ (hashed[17 + n] << np.uint64(1))) for n in range(20)]
    effects = sum((h >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5 for h in hashed)
    p = 1 / (1 + np.exp(-(-3.9 + 0.5 * effects)))
    label = (rng.random(rows) < p).astype(np.int8)
    return np.column_stack([h.astype(np.uint32).view(np.int32) for h in hashed]), label


def mixed(slot: int, values: np.ndarray) -> np.ndarray:
    """A 64-bit hash of slot and value (SplitMix64's finaliser)."""
    own = np.uint64((slot + 1) * 0xD1B54A32D192ED03 % 2**64)
    h = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + own
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def write(work: Path, hashes: np.ndarray, label: np.ndarray, bits: int) -> None:
    """The rows as tables of ours and as Parquet files of spark.ml's vectors."""
    about = {"bits": bits, "rows": len(label), "clicks": int(label.sum())}
    (work / "about.json").write_text(json.dumps(about))
    (work / "vectors").mkdir()
    for n, part in enumerate(np.array_split(np.arange(len(label)), FILES)):
        write_ours(work / "warehouse", hashes[part], label[part])
        write_vectors(work / "vectors" / f"{n}.parquet", hashes[part], label[part], bits)


def write_ours(warehouse: Path, hashes: np.ndarray, label: np.ndarray) -> None:
    """One more file of `sample` on the training day; of `features` a few rows on the validation day."""
    from deltalake import write_deltalake

    for name, day, rows in (("sample", DAY, len(label)), ("features", DAY + timedelta(days=1), 200)):
        columns: dict[str, Any] = {column: hashes[:rows, j].copy() for j, column in enumerate(COLUMNS)}
        own = label[:rows]
        columns |= {"label": own, "weight": np.ones(len(own)), "keep_rate": np.ones(len(own))}
        table = pa.table(columns)
        time_of = pa.repeat(pa.scalar(day, pa.timestamp("us", "UTC")), len(own))
        table = table.append_column("event_time", time_of).append_column(
            "ds", pa.repeat(pa.scalar(day.date()), len(own))
        )
        table = table.append_column("sample_id", pa.repeat(pa.scalar(SAMPLE_ID), len(own)))
        write_deltalake(str(warehouse / name), table, mode="append", partition_by=["ds", "sample_id"])


def write_vectors(file: Path, hashes: np.ndarray, label: np.ndarray, bits: int) -> None:
    """The same rows as sparse vectors, repeated indices of a row added up, in the form of Spark's VectorUDT."""
    matrix = sparse(hashes, bits)
    n = len(label)
    offsets = pa.array(matrix.indptr, pa.int32())
    vectors = pa.StructArray.from_arrays(
        [
            pa.array(np.zeros(n, np.int8)),
            pa.array(np.full(n, 2**bits, np.int32)),
            pa.ListArray.from_arrays(offsets, pa.array(matrix.indices, pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(matrix.data)),
        ],
        names=["type", "size", "indices", "values"],
    )
    pq.write_table(pa.table({"label": label.astype(np.float64), "features": vectors}), file)


def matrix_of(work: Path) -> tuple[csr_matrix, np.ndarray]:
    """The very same matrix, for scikit-learn."""
    bits = json.loads((work / "about.json").read_text())["bits"]
    table = pa.concat_tables([pq.read_table(file) for file in sorted((work / "vectors").glob("*.parquet"))])
    vectors = table.column("features").combine_chunks()
    indices, values = vectors.field("indices"), vectors.field("values")
    parts = (values.flatten().to_numpy(), indices.flatten().to_numpy(), indices.offsets.to_numpy())
    return csr_matrix(parts, shape=(len(table), 2**bits)), table.column("label").to_numpy()


def sparse(hashes: np.ndarray, bits: int) -> csr_matrix:
    indices = (hashes.view(np.uint32) & np.uint32(2**bits - 1)).astype(np.int32).ravel()
    starts = np.arange(0, hashes.size + 1, hashes.shape[1], dtype=np.int32)
    matrix = csr_matrix((np.ones(hashes.size), indices, starts), shape=(len(hashes), 2**bits))
    matrix.sum_duplicates()
    return matrix


# --- measuring --------------------------------------------------------------------------------


@contextmanager
def session(memory: str) -> Iterator[Any]:
    from clickmill.config import SparkConf
    from clickmill.session import get_spark

    settings: dict[str, str | None] = {
        "spark.driver.memory": memory,
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
    }
    spark = get_spark(SparkConf(master="local[2]", settings=settings), app="bench logreg")
    try:
        yield spark
    finally:
        spark.stop()


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the call returns, its wall time, and the CPU time of this process and all below it."""
    cpu, start = spent_cpu(), time.perf_counter()
    result = call()
    return result, {
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(spent_cpu() - cpu, 2),
    }


def tree() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def spent_cpu() -> float:
    total = 0.0
    for process in tree():
        try:
            total += sum(process.cpu_times()[:4])  # with those children that have ended
        except psutil.NoSuchProcess:
            continue
    return total


class Peak:
    """The highest sum of the proportional set sizes of this process and all below it while inside."""

    megabytes = 0

    def __enter__(self) -> Peak:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            total = 0
            for process in tree():
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.megabytes = max(self.megabytes, total // 2**20)


def machine() -> dict[str, Any]:
    names = ("clickmill", "pyspark", "scikit-learn", "xgboost", "numba", "numpy")
    return {
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
