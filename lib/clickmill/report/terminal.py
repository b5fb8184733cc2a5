"""The leaderboard on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from clickmill.report import text
from clickmill.report.data import Difference, Model, ReportData


def leaderboard(data: ReportData) -> Table:
    """A rich table, a row a model, by NE. Values are `Text`, so that markup in a name stays a name."""
    table = board(f"{data.dataset} · {data.ds} · test time", heads(data))
    for place, model in enumerate(data.models):
        table.add_row(*(Text(cell) for cell in row(data, model)), style="bold" if place == 0 else None)
    return table


def board(title: str, heads: Sequence[str]) -> Table:
    """An empty table of models with a column a head."""
    shown = Text(text.plain(title), style="bold")
    table = Table(title=shown, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("model", overflow="fold", min_width=12)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def differences(data: ReportData) -> list[str]:
    """A line for each model but the best: by how much the best one's NE is lower, on the same rows."""
    names = text.labels(data)
    return [difference(names[one.model_id], names[one.other_id], one) for one in data.differences]


def difference(name: str, other: str, found: Difference) -> str:
    """The NE of a model less that of another one, in words."""
    said = f"NE of {name} less that of {other}: {found.value:+.4f}"
    if found.low is None or found.high is None:
        return f"{said} ({found.reason})"
    return f"{said}, 95% interval [{found.low:+.4f}, {found.high:+.4f}], paired"


def heads(data: ReportData) -> tuple[str, ...]:
    """The leaderboard's columns after the model's name."""
    truth = ("calib.\nto truth",) if data.knows_truth else ()
    return ("NE", "log-loss", "calib.\nbefore", "calib.\nafter", *truth, "ECE", "AUC", "train\ns")


def row(data: ReportData, model: Model) -> tuple[str, ...]:
    """One model's cells: the name, then one a head."""
    truth = (
        (text.metric("calibration_to_truth", model.figure("calibration_to_truth")),) if data.knows_truth else ()
    )
    return (
        text.labels(data)[model.model_id],
        text.metric("ne", model.figure("ne")),
        text.metric("log_loss", model.figure("log_loss")),
        text.metric("calibration_ratio", model.figure("calibration_ratio", "p_sampled")),
        text.metric("calibration_ratio", model.figure("calibration_ratio")),
        *truth,
        text.metric("ece", model.figure("ece")),
        text.metric("auc", model.figure("auc")),
        text.seconds(model.seconds),
    )
