"""An outside system beside our models, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from clickmill.report import text
from clickmill.report.data import Difference, Figure
from clickmill.report.terminal import difference
from clickmill.schema import EVERYTHING

Row = Mapping[str, Any]
_PROVEN = ("worse", "better")


def leaderboard(models: Sequence[Row], title: str) -> Table:
    """A rich table, a row a model as `--json` shows it. Values are `Text`, so that markup stays as it is."""
    shown = Text(text.plain(title), style="bold")
    table = Table(title=shown, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("model", overflow="fold", min_width=12)
    for head in ("log-loss", "NE\n[95%]", "calibration\n[95%]", "ECE", "Brier", "AUC"):
        table.add_column(head, justify="right", no_wrap=True)
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
    value = text.metric(name, Figure(found["value"]))
    if not with_ends or found["low"] is None:
        return value
    low, high = (text.metric(name, Figure(found[end])) for end in ("low", "high"))
    return f"{value}\n[{low}, {high}]"


def _names(models: Sequence[Row]) -> dict[str, str]:
    """model_id → the model's name, or its id where two have one name."""
    names = [one["name"] for one in models]
    return {
        one["model_id"]: text.plain(one["name"] if names.count(one["name"]) == 1 else one["model_id"])
        for one in models
    }
