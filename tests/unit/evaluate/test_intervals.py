"""Intervals and paired differences from resampled sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import false_discovery_control

from clickmill import metrics
from clickmill.bootstrap import poisson, unit_keys
from clickmill.calibration import expit
from clickmill.discoveries import adjusted, two_sided
from clickmill.evaluate.cells import Judged
from clickmill.evaluate.intervals import comparison_rows, intervals
from clickmill.evaluate.resampling import Resampled

N, REPLICATES = 4000, 60
NAMES = ("all", "a", "b", "tiny")
IDS = ["right", "off", "right again"]


def world() -> tuple[list[Judged], np.ndarray, pa.Array, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = expit(rng.normal(-2, 1, N))
    label = (rng.random(N) < truth).astype(np.int8)
    off = expit(np.log(truth / (1 - truth)) + rng.normal(0, 0.7, N))
    models = [Judged(label, np.ones(N), (p, p, p)) for p in (truth, off, truth)]
    group = np.where(np.arange(N) < 20, 3, 1 + rng.integers(0, 2, N))
    event_id = pa.array([f"e{n}" for n in range(N)])
    return models, np.column_stack([np.zeros(N), group]).astype(np.int32), event_id, label


def resampled() -> Resampled:
    models, groups, event_id, _ = world()
    found = Resampled.empty(len(NAMES), len(models), REPLICATES)
    keys = unit_keys(pa.nulls(N, pa.string()), event_id, 42)
    found.add(event_id, keys, groups, models)
    found.whole(range(1, 4))
    return found


def values() -> dict[str, dict[tuple[str, str], dict[str, Any]]]:
    models, groups, _, label = world()
    figures = {
        "log_loss": metrics.log_loss,
        "ne": metrics.normalized_entropy,
        "rig": metrics.relative_information_gain,
        "calibration_ratio": metrics.calibration_ratio,
        "brier": metrics.brier_score,
    }
    found: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for model_id, rows in zip(IDS, models, strict=True):
        own = found[model_id] = {}
        for group, name in enumerate(NAMES):
            held = (groups == group).any(axis=1)
            counts = {"n": int(held.sum()), "clicks": int(label[held].sum()), "reason": None}
            for metric, figure in figures.items():
                own[name, metric] = {"value": figure(label[held], rows.stages[2][held]), **counts}
    return found


def test_a_replicate_s_figures_are_those_of_the_rows_it_drew() -> None:
    models, groups, event_id, label = world()
    counts = poisson(unit_keys(pa.nulls(N, pa.string()), event_id, 42), REPLICATES).astype(float)
    found = resampled()
    for model, rows in enumerate(models):
        for group in (0, 2):
            held = (groups == group).any(axis=1)
            drawn = found.draws(model, group).figures()
            for r in (0, 7, REPLICATES - 1):
                y, p, v = label[held], rows.stages[2][held], counts[held, r]
                assert drawn["ne"][r] == pytest.approx(metrics.normalized_entropy(y, p, v), rel=1e-12)
                assert drawn["rig"][r] == pytest.approx(1 - metrics.normalized_entropy(y, p, v), rel=1e-12)
                assert drawn["log_loss"][r] == pytest.approx(metrics.log_loss(y, p, v), rel=1e-12)
                assert drawn["calibration_ratio"][r] == pytest.approx(
                    metrics.calibration_ratio(y, p, v), rel=1e-12
                )
                assert drawn["brier"][r] == pytest.approx(metrics.brier_score(y, p, v), rel=1e-12)


def test_a_group_of_few_units_has_figures_and_no_interval() -> None:
    found = intervals(NAMES, 0, resampled(), None, None)
    assert found["tiny"]["ne"] == (None, None, "20 units, at least 30 are needed")
    low, high, reason = found["all"]["ne"]
    assert reason is None
    assert low is not None
    assert high is not None
    assert low < values()["right"]["all", "ne"]["value"] < high


def test_a_model_against_itself_differs_by_exactly_nothing() -> None:
    rows = list(comparison_rows(NAMES, IDS, values(), resampled(), min_clicks=50))
    own = [row for row in rows if (row["model_id"], row["other_id"]) == ("right", "right again")]
    assert {row["metric"] for row in own} == {"log_loss", "ne", "rig", "calibration_ratio", "brier"}
    for row in own:
        assert row["difference"] == 0
        if row["slice"] != "tiny":
            assert (row["low"], row["high"]) == (0, 0)


def test_differences_are_paired_and_a_worse_model_is_found_in_its_slices() -> None:
    rows = list(comparison_rows(NAMES, IDS, values(), resampled(), min_clicks=50))
    found = {(row["model_id"], row["other_id"], row["slice"], row["metric"]): row for row in rows}
    whole = found["off", "right", "all", "ne"]
    assert 0 < whole["low"] < whole["difference"] < whole["high"]
    alone = intervals(NAMES, 1, resampled(), None, None)["all"]["ne"]
    assert alone.high is not None
    assert alone.low is not None
    assert whole["high"] - whole["low"] < 0.7 * (alone.high - alone.low), "what both share takes no part"
    mirrored = found["right", "off", "all", "ne"]
    assert mirrored["difference"] == -whole["difference"]
    assert mirrored["low"] == pytest.approx(-whole["high"])
    assert found["off", "right", "a", "ne"]["verdict"] == "worse"
    assert found["right", "off", "a", "ne"]["verdict"] == "better"
    assert found["off", "right", "tiny", "ne"]["verdict"] == "too few clicks"
    assert "verdict" not in whole


def test_a_figure_that_is_absent_has_no_difference_but_its_reason() -> None:
    own = values()
    own["off"]["a", "ne"] |= {"value": None, "reason": "all labels are 0"}
    rows = list(comparison_rows(NAMES, IDS, own, resampled(), min_clicks=50))
    (row,) = [
        r for r in rows if (r["model_id"], r["other_id"], r["slice"], r["metric"]) == ("off", "right", "a", "ne")
    ]
    assert (row["difference"], row["low"], row["reason"]) == (None, None, "all labels are 0")


def test_false_discoveries_are_benjamini_and_hochberg_s() -> None:
    chances = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(adjusted(chances.tolist()), false_discovery_control(chances))
    assert adjusted([]) == []


def test_the_chance_of_a_difference_is_normal() -> None:
    assert two_sided(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    assert two_sided(-1.96, 1.0) == two_sided(1.96, 1.0)
    assert two_sided(0.0, 0.0) == 1.0
    assert two_sided(0.1, 0.0) == 0.0
    assert math.isfinite(two_sided(1e9, 1e-9))
