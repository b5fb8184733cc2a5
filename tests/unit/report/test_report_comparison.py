from __future__ import annotations

import io
from typing import Any

from report_rows import HOSTILE
from rich.console import Console

from clickmill.report.comparison import differences, leaderboard

FIGURES = {
    "log_loss": 0.10854,
    "ne": 0.8034,
    "calibration_ratio": 1.004,
    "ece": 0.00061,
    "brier": 0.02,
    "auc": 0.78,
}


def model(name: str, model_id: str, **changes: float | None) -> dict[str, Any]:
    figures = {
        metric: {"value": value, "low": value and value - 0.01, "high": value and value + 0.01}
        for metric, value in (FIGURES | changes).items()
    }
    return {"model_id": model_id, "name": name, "metrics": figures}


def row(slice_: str, difference: float | None, **more: Any) -> dict[str, Any]:
    ends = {"low": difference and difference - 0.001, "high": difference and difference + 0.001}
    keys = {"model_id": "vendor", "other_id": "lr-1", "slice": slice_, "difference": difference, **ends}
    keys["n"] = 100 if slice_ in ("all", "day=2026-01-10") else 40
    return {**keys, "reason": None, "verdict": None, "q_value": None, **more}


MODELS = [model("vendor", "vendor"), model("lr", "lr-1", ne=0.81), model("lr", "lr-0", ne=None)]


def printed(models: list[dict[str, Any]], title: str = "day", width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(leaderboard(models, title))
    return out.getvalue()


def test_the_leaderboard_has_every_figure_with_the_intervals_of_ne_and_calibration_on_80_columns() -> None:
    text = printed(MODELS)
    for figure in (
        "0.10854",
        "0.8034",
        "[0.7934, 0.8134]",
        "1.004",
        "[0.994, 1.014]",
        "0.00061",
        "0.02000",
        "0.7800",
    ):
        assert figure in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    names = [line[0] for line in lines if line and line[0] in ("vendor", "lr", "lr-1", "lr-0")]
    assert names == ["vendor", "lr-1", "lr-0"], "ids where names are one"
    assert next(line[2] for line in lines if line[:1] == ["lr-0"]) == "–"


def test_what_a_name_holds_shows_as_text() -> None:
    text = printed([model(HOSTILE, "x")], HOSTILE, width=300)
    assert text.count("{{7*7}}") == 2
    assert "\x1b" not in text
    assert "\x1b" not in "".join(differences([model(HOSTILE, "vendor"), MODELS[1]], [row("all", 0.01)]))


def test_differences_are_told_overall_and_for_slices_that_are_proven_better_or_worse() -> None:
    rows = [
        row("all", 0.0123),
        row("user=a", 0.05, verdict="worse", q_value=0.0004),
        row("user=b", -0.02, verdict="better", q_value=0.03),
        row("user=c", 0.001, verdict="no difference", q_value=0.7),
        row("user=d", 0.5, verdict="too few clicks"),
        row("day=2026-01-10", 0.0123, verdict="worse", q_value=0.0001),
        row("all", -0.002, other_id="lr-0"),
        row("user=a", 0.9, verdict="worse", q_value=0.001, other_id="lr-0"),
    ]
    assert list(differences(MODELS, rows)) == [
        "NE of vendor less that of lr-1: +0.0123, 95% interval [+0.0113, +0.0133], paired",
        "  worse in user=a: +0.0500 [+0.0490, +0.0510], q 0.0004",
        "  better in user=b: -0.0200 [-0.0210, -0.0190], q 0.03",
        "  2 of 3 slices are proven better or worse (5% false discoveries); 1 have no verdict",
        "NE of vendor less that of lr-0: -0.0020, 95% interval [-0.0030, -0.0010], paired",
        "  worse in user=a: +0.9000 [+0.8990, +0.9010], q 0.001",
        "  1 of 1 slices are proven better or worse (5% false discoveries)",
    ]


def test_a_difference_that_cannot_be_had_says_why() -> None:
    few = row("all", 0.01, low=None, high=None, reason="3 units, at least 30 are needed")
    none = row("all", None, reason="all labels are 0")
    assert list(differences(MODELS, [few, none])) == [
        "NE of vendor less that of lr-1: +0.0100 (3 units, at least 30 are needed)",
        "NE of vendor less that of lr-1: – (all labels are 0)",
    ]
