"""Time-safe encodings of 26 slots: counting, and looking up, against a join for each slot in Spark SQL.

Run: .venv/bin/python bench/encode.py [--rows-per-day 200000] [--days 10] [--slots 26] [--json]

One Spark session on two slots, the table `features` of a simulated log there before. Both sides end with Parquet
of each row's impressions, clicks and smoothed rate of every slot, counted in the seven days before the row's own.

- ours: the job `encode`, the histories of the window, and the look-ups by workers that read and write files.
- joins: for each slot, counts by value and day, their sums over a window of days, and a left join onto the rows.

Both are checked against each other on the sums of every column.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from hashing import Meter, machine
from pyspark.sql import Window
from pyspark.sql import functions as F

from clickmill.config import Config
from clickmill.config_files import load
from clickmill.encode.driver import count_values
from clickmill.histories.driver import histories
from clickmill.job import Arguments, execute
from clickmill.jobs import build_features, ingest, simulate
from clickmill.models.encoded import Encoder
from clickmill.models.logreg import hash_columns
from clickmill.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DS = date(2026, 1, 10)
WINDOW, STRENGTH = 7, 20.0
OURS, JOINS = "ours", "joins"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows-per-day", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--slots", type=int, default=26)
    parser.add_argument("--side", choices=[OURS, JOINS], action="append", help="both unless given")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    from clickmill.session import get_spark

    with tempfile.TemporaryDirectory(prefix="clickmill-encodings-") as folder:
        cfg = prepared(folder, asked.rows_per_day, asked.days, asked.slots)
        spark = get_spark(cfg.spark, app="bench")
        days = [DS - timedelta(days=back) for back in reversed(range(asked.days))]
        found: dict[str, Any] = {}
        for side in asked.side or (OURS, JOINS):
            out = Path(folder, side)
            out.mkdir()
            own, start = time.thread_time(), time.perf_counter()
            with Meter() as meter:
                (ours if side == OURS else joins)(spark, cfg, days, out)
            seconds = time.perf_counter() - start
            cpu = meter.figures["cpu_s"] + time.thread_time() - own
            found[side] = {"wall_s": seconds, "cpu_s": cpu, "peak_mb": meter.figures["peak_mb"], "sums": sums(out)}
        spark.stop()
    same = len(found) < 2 or np.allclose(found[OURS]["sums"], found[JOINS]["sums"], rtol=1e-5)
    if asked.json:
        print(json.dumps({"same": same, "sides": found}))
        return
    print(machine())
    print(f"{asked.rows_per_day * asked.days:,} rows, {asked.slots} slots; the same sums: {same}")
    print("| side | wall s | CPU s | peak MB |\n|-|-|-|-|")
    for side, figures in found.items():
        print(f"| {side} | {figures['wall_s']:.1f} | {figures['cpu_s']:.1f} | {figures['peak_mb']:,.0f} |")


def prepared(folder: str, rows: int, days: int, slots: int) -> Config:
    """A warehouse with `features`; the config that counts so many slots."""
    sets = (f"warehouse={folder}/w", f"simulate.rows_per_day={rows}")
    for job in (simulate, ingest, build_features):
        done = execute(job.JOB, Arguments(("datasets/simulated.yaml",), sets, DS, days, ()))
        assert done == 0, "the log could not be made"
    known = load(["datasets/simulated.yaml"]).dataset.slots
    names = [name for name in known if name.startswith("C")][:slots]
    return load(
        ["datasets/simulated.yaml"], (*sets, f"encodings.slots=[{', '.join(names)}]", "encodings.crosses=[]")
    )


def ours(spark: SparkSession, cfg: Config, days: list[date], out: Path) -> None:
    tables = Tables(spark, cfg.warehouse_path, run_id="bench")
    tables.write("encodings", count_values(tables, cfg, days), replace={"ds": days})
    columns = hash_columns(cfg.encodings, cfg.dataset)
    with histories(tables, cfg, columns, days) as known:
        encoder = Encoder(columns, cfg.encodings.period, WINDOW, STRENGTH, folder=known)
        rows = tables.scan("features", ["event_id", "event_time", *encoder.columns], days=days)
        write = partial(encoded, encoder=encoder, folder=str(out))
        rows.through(write, pa.schema([("rows", pa.int64())])).rows().collect()


def encoded(batches: Iterator[pa.RecordBatch], *, encoder: Encoder, folder: str) -> Iterator[pa.RecordBatch]:
    """Writes the encodings of one task's rows; yields their number."""
    writer, rows = None, 0
    for batch in batches:
        columns = [batch.column("event_id"), *map(pa.array, encoder.encoded(batch))]
        table = pa.table(columns, names=["event_id", *encoder.names])
        if writer is None:
            from pyspark import TaskContext

            writer = pq.ParquetWriter(Path(folder, f"{TaskContext.get().partitionId()}.parquet"), table.schema)
        writer.write_table(table)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    yield pa.record_batch({"rows": [rows]})


def joins(spark: SparkSession, cfg: Config, days: list[date], out: Path) -> None:
    tables = Tables(spark, cfg.warehouse_path, run_id="bench")
    slots = [f"s_{name}" for name in cfg.encodings.slots]
    log: DataFrame = tables.read("features", days=days).select("event_id", "ds", "label", *slots)
    rows = log.select("event_id", "ds", *slots)
    for slot in slots:
        daily = log.groupBy(slot, "ds").agg(F.count("*").alias("n"), F.sum("label").alias("k"))
        day = F.datediff("ds", F.lit(date(1970, 1, 1)))
        back = Window.partitionBy(slot).orderBy(day).rangeBetween(-WINDOW, -1)
        own = daily.select(slot, "ds", F.sum("n").over(back).alias("n"), F.sum("k").over(back).alias("k"))
        total = daily.groupBy("ds").agg(F.sum("n").alias("n"), F.sum("k").alias("k"))
        whole = Window.orderBy(day).rangeBetween(-WINDOW, -1)
        rate = total.select("ds", (F.sum("k").over(whole) / F.sum("n").over(whole)).alias("q"))
        smoothed = (F.col("k") + STRENGTH * F.col("q")) / (F.col("n") + STRENGTH)
        known = own.join(F.broadcast(rate), "ds").select(
            slot,
            "ds",
            F.coalesce("n", F.lit(0)).cast("float").alias(f"e_{slot}_impressions"),
            F.coalesce("k", F.lit(0)).cast("float").alias(f"e_{slot}_clicks"),
            smoothed.cast("float").alias(f"e_{slot}_rate"),
        )
        rows = rows.join(known, [slot, "ds"], "left")
    names = [f"e_{slot}_{kind}" for slot in slots for kind in ("impressions", "clicks", "rate")]
    rows.select("event_id", *names).write.mode("overwrite").parquet(str(out))


def sums(out: Path) -> list[float]:
    """Of every column, absent rates as 0."""
    table = ds.dataset([str(path) for path in sorted(out.glob("*.parquet"))]).to_table()
    return [float(np.nansum(table.column(name).to_numpy().astype(np.float64))) for name in table.column_names[1:]]


if __name__ == "__main__":
    main()
