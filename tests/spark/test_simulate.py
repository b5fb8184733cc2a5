"""The job `simulate` on Spark and Delta: the same rows for any number of partitions and on a rerun."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
import stored

from clickmill.config import Config, Simulate
from clickmill.config_files import load
from clickmill.simulate import worker

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickmill.tables import Tables

DAYS = (date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3))
ROWS = 10_500  # two blocks a day, one of them short


def config(tables: Tables) -> Config:
    sets = [f"warehouse={tables.warehouse}", f"simulate.rows_per_day={ROWS}"]
    return load(["datasets/simulated.yaml"], sets)


def simulated(tables: Tables, cfg: Config, *days: date) -> dict[str, int]:
    """The counts of a run of the job."""
    from clickmill.jobs.simulate import JOB

    return running.run(tables, JOB, cfg, days).counts


def rows(tables: Tables) -> pa.Table:
    return (
        stored.table(tables.warehouse, "raw_log").select(worker.RAW_LOG.names).sort_by("event_id").combine_chunks()
    )


@pytest.fixture
def frames(spark: SparkSession) -> dict[int, pa.Table]:
    from clickmill.simulate.driver import simulate

    found = {}
    for partitions in (1, 3, 7):
        frame = simulate(spark, Simulate(rows_per_day=ROWS, partitions=partitions), (DAYS[0], DAYS[2]))
        found[partitions] = frame.rows().toArrow().sort_by("event_id").combine_chunks()
    return found


def test_rows_are_the_same_for_any_number_of_partitions_and_of_no_other_day(frames: dict[int, pa.Table]) -> None:
    assert frames[1] == frames[3] == frames[7]
    assert pc.value_counts(frames[1]["ds"]).to_pylist() == [
        {"values": DAYS[0], "counts": ROWS},
        {"values": DAYS[2], "counts": ROWS},
    ]


def test_many_days_are_one_commit_and_a_rerun_of_one_leaves_all_as_it_was(tables: Tables) -> None:
    cfg = config(tables)
    assert simulated(tables, cfg, *DAYS)["rows_out"] == 3 * ROWS
    version, first = tables.newest("raw_log"), rows(tables)
    assert version == 1  # 0 made the table
    assert pc.value_counts(first["ds"]).field("counts").to_pylist() == [ROWS] * 3
    assert simulated(tables, cfg, DAYS[1])["rows_out"] == ROWS
    assert tables.newest("raw_log") == version + 1
    assert rows(tables) == first


def test_what_is_stored_is_what_the_worker_makes(tables: Tables) -> None:
    cfg = config(tables)
    simulated(tables, cfg, DAYS[1])
    made = worker.World(
        cfg.simulate.seed, cfg.simulate.users, cfg.simulate.drift, cfg.simulate.new_value_share, ROWS
    )
    made = worker.World(**{**vars(made), "intercept": worker.intercept_for(made, cfg.simulate.ctr)})
    expected = pa.Table.from_batches([worker.block_rows(made, DAYS[1], block) for block in (0, 1)])
    got = rows(tables)
    for name in worker.RAW_LOG.names:
        assert got[name].cast(worker.RAW_LOG.field(name).type).combine_chunks() == expected[name].combine_chunks()
