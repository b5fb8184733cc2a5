"""The model's card, from plain rows."""

from __future__ import annotations

from typing import Any

from report_rows import HOSTILE, bin_rows, slice_rows

from clickmill.report.card import card


def model(**changed: Any) -> dict[str, Any]:
    figure = {"value": 0.8034, "low": 0.79, "high": 0.81}
    known: dict[str, Any] = {
        "model_id": "lr-2026-01-10-1f09aa31",
        "kind": "logreg",
        "dataset": "simulated",
        "keep_rate": 0.05,
        "correction": "prior",
        "stretches": {"train": ["2026-01-02T00:00:00", "2026-01-09T00:00:00"]},
        "tables": {"sample": 3},
        "training": {"rows": 10_541, "clicks": 3_709, "converged": True, "iterations": 75},
        "created_by": "0.1.0",
        "artifact": "/w/_models/lr-2026-01-10-1f09aa31/0123",
        "digest": "0123",
        "calibration": {"method": "platt", "clicks": 553, "stretch": ["2026-01-09", "2026-01-10"]},
        "judged": "2026-01-10",
        "metrics": {"ne": figure, "auc": {"value": 0.7, "low": None, "high": None}},
    }
    return {**known, **changed}


def text(**changed: Any) -> str:
    slices = slice_rows("m", {"site=a": 0.79, "site=b": 0.93, "site=few": 0.99})
    rows = [row | {"clicks": 10} if row["slice"] == "site=few" else row for row in slices if row["metric"] == "ne"]
    return card(model(**changed), bin_rows("m"), rows, min_clicks=200)


def test_it_says_what_a_reader_must_know() -> None:
    told = text()
    for words in (
        "# lr-2026-01-10-1f09aa31",
        "- train: 2026-01-02T00:00:00 up to 2026-01-09T00:00:00 (UTC)",
        "table versions: sample 3; code 0.1.0; digest `0123`",
        "rows trained on: 10,541, of them 3,709 clicks",
        "p = p_sampled / (p_sampled + (1 − p_sampled) / 0.05)",
        "recalibration: platt, chosen on 553 clicks",
        "| 0.8034 | [0.7900, 0.8100] |",
        "clickmill score --model '/w/_models/lr-2026-01-10-1f09aa31' < log.tsv > p.tsv",
    ):
        assert words in told, words
    assert told.index("| site=b | 0.9300 |") < told.index("| site=a | 0.7900 |")
    assert "site=few" not in told, "ten clicks say nothing"
    assert told.count("\n| ") - told.count("\n| figure") > 10
    assert "before it converged" not in told


def test_what_is_missing_or_went_wrong_is_said() -> None:
    told = text(
        training={"rows": 1, "clicks": 1, "converged": False, "iterations": 9},
        calibration=None,
        correction="weight",
    )
    assert "Training stopped after 9 iterations, before it converged." in told
    assert "not recalibrated yet" in told
    assert "trained with weights" in told
    empty = card(model(metrics={}, judged=None), [], [], min_clicks=200)
    assert "not judged yet" in empty
    assert "No slice was judged on 200 clicks" in empty
    assert "No bins were stored." in empty


def test_a_value_from_the_log_shows_as_text() -> None:
    hostile = f"{HOSTILE}|`x`"
    rows = [row for row in slice_rows("m", {hostile: 0.9}) if row["metric"] == "ne"]
    told = card(model(dataset=hostile), bin_rows("m"), rows, min_clicks=200)
    assert "<script" not in told
    assert "\x1b" not in told
    assert "&lt;script&gt;" in told
    assert r"\|\`x\`" in told
