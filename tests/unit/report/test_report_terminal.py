from __future__ import annotations

import io

from report_rows import HOSTILE, difference_row, metric_rows, model_row, sample_report
from rich.console import Console

from clickmill.report.terminal import differences, leaderboard


def printed(report, width=80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system="standard").print(leaderboard(report))
    return out.getvalue()


def test_the_leaderboard_has_every_figure_and_fits_80_columns():
    text = printed(sample_report())
    for figure in ("0.8034", "0.10854", "9.800", "1.003", "1.004", "0.00061", "0.7812", "8.3"):
        assert figure in text
    assert "…" not in text
    assert text.index("0.8034") < text.index("0.8207")


def test_without_the_truth_there_is_no_column_for_it():
    assert "to truth" in printed(sample_report())
    assert "to truth" not in printed(sample_report(metrics=metric_rows("m-1", 0.8, truth=None)))


def test_markup_and_escape_codes_in_a_name_show_as_text():
    text = printed(sample_report(models=[], metrics=metric_rows("[red]x[/red]", 0.8), dataset=HOSTILE), width=200)
    assert "[red]x[/red]" in text
    assert "[red]\ufffd[31m\ufffd{{7*7}}" in text
    assert "\x1b[31m" not in text


def test_two_models_of_one_name_are_told_apart_by_id():
    rows = metric_rows("lr-2026-01-09-aa", 0.8) + metric_rows("lr-2026-01-10-bb", 0.81)
    text = printed(
        width=120,
        report=sample_report(
            metrics=rows, models=[model_row("lr-2026-01-09-aa", "lr"), model_row("lr-2026-01-10-bb", "lr")]
        ),
    )
    assert "lr-2026-01-09-aa" in text
    assert "lr-2026-01-10-bb" in text


def test_a_figure_that_is_absent_is_a_dash():
    rows = [row for row in metric_rows("m-1", 0.8) if row["metric"] != "auc"]
    assert "–" in printed(sample_report(metrics=rows))


def test_the_best_model_s_lead_is_told_with_its_interval():
    first, second = "lr-2026-01-10-1f09aa31", "lr_nocross-2026-01-10-77c0ee02"
    known = {model.model_id for model in sample_report().models}
    assert {first, second} == known
    row = difference_row(first, second, "all", -0.0173, low=-0.02, high=-0.0151)
    mirrored = row | {"model_id": second, "other_id": first, "difference": 0.0173}
    (line,) = differences(sample_report(comparisons=[mirrored, row]))
    assert line == "NE of lr less that of lr_nocross: -0.0173, 95% interval [-0.0200, -0.0151], paired"
    few = row | {"low": None, "high": None, "reason": "3 units, at least 30 are needed"}
    (line,) = differences(sample_report(comparisons=[few]))
    assert line.endswith("-0.0173 (3 units, at least 30 are needed)")
