"""Where a figure cannot be had, it is absent with its reason: nothing that the judge writes is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill.bootstrap import unit_keys
from clickmill.evaluate.cells import Judged
from clickmill.evaluate.figures import metric_rows, reliability_rows
from clickmill.evaluate.intervals import comparison_rows, intervals
from clickmill.evaluate.resampling import Ranked, Resampled, rank_edges
from clickmill.evaluate.tally import Tallying
from clickmill.metrics import ECE_BINS, auc_of
from clickmill.schema import LAST_STAGE

SLICES = {"both": (300, 30), "none": (200, 0), "all": (40, 40), "row": (1, 0), "click": (1, 1), "rare": (100, 1)}
"""Rows and clicks of each; `all` has nothing but clicks."""
NAMES = ("all rows", *SLICES)
COMPARED = ("log_loss", "ne", "rig", "calibration_ratio", "brier")

Rows = list[dict[str, Any]]


def written(label: np.ndarray, *, units: int, replicates: int, weight: float = 1.0) -> tuple[Rows, Rows, Rows]:
    """Rows of metrics, comparisons and reliability of two models; the second says 0 and 1 too."""
    rng = np.random.default_rng(3)
    n = len(label)
    place = np.repeat(np.arange(1, len(NAMES)), [rows for rows, _ in SLICES.values()])
    groups = np.column_stack([np.zeros(n), place]).astype(np.int32)
    unit = np.arange(n) % units
    first = rng.uniform(0.01, 0.4, units)[unit]
    second = np.where(np.arange(n) % 7 == 0, np.arange(n) % 2, first)
    weights = np.where(label == 1, 1.0, weight)
    judged = [Judged(label, weights, (p, p, p)) for p in (first, second.astype(float))]
    event_id = pa.array([f"e{i}" for i in range(n)])
    keys = unit_keys(pa.array([f"u{i}" for i in unit.tolist()]), event_id, 42)
    resampled = Resampled.empty(len(NAMES), 2, replicates)
    resampled.add(event_id, keys, groups, judged)
    resampled.whole(range(1, len(NAMES)))
    metrics: Rows = []
    reliability: Rows = []
    values = {}
    for number, rows in enumerate(judged):
        counting = Tallying(len(NAMES))
        counting.add(rows, np.full(n, np.nan), groups)
        tally = counting.tally()
        edges = rank_edges(tally.cells)
        ranked = Ranked.empty(len(edges) + 1, replicates)
        ranked.add(np.searchsorted(edges, rows.stages[0]), label, weights, keys)
        auc = None if len(set(label.tolist())) == 1 else auc_of(tally.cells.groups(0))
        found = intervals(NAMES, number, resampled, ranked, auc)
        own = list(metric_rows(tally, NAMES, found, traffic="full"))
        metrics += [row | {"model_id": str(number)} for row in own]
        values[str(number)] = {(row["slice"], row["metric"]): row for row in own if row["stage"] == LAST_STAGE}
        rates = ranked.click_rates(ECE_BINS) if resampled.has_intervals else None
        reliability += reliability_rows(tally.cells, rates)
    compared = list(comparison_rows(NAMES, ["0", "1"], values, resampled, min_clicks=1))
    return metrics, compared, reliability


def labels() -> np.ndarray:
    each = [np.arange(rows) < clicks for rows, clicks in SLICES.values()]
    return np.concatenate(each).astype(np.int8)


def numbers(rows: Rows) -> Iterator[tuple[dict[str, Any], float]]:
    for row in rows:
        yield from ((row, value) for value in row.values() if isinstance(value, float))


@pytest.mark.parametrize("replicates", [200, 2])
@pytest.mark.parametrize("units", [10_000, 40, 3])
@pytest.mark.parametrize("weight", [1.0, 20.0])
@pytest.mark.parametrize("kind", ["as they are", "none", "all"])
def test_nothing_that_is_written_is_nan(kind: str, weight: float, units: int, replicates: int) -> None:
    label = {"as they are": labels(), "none": 0 * labels(), "all": 0 * labels() + 1}[kind]
    for rows in written(label, units=units, replicates=replicates, weight=weight):
        assert rows
        for row, value in numbers(rows):
            assert math.isfinite(value), row


def test_in_a_slice_of_one_class_figures_and_differences_are_absent_with_their_reason() -> None:
    metrics, compared, _ = written(labels(), units=10_000, replicates=200)
    found = {(row["slice"], row["metric"]): row for row in metrics if row["stage"] == LAST_STAGE}
    reasons = {"none": "all labels are 0", "row": "all labels are 0", "all": "all labels are 1"}
    for name, reason in reasons.items():
        row = found[name, "ne"]
        assert (row["value"], row["low"], row["high"]) == (None, None, None)
        assert reason in row["reason"]
        assert found[name, "brier"]["value"] is not None
        (own,) = [row for row in compared if (row["model_id"], row["slice"], row["metric"]) == ("0", name, "ne")]
        assert (own["difference"], own["low"], own["high"], own["standard_error"]) == (None, None, None, None)
        assert reason in own["reason"]
    assert "no clicks" in found["none", "calibration_ratio"]["reason"]
    assert found["rare", "ne"]["value"] is not None
    assert "undefined in" in found["rare", "ne"]["reason"], "its one click is in most replicates not there"
    assert found["both", "ne"]["low"] is not None
    assert {row["metric"] for row in compared} == set(COMPARED)
