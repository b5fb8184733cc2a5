"""`ReportData` → one self-contained HTML page: no network, no script, every value escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from clickmill.report import figures, text
from clickmill.report.data import (
    COLLISION_LIMIT,
    Bin,
    Column,
    DayFigure,
    Difference,
    Figure,
    Model,
    Network,
    ReportData,
    Trees,
)
from clickmill.schema import LAST_STAGE, STAGES

MOST_PLOTS = 6
"""Reliability plots: of the best models."""
MOST_SLICES = 25
"""Rows of the slice table, the most harmed first."""
MOST_COLUMNS = 12
"""Rows of a table of what trees split by, the columns of most gain first."""
MOST_SLOTS = 15
"""Rows of the collision table, besides those over the limit."""
SECTIONS = (
    ("leaderboard", "Leaderboard"),
    ("verdict", "The gate"),
    ("differences", "Paired differences"),
    ("slices", "Slices"),
    ("reliability", "Reliability"),
    ("trees", "Trees"),
    ("networks", "Networks"),
    ("by-day", "Day by day"),
    ("collisions", "Hash collisions"),
    ("rejects", "Rejected lines"),
    ("provenance", "What ran on what"),
)
"""Anchor and heading of each section, in order."""


@dataclass(frozen=True)
class ReliabilityPlot:
    label: str
    svg: Markup
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class TreesPlot:
    label: str
    svg: Markup
    trees: Trees
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class NetworkPlot:
    label: str
    svg: Markup
    network: Network


@dataclass(frozen=True)
class DayRow:
    day: date
    figures: tuple[tuple[Figure, Figure], ...]
    """Of each name NE and calibration ratio."""
    n: int
    clicks: int


def render(data: ReportData) -> str:
    """The page as text, to be written as UTF-8."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": text.plain,
        "metric": lambda figure, name: text.metric(name, figure),
        "count": text.count,
        "share": text.share,
        "seconds": text.seconds,
        "interval": lambda figure, name: text.interval(name, figure),
        "signed": text.signed,
        "signed_interval": _signed_interval,
        "recalibration": lambda method: {"platt": "Platt", "none": "not recalibrated"}.get(method, method),
    }
    folder = resources.files("clickmill.report")
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    css = Markup(folder.joinpath("page.css").read_text(encoding="utf-8"))
    return template.render(data=data, css=css, sections=SECTIONS, **_derived(data))


def _derived(data: ReportData) -> dict[str, Any]:
    """What the template shows that has to be worked out first."""
    labels = text.labels(data)
    judged = [model for model in data.models if model.figure("ne").value is not None]
    plots = _reliability_plots(data, labels)
    worst_bits = data.bits[0] if data.bits else None
    heavy = [slot for slot in data.collisions if slot.mass.get(worst_bits or 0, 0.0) >= COLLISION_LIMIT]
    shown = data.collisions[: max(MOST_SLOTS, len(heavy))]
    names = list(dict.fromkeys(figure.name for figure in data.days))
    return {
        "labels": labels,
        "best": judged[0] if judged else None,
        "traffic": _traffic(data.models),
        "reliability": plots,
        "has_before": any(_before(model) for model in data.models[:MOST_PLOTS]),
        "log_axes": any(figures.is_rare(plot.bins) for plot in plots),
        "trees": _trees_plots(data, labels),
        "networks": _network_plots(data, labels),
        "day_names": names,
        "day_rows": _day_rows(data.days, names),
        "several_days": len({figure.day for figure in data.days}) > 1,
        "day_plots": _day_plots(data.days, names),
        "forest": _forest(data, labels),
        **_sliced(data, labels),
        "collisions": shown,
        "collisions_left_out": len(data.collisions) - len(shown),
        "heavy": heavy,
        "worst_bits": worst_bits,
        "shown_bits": [bits for bits in data.bits if any(bits in slot.mass for slot in data.collisions)],
        "rejects_when": _when(data.rejects_days),
    }


def _traffic(models: tuple[Model, ...]) -> str:
    kinds = {model.traffic for model in models}
    return "full traffic" if kinds <= {"full"} else "a weighted sample" if "full" not in kinds else "mixed traffic"


def _when(days: tuple[date, ...]) -> str:
    if not days:
        return "in this window"
    return f"on {days[0]}" if len(days) == 1 else f"from {min(days)} to {max(days)}"


def _before(model: Model) -> tuple[Bin, ...]:
    return model.reliability.get(STAGES[0], ())


def _reliability_plots(data: ReportData, labels: Mapping[str, str]) -> list[ReliabilityPlot]:
    plots = []
    for place, model in enumerate(data.models[:MOST_PLOTS]):
        bins = model.reliability.get(LAST_STAGE, ())
        if not bins:
            continue
        worst = max(bins, key=lambda bin: abs(bin.p_mean - bin.ctr))
        svg = figures.reliability(
            _before(model),
            bins,
            key=f"reliability-{place}",
            title=f"Predicted against observed CTR of {labels[model.model_id]}",
            description=(
                f"{len(bins)} bins from {text.share(bins[0].p_mean)} to {text.share(bins[-1].p_mean)} predicted. "
                f"Farthest from the diagonal: {text.share(worst.p_mean)} predicted, "
                f"{text.share(worst.ctr)} observed."
            ),
        )
        plots.append(ReliabilityPlot(labels[model.model_id], Markup(svg), bins))
    return plots


def _trees_plots(data: ReportData, labels: Mapping[str, str]) -> list[TreesPlot]:
    plots = []
    for place, model in enumerate(data.models[:MOST_PLOTS]):
        if model.trees is None:
            continue
        best = model.trees.curve[model.trees.rounds - 1]
        told = [
            f"{name} rows {'have no NE' if ne is None else f'end at NE {ne:.4f}'}"
            for name, ne in zip(("training", "validation"), best, strict=True)
        ]
        svg = figures.learning(
            [(number, *both) for number, both in enumerate(model.trees.curve, 1)],
            model.trees.rounds,
            by="round",
            key=f"learning-{place}",
            title=f"NE by round of {labels[model.model_id]}",
            description=f"{model.trees.rounds} of {len(model.trees.curve)} rounds kept: {' and '.join(told)}.",
        )
        columns = model.trees.columns[:MOST_COLUMNS]
        plots.append(TreesPlot(labels[model.model_id], Markup(svg), model.trees, columns))
    return plots


def _network_plots(data: ReportData, labels: Mapping[str, str]) -> list[NetworkPlot]:
    plots = []
    for place, model in enumerate(data.models[:MOST_PLOTS]):
        network = model.network
        if network is None:
            continue
        judged = [ne for step, _, ne in network.curve if step == network.best and ne is not None]
        ended = f"validation rows have NE {judged[0]:.4f} there" if judged else "validation rows have no NE there"
        svg = figures.learning(
            network.curve,
            network.best,
            by="step",
            key=f"network-{place}",
            title=f"NE by step of {labels[model.model_id]}",
            description=f"The weights after step {network.best} of {network.steps} kept: {ended}.",
        )
        plots.append(NetworkPlot(labels[model.model_id], Markup(svg), network))
    return plots


def _day_rows(days: tuple[DayFigure, ...], names: list[str]) -> list[DayRow]:
    rows = []
    for day in sorted({figure.day for figure in days}):
        own = {figure.name: figure for figure in days if figure.day == day}
        some = next(iter(own.values()))
        shown = tuple(
            (Figure(own[name].ne), Figure(own[name].calibration)) if name in own else (Figure(None), Figure(None))
            for name in names
        )
        rows.append(DayRow(day, shown, some.n, some.clicks))
    return rows


def _day_plots(days: tuple[DayFigure, ...], names: list[str]) -> list[dict[str, Any]]:
    """The curves of NE and of the calibration ratio over days, if there are two days or more."""
    plots = []
    for metric, name in (("ne", "NE"), ("calibration", "Calibration ratio")):
        series = [
            [(f.day, value) for f in days if f.name == own and (value := getattr(f, metric)) is not None]
            for own in names
        ]
        drawn = [(own, points) for own, points in zip(names, series, strict=True) if points][: len(figures.SERIES)]
        values = [value for _, points in drawn for _, value in points]
        seen = {day for _, points in drawn for day, _ in points}
        if len(seen) < 2:
            continue
        svg = figures.by_day(
            [points for _, points in drawn],
            metric=name,
            key=f"{metric}-by-day-plot",
            title=f"{name} by test day",
            description=f"{len(seen)} days; {name} lies between {min(values):.4f} and {max(values):.4f}.",
        )
        legend = [(text.plain(own), shade) for shade, (own, _) in enumerate(drawn)]
        plots.append({"svg": Markup(svg), "name": name, "legend": legend})
    return plots


def _forest(data: ReportData, labels: Mapping[str, str]) -> Markup | None:
    """The best model's differences from all others."""
    return _drawn(
        [(one.value, one.low, one.high) for one in data.differences],
        key="forest-models",
        title=f"NE of {labels[data.models[0].model_id]} less that of each other model" if data.models else "",
    )


def _sliced(data: ReportData, labels: Mapping[str, str]) -> dict[str, Any]:
    """The slices that are shown, and how the two models differ there."""
    if data.slices is None:
        return {"slices": (), "slices_left_out": 0, "slice_forest": None, "slice_names": ("", None)}
    shown = data.slices.rows[:MOST_SLICES]
    mine, rival = labels[data.slices.model_id], data.slices.rival_id and labels[data.slices.rival_id]
    forest = _drawn(
        [(one.difference.value, one.difference.low, one.difference.high) for one in shown],
        key="forest-slices",
        title=f"NE of {mine} less that of {rival}, slice by slice",
    )
    left = len(data.slices.rows) - len(shown)
    return {"slices": shown, "slices_left_out": left, "slice_forest": forest, "slice_names": (mine, rival)}


def _drawn(
    rows: Sequence[tuple[float | None, float | None, float | None]], *, key: str, title: str
) -> Markup | None:
    """A forest plot of the rows that have an interval, numbered as in the table beside it."""
    known = [
        (number, figures.Interval(value, low, high))
        for number, (value, low, high) in enumerate(rows, 1)
        if value is not None and low is not None and high is not None
    ]
    if not known:
        return None
    worse, better = sum(one.low > 0 for _, one in known), sum(one.high < 0 for _, one in known)
    told = f"{len(known)} differences with 95% intervals: {better} wholly below 0, {worse} wholly above."
    return Markup(figures.forest(known, key=key, title=title, description=told))


def _signed_interval(one: Difference | Figure) -> str:
    """The interval of a difference in NE; nothing where there is none."""
    if one.low is None or one.high is None:
        return ""
    return f"[{text.signed(one.low)}, {text.signed(one.high)}]"
