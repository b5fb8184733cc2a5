"""What each step of the daily pipeline costs: CPU, bytes shuffled and written, memory, at several sizes of a log.

Run: .venv/bin/python bench/scale.py [--rows 1000000 --rows 3000000 --rows 10000000] [--figures FILE] [--write]

A simulated log of --rows rows over three days, without drift: train, validation and test are a day each, and
w = 0.05. Each job is a process of its own with a session on two slots, as Airflow would start it, one after
another. The second size trains once more on a sample of w = 0.5, so that what a sampled row costs can be told from
what a row of validation time does, and does ingest and build_features once more as a cluster does: in 64 tasks,
their rows written by Spark instead of by the workers. `--write` leaves the tables in docs/scale.md. Linux only.

- CPU: user and system seconds of the job and of all that it started, ended or not, as the kernel counts them.
- memory: the greatest sum of proportional set sizes, sampled every 0.5 s; and by itself that of the driver, of the
  JVM (in local mode driver's and executors') and of the largest other process.
- shuffled: `Shuffle Bytes Written` of all tasks in Spark's event log.
- written: growth of the warehouse's folder, models among it; scratch files of workers and of Spark are not in it.
- `feature audit` is the second part of build_features, from when `features` was committed.

`--figures FILE` keeps what was measured, and beside it the warehouse of a size that is not done: a run that was
cut short goes on where it was. With `--tables` nothing is run: the steps that FILE has of all sizes are told.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psutil
from deltalake import DeltaTable
from hashing import cpu_of_children, machine
from pyspark.serializers import CloudPickleSerializer

from clickmill.errors import EXIT_DONE, EXIT_REFUSED
from clickmill.features.driver import HISTORY_DAYS
from clickmill.reader import Piece, Shard
from clickmill.tables import TASK_ROWS
from clickmill.writer import ROW_GROUP

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- made by bench/scale.py --write -->", "<!-- end of what bench/scale.py made -->"
SIZES = (1_000_000, 3_000_000, 10_000_000)
DAYS = tuple(date(2026, 1, 1) + timedelta(days=n) for n in range(3))
MILLION, MB = 1e6, 2**20
KEEP, DENSE = 0.05, 0.5
EXTRAPOLATED = (1e9, 100e9)
"""Rows a day."""
TRAIN_DAYS = 7
DAYS_READ = {"feature audit": HISTORY_DAYS + 1, "monitor": TRAIN_DAYS + 2}
"""Of the steps that read more than one day's rows each day."""
SPARK_ROW_GROUP = 1_000_000
"""Rows of `features` in the 128 MB at which Spark ends a row group, about."""
HOURS, AT_WORK, CORES, HEAP_GB = 2, 0.6, 4, 4
"""Assumed of a cluster: a day's run may take so long, so much of its cores' time is work, and an executor has so
many cores and so large a heap."""
MODELS: dict[str, dict[str, Any]] = {
    "lr": {"kind": "logreg", "bits": 22, "l2": 1e-3},
    "trees": {"kind": "xgboost", "history": "1d", "rounds": 50, "max_depth": 6, "early_stopping_rounds": None},
    "deep": {"kind": "wide_deep", "launcher": "horovod", "ranks": 2, "batch_rows": 1024, "epochs": 1},
}
TRAINED = {"train_logreg": "lr", "train_xgboost": "trees", "train_wide_deep": "deep"}


AS_ON_A_CLUSTER = """
from clickmill import session
session.is_local = lambda spark: False
from clickmill.jobs.{job} import JOB
JOB.run()
"""


class Step(NamedTuple):
    """A job as the pipeline starts it."""

    name: str
    job: str
    models: tuple[str, ...] = ()
    days: int = 1
    """That it works on."""
    reads: int | None = None
    """Days whose rows it reads, where these are others."""
    ds: date = DAYS[-1]
    until: str | None = None
    """The table whose commit ends the step; what the job does after it is a step of its own, `then`."""
    then: str | None = None
    by_spark: bool = False
    """As a cluster does it, where the workers' disks are not the driver's."""


STEPS = (
    Step("simulate", "simulate", days=3),
    Step("ingest", "ingest", days=3),
    Step("build_features", "build_features", days=3, until="features", then="feature audit"),
    Step("encode", "encode", days=3),
    Step("downsample", "downsample", ds=DAYS[0]),
    *(Step(job, job, (model,)) for job, model in TRAINED.items()),
    Step("calibrate", "calibrate", tuple(MODELS)),
    Step("evaluate (lr)", "evaluate", ("lr",)),
    Step("evaluate", "evaluate", tuple(MODELS)),
    Step("promote", "promote", tuple(MODELS), reads=0),
    Step("monitor", "monitor", reads=3),
)
BY_SPARK = tuple(Step(f"{job}, by Spark", job, days=3, by_spark=True) for job in ("ingest", "build_features"))
DENSER = (Step("downsample", "downsample", ds=DAYS[0]), *(step for step in STEPS if step.job in TRAINED))


class Part(NamedTuple):
    """Steps told together, on one sample."""

    name: str
    steps: tuple[Step, ...]
    keep_rate: float


PARTS = (Part("costs", STEPS, KEEP), Part("by_spark", BY_SPARK, KEEP), Part("dense", DENSER, DENSE))
"""The second and the third are of the second size alone."""


class Cost(NamedTuple):
    """Of a step."""

    cpu_s: float
    shuffled: float
    """MB, as all below."""
    written: float
    peak: float
    driver: float
    jvm: float
    worker: float
    """The largest process that is neither."""


class Law(NamedTuple):
    """cost = fixed + per_million · rows / 10^6."""

    fixed: float
    per_million: float
    missed: float | None
    """By what share the law differs from the cost at the sizes in between, at most; None without any."""


def law(rows: Sequence[float], costs: Sequence[float]) -> Law:
    """The line through the cost at the fewest and at the most rows, and how it fits those in between.

    Where no rows are read, the greatest cost.
    """
    if not rows[-1]:
        return Law(max(costs), 0.0, None)
    slope = (costs[-1] - costs[0]) / (rows[-1] - rows[0])
    fixed = costs[0] - slope * rows[0]
    between = zip(rows[1:-1], costs[1:-1], strict=True)
    missed = max((((fixed + slope * n) / cost - 1 for n, cost in between if cost)), key=abs, default=None)
    return Law(fixed, slope * MILLION, missed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="of all three days; may be repeated")
    parser.add_argument("--figures", type=Path, help="a JSON file that keeps what was measured")
    parser.add_argument("--tables", action="store_true", help="of what --figures has, and no more")
    parser.add_argument("--write", action="store_true", help="leave the tables in docs/scale.md")
    asked = parser.parse_args()
    sizes = sorted(asked.rows or SIZES)
    if len(sizes) < 2:
        parser.error("a law takes two sizes of --rows or more")
    known = json.loads(asked.figures.read_text()) if asked.figures and asked.figures.exists() else {}
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="clickmill-scale-") as folder:
        for number, rows in enumerate(() if asked.tables else sizes):
            work = Path(f"{asked.figures}.{rows}" if asked.figures else f"{folder}/{rows}")
            parts = PARTS if number == 1 else PARTS[:1]
            for _ in measured(known.setdefault(str(rows), {"rows": rows // 3 * 3}), work, parts):
                if asked.figures:
                    asked.figures.write_text(json.dumps(known, indent=1), encoding="utf-8")
            shutil.rmtree(work, ignore_errors=True)
    page = tables({rows: known[str(rows)] for rows in sizes})
    print(page)
    if asked.write:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{page}\n{END}{after}", encoding="utf-8")


# --- measuring --------------------------------------------------------------------------------


def measured(one: dict[str, Any], work: Path, parts: Sequence[Part]) -> Iterator[None]:
    """Adds to a size's figures what they lack, step by step; `work` holds its warehouse meanwhile."""
    for part in parts:
        costs = one.setdefault(part.name, {})
        for step in part.steps:
            if step.name in costs:
                continue
            for name, cost in costs_of(step, work, one["rows"], part.keep_rate):
                costs[name] = cost._asdict()
                told = ", ".join(f"{key} {value:,.1f}" for key, value in costs[name].items())
                print(f"{one['rows']:,} rows, {part.name}, {name}: {told}", file=sys.stderr, flush=True)
            one["sampled"], one["machine"] = sampled_rows(work), machine()
            yield


def costs_of(step: Step, work: Path, rows: int, keep_rate: float) -> list[tuple[str, Cost]]:
    """Runs the job; one cost, or two where its work is told in two parts."""
    events, warehouse = work / "events" / f"{step.name}-{keep_rate}".replace(" ", "_"), work / "w"
    shutil.rmtree(events, ignore_errors=True)
    events.mkdir(parents=True)
    conf = work / "scale.json"
    conf.write_text(json.dumps(config(warehouse, events, rows, keep_rate)), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "clickmill"), "run", step.job]
    if step.by_spark:
        command = [sys.executable, "-c", AS_ON_A_CLUSTER.format(job=step.job)]
    command += ["--conf", "datasets/simulated.yaml", "--conf", str(conf), "--ds", step.ds.isoformat()]
    command += ["--days", str(step.days)] if step.days > 1 else []
    command += ["--models", ",".join(step.models)] if step.models else []
    sizes = folder_sizes(warehouse)
    with Meter() as meter:
        code = meter.run(command)
    if code not in (EXIT_DONE, EXIT_REFUSED):
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    now = folder_sizes(warehouse)
    grown = {table: size - sizes.get(table, 0) for table, size in now.items()}
    shuffles = list(shuffle_writes(events))
    if step.until is None:
        return [(step.name, meter.cost(shuffles, sum(grown.values())))]
    assert step.then is not None
    first = grown.pop(step.until)
    commits = (warehouse / step.until / "_delta_log").glob("*.json")
    moment = max(file.stat().st_mtime for file in commits)
    return [
        (step.name, meter.cost(shuffles, first, end=moment)),
        (step.then, meter.cost(shuffles, sum(grown.values()), begin=moment)),
    ]


def config(warehouse: Path, events: Path, rows: int, keep_rate: float) -> dict[str, Any]:
    """What is laid over the simulated log's own config."""
    return {
        "warehouse": str(warehouse),
        "simulate": {"rows_per_day": rows // 3, "users": rows // 60, "drift": 0},
        "split": {"train": "1d", "validation": "1d", "test": "1d"},
        "sampling": {"keep_rate": keep_rate},
        "models": MODELS,
        "spark": {
            "master": "local[2]",
            "settings": {
                "spark.eventLog.enabled": "true",
                "spark.eventLog.dir": events.as_uri(),
                "spark.eventLog.compress": "false",
                "spark.eventLog.rolling.enabled": "false",
            },
        },
    }


class Meter:
    """CPU and memory of a command and of all that it starts, by time."""

    def __enter__(self) -> Meter:
        self._begin, self._stop = cpu_of_all(), threading.Event()
        self._cpu: list[tuple[float, float]] = []
        self._memory: list[tuple[float, float, float, float, float]] = []
        self._driver = 0
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def run(self, command: Sequence[str]) -> int:
        """The command's exit code, once it and all that it left behind have ended."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._driver = process.pid
        code = process.wait()
        reap_orphans()
        return code

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()
        self._cpu.append((time.time(), cpu_of_all() - self._begin))

    def _sample(self) -> None:
        while not self._stop.wait(0.5):
            now, cpu, sizes = time.time(), cpu_of_all() - self._begin, dict(self._sizes())
            self._cpu.append((now, cpu))
            driver = sizes.pop((self._driver, False), 0.0)
            jvm = sum(size for (_, is_jvm), size in sizes.items() if is_jvm)
            others = [size for (_, is_jvm), size in sizes.items() if not is_jvm]
            self._memory.append((now, driver + jvm + sum(others), driver, jvm, max(others, default=0.0)))

    def _sizes(self) -> Iterator[tuple[tuple[int, bool], float]]:
        for child in psutil.Process().children(recursive=True):
            try:
                yield (child.pid, child.name() == "java"), child.memory_full_info().pss / MB
            except psutil.Error:  # it has just ended
                continue

    def cost(
        self,
        shuffles: Sequence[tuple[float, int]],
        written: int,
        *,
        begin: float = 0.0,
        end: float = float("inf"),
    ) -> Cost:
        """Of what was done between two moments."""
        before, until = (
            max((cpu for at, cpu in self._cpu if at <= moment), default=0.0) for moment in (begin, end)
        )
        moved = sum(size for at, size in shuffles if begin < at <= end)
        peaks = [max((own[n] for own in self._memory if begin < own[0] <= end), default=0.0) for n in range(1, 5)]
        return Cost(until - before, moved / MB, written / MB, *peaks)


def adopt_orphans() -> None:
    """This process becomes the parent of what its children leave behind, whose CPU is then counted too."""
    becomes_subreaper = 36
    ctypes.CDLL("libc.so.6", use_errno=True).prctl(becomes_subreaper, 1)


def reap_orphans(patience_s: float = 30.0) -> None:
    """Waits for the JVM and others that the command did not wait for; what does not end by itself is ended."""
    until = time.monotonic() + patience_s
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.05)
            if time.monotonic() > until:
                for child in psutil.Process().children(recursive=True):
                    child.send_signal(signal.SIGKILL)


def cpu_of_all() -> float:
    """User and system seconds of all descendants, those that this process has waited for included."""
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + cpu_of_children()


def shuffle_writes(events: Path) -> Iterator[tuple[float, int]]:
    """When each task ended, and the bytes that it wrote for a shuffle."""
    for file in events.iterdir():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                if event["Event"] == "SparkListenerTaskEnd" and event.get("Task Metrics"):
                    written = event["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"]
                    yield event["Task Info"]["Finish Time"] / 1000, written


def folder_sizes(warehouse: Path) -> dict[str, int]:
    """Bytes of each table's folder."""
    if not warehouse.exists():
        return {}
    return {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in warehouse.iterdir()
    }


def sampled_rows(work: Path) -> dict[str, int]:
    """Rows of `sample` in train time, by keep rate."""
    if not (work / "w" / "sample").exists():
        return {}
    sample = DeltaTable(str(work / "w" / "sample")).to_pyarrow_table(
        columns=["keep_rate"], filters=[("ds", "=", DAYS[0])]
    )
    rates = sample.group_by("keep_rate").aggregate([([], "count_all")])
    return {f"{one['keep_rate']:g}": one["count_all"] for one in rates.to_pylist()}


# --- the page ---------------------------------------------------------------------------------


def tables(found: Mapping[int, dict[str, Any]]) -> str:
    """The part of docs/scale.md that is made of figures. Sizes rising."""
    laws = {name: law_of(name, found) for name in names(found)}
    own = found[max(found)]["machine"]
    about = f"{own['cpu']}, {own['cores']} cores, {own['memory_gb']} GB; " + ", ".join(
        f"{package} {own[package]}" for package in ("python", "pyspark", "pyarrow", "numpy")
    )
    every = [name for step in STEPS for name in (step.name, step.then) if name]
    absent = [name for name in every if name not in laws]
    missing = [f"\n**Not run at all of these sizes:** {', '.join(absent)}."] if absent else []
    parts = [f"Measured on: {about}.", *missing, *measurements(found), *laws_table(found, laws)]
    training = training_laws(found, laws)
    if training:
        parts += [*training_table(found, training), *by_spark_table(found), *extrapolation(found, laws, training)]
    parts += plan_table()
    return "\n".join(parts)


def names(found: Mapping[int, dict[str, Any]]) -> list[str]:
    """The steps that were run at all sizes."""
    return [name for name in found[min(found)]["costs"] if all(name in one["costs"] for one in found.values())]


def worked_on(name: str, rows: int) -> int:
    """The rows of the log that a step reads: three days' or one day's."""
    (step,) = (step for step in STEPS if name in (step.name, step.then))
    return rows * (step.days if step.reads is None else step.reads) // len(DAYS)


def law_of(name: str, found: Mapping[int, dict[str, Any]]) -> Law:
    """Of CPU seconds."""
    sizes = [worked_on(name, one["rows"]) for one in found.values()]
    return law(sizes, [one["costs"][name]["cpu_s"] for one in found.values()])


def measurements(found: Mapping[int, dict[str, Any]]) -> list[str]:
    """What was measured, by size."""
    heads = [f"{rows / MILLION:g}M" for rows in found]
    kinds = {"CPU s": ("cpu_s", 0), "MB shuffled": ("shuffled", 1), "MB written": ("written", 1)}
    lines = ["", *head("step", "rows read", *(f"{kind}, {size}" for kind in kinds for size in heads))]
    told = {0: "none", 1: "a third", len(DAYS): "all"}
    for name in names(found):
        cells = [
            f"{one['costs'][name][key]:,.{digits}f}" for key, digits in kinds.values() for one in found.values()
        ]
        lines.append(row(name, told[worked_on(name, len(DAYS))], *cells))
    parts = {"driver": "driver", "JVM": "jvm", "largest other process": "worker"}
    lines += ["", *head("peak MB", *heads, *(f"{part}, {heads[-1]}" for part in parts))]
    for name in names(found):
        cells = [f"{one['costs'][name]['peak']:,.0f}" for one in found.values()]
        cells += [f"{found[max(found)]['costs'][name][key]:,.0f}" for key in parts.values()]
        lines.append(row(name, *cells))
    return lines


def laws_table(found: Mapping[int, dict[str, Any]], laws: Mapping[str, Law]) -> list[str]:
    """The law of each step, per million rows that it reads."""
    heads = ("step", "CPU s, fixed", "CPU s per million rows", "between, missed by")
    bytes_heads = ("MB shuffled per million", "MB written per million")
    lines = ["", "## The law", "", LAW_WORDS, "", *head(*heads, *bytes_heads)]
    largest = found[max(found)]
    for name, own in laws.items():
        millions = worked_on(name, largest["rows"]) / MILLION
        if not millions:
            lines.append(row(name, f"{own.fixed:,.0f}", *4 * ("–",)))
            continue
        moved, written = (largest["costs"][name][key] / millions for key in ("shuffled", "written"))
        missed = "–" if own.missed is None else f"{own.missed:+.0%}"
        cells = (f"{own.fixed:,.0f}", f"{own.per_million:,.1f}", missed, f"{moved:,.1f}")
        lines.append(row(name, *cells, f"{written:,.1f}"))
    return lines


class Training(NamedTuple):
    """CPU seconds of a training: fixed, per million sampled rows, per million rows of validation time."""

    fixed: float
    sampled: float
    validation: float


def training_laws(found: Mapping[int, dict[str, Any]], laws: Mapping[str, Law]) -> dict[str, Training]:
    """From the one size that was trained on two samples; without it, nothing is known of the two apart."""
    told: dict[str, Training] = {}
    for one in found.values():
        for name, dense in one.get("dense", {}).items():
            if name in TRAINED:
                more = (one["sampled"][str(DENSE)] - one["sampled"][str(KEEP)]) / MILLION
                sampled = (dense["cpu_s"] - one["costs"][name]["cpu_s"]) / more
                share = one["sampled"][str(KEEP)] / worked_on(name, one["rows"])
                told[name] = Training(laws[name].fixed, sampled, laws[name].per_million - share * sampled)
    return told


def training_table(found: Mapping[int, dict[str, Any]], training: Mapping[str, Training]) -> list[str]:
    """What a sampled row costs, and what a row of validation time does."""
    (one,) = (one for one in found.values() if one.get("dense"))
    few, many = (one["sampled"][str(rate)] for rate in (KEEP, DENSE))
    heads = ("training", f"CPU s, {few:,} rows", f"{many:,} rows")
    slopes = ("CPU s per million sampled rows", "per million rows of validation time")
    lines = ["", TRAINING_WORDS, "", *head(*heads, *slopes)]
    for name, own in training.items():
        cpu = (one["costs"][name]["cpu_s"], one["dense"][name]["cpu_s"])
        lines.append(row(name, *(f"{s:,.0f}" for s in cpu), f"{own.sampled:,.0f}", f"{own.validation:,.1f}"))
    return lines


def by_spark_table(found: Mapping[int, dict[str, Any]]) -> list[str]:
    """The same rows written as on a cluster."""
    heads = ("job", "rows", "CPU s, workers write", "CPU s, Spark writes", "more a million rows")
    lines = ["", BY_SPARK_WORDS, "", *head(*heads)]
    for name, (rows, ours, theirs) in written_by(found).items():
        more = (theirs - ours) / (rows / MILLION)
        lines.append(row(name, f"{rows:,}", f"{ours:,.0f}", f"{theirs:,.0f}", f"{more:,.1f}"))
    return lines


def written_by(found: Mapping[int, dict[str, Any]]) -> dict[str, tuple[int, float, float]]:
    """By job: rows, and CPU seconds where workers write and where Spark does, at the size that had both."""
    told: dict[str, tuple[int, float, float]] = {}
    for one in found.values():
        for step in BY_SPARK if one.get("by_spark") else ():
            parts = [part for own in STEPS if own.job == step.job for part in (own.name, own.then) if part]
            ours = sum(one["costs"][part]["cpu_s"] for part in parts)
            told[step.name] = (one["rows"], ours, one["by_spark"][step.name]["cpu_s"])
    return told


def extrapolation(
    found: Mapping[int, dict[str, Any]], laws: Mapping[str, Law], training: Mapping[str, Training]
) -> list[str]:
    """A day by the laws: core hours of each step, and what they take together."""
    largest = found[max(found)]
    share = largest["sampled"][str(KEEP)] / (largest["rows"] // len(DAYS))
    daily = [name for name in names(found) if name not in ("simulate", "evaluate (lr)")]
    hours = {name: [hours_of(name, rows, share, laws, training) for rows in EXTRAPOLATED] for name in daily}
    for name, (rows, ours, theirs) in written_by(found).items():
        hours[f"{name}: more"] = [max(theirs - ours, 0.0) / rows * many / 3600 for many in EXTRAPOLATED]
    total = [sum(own) for own in zip(*hours.values(), strict=True)]
    heads = ("core hours", *(f"{rows / 1e9:g} billion rows a day" for rows in EXTRAPOLATED))
    lines = ["", "## A day's core hours, by the laws", "", HOURS_WORDS, "", *head(*heads)]
    lines += [row(name, *(f"{one:,.1f}" for one in own)) for name, own in hours.items()]
    lines += [row("all", *(f"{one:,.0f}" for one in total)), "", CLUSTER_WORDS, "", *head("", *heads[1:])]
    cores = [one / HOURS / AT_WORK for one in total]
    lines.append(row(f"cores for all of it in {HOURS} hours", *(f"{one:,.0f}" for one in cores)))
    process = max(largest["costs"][name]["worker"] for name in daily)
    memory = [(one * process / 1024 + one / CORES * HEAP_GB) / 1000 for one in cores]
    lines.append(row("TB of memory of executors", *(f"{one:,.1f}" for one in memory)))
    for key, name in (("written", "TB written to tables"), ("shuffled", "TB shuffled")):
        each = [(own, worked_on(own, largest["rows"])) for own in daily if own not in TRAINED]
        per_row = sum(largest["costs"][own][key] * MB / rows * DAYS_READ.get(own, 1) for own, rows in each if rows)
        lines.append(row(name, *(f"{per_row * rows / 1e12:,.2f}" for rows in EXTRAPOLATED)))
    return lines


def hours_of(
    name: str, rows: float, share: float, laws: Mapping[str, Law], training: Mapping[str, Training]
) -> float:
    """Core hours of a step on a day of so many rows; `share` of them are sampled."""
    own = laws[name]
    if name not in training:
        return (own.fixed + max(own.per_million, 0.0) * DAYS_READ.get(name, 1) * rows / MILLION) / 3600
    cost = training[name]
    sampled = TRAIN_DAYS * share * rows
    return (cost.fixed + (cost.sampled * sampled + max(cost.validation, 0.0) * rows) / MILLION) / 3600


def plan_table() -> list[str]:
    """What the plan of a scan weighs at sizes that were not run."""
    heads = ("rows", "of a row group", "row groups", "tasks", "MB of plan", "CPU s to unpack it, each task")
    lines = ["", PLAN_WORDS, "", *head(*heads)]
    for rows in EXTRAPOLATED:
        for group in (ROW_GROUP, SPARK_ROW_GROUP):
            each = TASK_ROWS // group
            pieces = [made_up(number, each, group) for number in range(round(rows / group))]
            shards = tuple(Shard(tuple(pieces[at : at + each])) for at in range(0, len(pieces), each))
            packed = CloudPickleSerializer().dumps(shards)
            started = time.process_time()
            CloudPickleSerializer().loads(packed)
            seconds = time.process_time() - started
            cells = (f"{rows / 1e9:g} billion", f"{group:,}", f"{len(pieces):,}", f"{len(shards):,}")
            lines.append(row(*cells, f"{len(packed) / MB:,.1f}", f"{seconds:.2f}"))
    return lines


def made_up(number: int, each: int, group: int) -> Piece:
    """A row group of a table's file of so many, named as workers name them."""
    path = f"/warehouse/features/ds={DAYS[0]}/part-{UUID(int=number // each)}.snappy.parquet"
    return Piece(path, number % each, group, (("ds", DAYS[0]),))


def head(*cells: str) -> tuple[str, str]:
    return row(*cells), "|-" * len(cells) + "|"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


LAW_WORDS = """\
Cost = fixed + slope · rows: the line through the smallest and the largest size; `missed by` is how far it is
from what was measured in between. Rows are those that a step reads; bytes are those of the largest size.
`promote` reads no rows: what it costs is a session and small tables."""
TRAINING_WORDS = """\
Training reads the sample of train time and **all rows of validation time**. One size, trained on two
samples, tells the two apart; the slope in validation rows is what the law leaves:"""
BY_SPARK_WORDS = """\
On one machine workers write the tables' files themselves. On a cluster rows go back through the JVM,
which writes them with Delta's own commit, here in 64 tasks:"""
HOURS_WORDS = f"""\
The slopes above at any size; {TRAIN_DAYS} days of train time, a day each of validation and test time,
w = {KEEP}, three models, files written by workers; `feature audit` reads {HISTORY_DAYS + 1} days each day and
`monitor` {TRAIN_DAYS + 2}. Without `simulate`, and without what is lost to waiting."""
CLUSTER_WORDS = f"""\
Of a cluster's core seconds {AT_WORK:.0%} are assumed to be at work, and executors of {CORES} cores with a heap of
{HEAP_GB} GB, and beside it for each core the largest process that was seen; bytes are those of the largest size,
training's left out:"""
PLAN_WORDS = """\
The plan of a scan names every row group and goes to every task of the scan. Made up at that size, for files as
workers write them and as Spark does, and measured alone:"""


if __name__ == "__main__":
    main()
