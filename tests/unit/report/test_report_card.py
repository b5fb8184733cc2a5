"""The model's card, from plain rows."""

from __future__ import annotations

import shlex
from typing import Any

from report_rows import HOSTILE, bin_rows, difference_row, slice_rows

from clickmill.report.card import card
from clickmill.report.text import plain


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
    sizes = {"all": {"n": 100_000}, "day=2026-01-10": {"n": 100_000}, "site=few": {"clicks": 10}}
    figures = {"all": 0.98, "day=2026-01-10": 0.98, "site=a": 0.79, "site=b": 0.93, "site=few": 0.99}
    rows = [row | sizes.get(row["slice"], {}) for row in slice_rows("m", figures) if row["metric"] == "ne"]
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
        "clickmill score --model /w/_models/lr-2026-01-10-1f09aa31 < log.tsv > p.tsv",
    ):
        assert words in told, words
    assert told.index("| site=b | 0.9300 |") < told.index("| site=a | 0.7900 |")
    assert "site=few" not in told, "ten clicks say nothing"
    assert "day=" not in told, "a slice of all rows is none"
    assert "roven" not in told, "nothing to warn of"
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
    every = [row for row in slice_rows("m", {hostile: 0.9, "all": 0.8}) if row["metric"] == "ne"]
    rows = [row | {"n": 90_000} if row["slice"] == "all" else row for row in every]
    worse = [difference_row("m", hostile, hostile, 0.01)]
    told = card(model(dataset=hostile, artifact=f"/w/{hostile}/0123"), bin_rows("m"), rows, worse, min_clicks=200)
    told, _, script = told.partition("```sh")
    assert "<script" not in told
    assert "\x1b" not in told
    assert "&lt;script&gt;" in told
    assert r"\|\`x\`" in told
    assert "\x1b" not in script
    assert shlex.split(script.splitlines()[1])[3] == plain(f"/w/{hostile}"), "the shell takes the folder as it is"


def test_slices_where_another_model_is_proven_better_stand_by_their_loss() -> None:
    worse = [difference_row("m", "other", name, value) for name, value in (("site=a", 0.005), ("site=b", 0.0123))]
    told = card(model(), bin_rows("m"), [], worse, min_clicks=200)
    first, second = (line for line in told.splitlines() if "against" in line)
    assert first == "- site=b: NE +0.0123 [+0.0083, +0.0163] against other"
    assert second.startswith("- site=a: NE +0.0050")
    assert "false discovery rate of 5%" in told


def test_bins_that_ties_made_unequal_are_named_by_the_tenth_that_they_lie_in() -> None:
    sizes = (50_000.0, 30_000.0, 20_000.0)
    bins = [row | {"n": n} for row, n in zip(bin_rows("m"), sizes, strict=False)]
    told = card(model(), bins, [], min_clicks=200)
    assert [line.split("|")[1:3] for line in told.splitlines() if line.endswith(" % |")] == [
        [" 3 ", " 50,000 "],
        [" 7 ", " 30,000 "],
        [" 10 ", " 20,000 "],
    ]


def test_what_the_intervals_say_against_it_is_a_limit() -> None:
    ne = {"value": 0.98, "low": 0.95, "high": 1.01}
    ratio = {"value": 1.2, "low": 1.1, "high": 1.3}
    told = text(metrics={"ne": ne, "calibration_ratio": ratio})
    assert "not proven better than always saying the click rate" in told
    assert "Its p was too high on test time" in told
    low = text(metrics={"ne": ne | {"high": 0.99}, "calibration_ratio": {"value": 0.8, "low": 0.7, "high": 0.9}})
    assert "Its p was too low on test time" in low
    assert "not proven better" not in low


def test_a_model_judged_on_a_weighted_sample_says_so() -> None:
    figure = {"value": 0.8034, "low": 0.79, "high": 0.81}
    sample = text(metrics={"ne": figure | {"traffic": "weighted_sample"}})
    assert "- Judged on a weighted sample" in sample
    assert "weighted sample" not in text(metrics={"ne": figure | {"traffic": "full"}})
