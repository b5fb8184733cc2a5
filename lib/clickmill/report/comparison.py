"""An outside system beside our models, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from clickmill.report import text
from clickmill.report.data import Difference, Figure
from clickmill.report.terminal import board, difference
from clickmill.schema import EVERYTHING

Row = Mapping[str, Any]
_PROVEN = ("worse", "better")


def leaderboard(models: Sequence[Row], title: str) -> Table:
    """A rich table, a row a model as `--json` shows it. Values are `Text`, so that markup stays as it is."""
    table = board(title, ("log-loss", "NE\n[95%]", "calibration\n[95%]", "ECE", "Brier", "AUC"))
    names = _names(models)
    for one in models:
        figures = ("log_loss", "ne", "calibration_ratio", "ece", "brier", "auc")
        cells = (_cell(name, one["metrics"][name], with_ends=name in figures[1:3]) for name in figures)
        table.add_row(*(Text(cell) for cell in (names[one["model_id"]], *cells)))
    return table


def differences(models: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    """Lines: by how much the outside system's NE is above each other one's, and in which slices that is proven.

    A slice of all rows, such as the only day, says nothing more and is left out.
    """
    names = _names(models)
    for row in rows:
        if row["slice"] == EVERYTHING:
            yield _line(row, names)
            parts = [one for one in rows if one["other_id"] == row["other_id"] and one["n"] < row["n"]]
            yield from _slices(parts)


def _slices(rows: Sequence[Row]) -> Iterator[str]:
    judged = [row for row in rows if row["q_value"] is not None]
    proven = [row for row in judged if row["verdict"] in _PROVEN]
    for row in proven:
        ends = f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        yield f"  {row['verdict']} in {text.plain(row['slice'])}: {ends}, q {row['q_value']:.2g}"
    if rows:
        without = f"; {len(rows) - len(judged)} have no verdict" if len(judged) < len(rows) else ""
        yield f"  {len(proven)} of {len(judged)} slices are proven better or worse (5% false discoveries){without}"


def _line(row: Row, names: Mapping[str, str]) -> str:
    one, other = names[row["model_id"]], names[row["other_id"]]
    if row["difference"] is None:
        return f"NE of {one} less that of {other}: {text.ABSENT} ({row['reason']})"
    ends = (row[name] for name in ("difference", "low", "high", "reason"))
    return difference(one, other, Difference(row["model_id"], row["other_id"], *ends))


def _cell(name: str, found: Row, *, with_ends: bool) -> str:
    figure = Figure(found["value"], None, found["low"], found["high"])
    return text.with_interval(name, figure) if with_ends else text.metric(name, figure)


def _names(models: Sequence[Row]) -> dict[str, str]:
    return text.labels_of({one["model_id"]: one["name"] for one in models})
