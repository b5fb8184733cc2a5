"""`encode` on Spark and Delta: the same counts however rows lie, whole days replaced, nothing by chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import judged_day
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import running
import stored

from clickmill.config import Config
from clickmill.encoding import History
from clickmill.errors import MissingColumnsError, SchemaError

if TYPE_CHECKING:
    from clickmill.tables import Tables

DAYS = judged_day.days(3)
LOG = judged_day.features(DAYS, 2000)


def encode(tables: Tables, days: Sequence[date] = DAYS, period: str = "day") -> list[dict[str, Any]]:
    """Runs the job; what `encodings` holds then."""
    from clickmill.jobs.encode import JOB
    from clickmill.tables import Tables as Fresh

    cfg = Config.model_validate(
        {
            "dataset": judged_day.DATASET.model_dump(),
            "warehouse": tables.warehouse,
            "encodings": {"slots": "all", "period": period},
        }
    )
    done = running.run(Fresh(tables.spark, tables.warehouse, run_id="encode"), JOB, cfg, days)
    assert done.counts["rows_in"] > 0
    return stored.rows(tables.warehouse, "encodings")


def by_hand(log: pa.Table) -> dict[Any, tuple[int, int]]:
    impressions: Counter[Any] = Counter()
    clicks: Counter[Any] = Counter()
    for day, value, label in zip(*(log[name].to_pylist() for name in ("ds", "s_ad", "label")), strict=True):
        impressions[day, value] += 1
        clicks[day, value] += label
    return {key: (impressions[key], clicks[key]) for key in impressions}


def test_counts_are_those_of_the_rows_and_a_rerun_changes_nothing(tables: Tables) -> None:
    judged_day.write_features(tables, LOG)
    first = encode(tables)
    found = {(row["ds"], row["hash"]): (row["impressions"], row["clicks"]) for row in first}
    assert found == by_hand(LOG)
    assert {row["slot"] for row in first} == {"s_ad"}
    assert encode(tables) == first


def test_a_day_that_is_made_again_replaces_its_own_counts_alone(tables: Tables) -> None:
    judged_day.write_features(tables, LOG)
    first = encode(tables, period="hour")
    one = LOG.filter(pc.equal(LOG["ds"], pa.scalar(DAYS[1])))
    judged_day.write_features(tables, one.slice(0, 700))
    second = encode(tables, [DAYS[1]], period="hour")
    others = [row for row in first if row["ds"] != DAYS[1]]
    assert [row for row in second if row["ds"] != DAYS[1]] == others
    assert sum(row["impressions"] for row in second if row["ds"] == DAYS[1]) == 700


def test_histories_last_as_long_as_they_are_looked_up(tables: Tables) -> None:
    from clickmill.histories.driver import histories

    judged_day.write_features(tables, LOG)
    encode(tables)
    cfg = Config.model_validate(
        {
            "dataset": judged_day.DATASET.model_dump(),
            "warehouse": tables.warehouse,
            "encodings": {"slots": "all"},
        }
    )
    before = LOG.filter(pc.is_in(LOG["ds"], pa.array(DAYS[:2])))
    with histories(tables, cfg, ["s_ad"], DAYS[:2]) as folder:
        history = History.open(Path(folder, "s_ad"))
        assert int(history.all_impressions[-1]) == before.num_rows
        assert int(history.all_clicks[-1]) == pc.sum(before["label"]).as_py()
    assert not Path(folder).exists()
    with (
        pytest.raises(MissingColumnsError, match="s_site was not counted from 2026-01-08 to 2026-01-09"),
        histories(tables, cfg, ["s_site"], DAYS[:2]),
    ):
        pass


def test_days_counted_as_a_whole_are_not_looked_up_by_the_hour(tables: Tables) -> None:
    """All of such a day would stand at its first hour: rows of noon would know the labels of the evening."""
    from clickmill.histories.driver import histories
    from clickmill.tables import Tables as Fresh

    judged_day.write_features(tables, LOG)
    encode(tables)
    encode(tables, DAYS[:2], period="hour")
    by_hour = {"dataset": judged_day.DATASET.model_dump(), "encodings": {"slots": "all", "period": "hour"}}
    cfg = Config.model_validate(by_hour | {"warehouse": tables.warehouse})
    look = Fresh(tables.spark, tables.warehouse, run_id="look")
    with histories(look, cfg, ["s_ad"], DAYS[:2]):
        pass
    with (
        pytest.raises(SchemaError, match=r"encodings: 2026-01-10 was counted by the day, .* is hour: run encode"),
        histories(look, cfg, ["s_ad"], DAYS),
    ):
        pass
