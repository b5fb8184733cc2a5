"""The report's figures as inline SVG, drawn by matplotlib.

Every colour is a placeholder that becomes a CSS variable, so that the page's light and dark colours hold
in the figures too; text stays text in the page's own font. No text from a log or config enters a figure:
names stand in the page around it, where they are escaped.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from clickmill.report import text
from clickmill.report.data import Bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#0a0b00", "#0a0b01", "#0a0b02"
SERIES = ("#0a0b10", "#0a0b11", "#0a0b12", "#0a0b13", "#0a0b14", "#0a0b15")
"""A placeholder `#0a0bXX` becomes `var(--cXX)`."""
MARKERS = "osD^vP"
RARE = 0.1
"""Below this CTR clicks are rare, and reliability is drawn on log axes."""
FEW_POINTS = 12
"""So many points of a curve are marked: one alone would not be seen."""
WIDTH, HEIGHT = 4.4, 3.3
"""Inches of 72 CSS pixels: narrow enough to keep its text readable on a phone."""
SVG = "http://www.w3.org/2000/svg"
LINK = "http://www.w3.org/1999/xlink"


class Interval(NamedTuple):
    """A value and its 95% interval."""

    value: float
    low: float
    high: float


def reliability(before: Sequence[Bin], after: Sequence[Bin], *, key: str, title: str, description: str) -> str:
    """Predicted against observed CTR: `after` recalibration as dots, `before` as rings, the diagonal as a line."""
    figure, axes = _figure()
    shown = [*before, *after]
    rare = is_rare(after)
    low, high = _limits(shown, rare)
    floor = low * 1.25 if rare else low
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, zorder=1)
    for bins, fill, zorder in ((before, "none", 2), (after, SERIES[0], 3)):
        _dots(axes, bins, floor, color=MUTED if fill == "none" else SERIES[0], fill=fill, zorder=zorder)
    if rare:
        _log_axes(axes, subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0))
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="predicted", ylabel="observed CTR")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: _percent(value))
    return _svg(figure, key=key, title=title, description=description)


def by_day(
    series: Sequence[Sequence[tuple[date, float]]], *, metric: str, key: str, title: str, description: str
) -> str:
    """A metric over days, a line a model, in the order of `SERIES`."""
    figure, axes = _figure(height=2.6)
    days = sorted({day for points in series for day, _ in points})
    for place, points in enumerate(series):
        axes.plot(
            [days.index(day) for day, _ in points],
            [ne for _, ne in points],
            color=SERIES[place % len(SERIES)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            linewidth=1.5,
        )
    step = max(1, -(-len(days) // 6))
    axes.set_xticks(range(0, len(days), step), [f"{day:%d %b}" for day in days[::step]])
    axes.set_xlim(-0.4, len(days) - 0.6)
    axes.set_ylabel(metric)
    axes.margins(y=0.15)
    axes.ticklabel_format(axis="y", useOffset=False)
    return _svg(figure, key=key, title=title, description=description)


def learning(
    curve: Sequence[tuple[int, float | None, float | None]],
    kept: int,
    *,
    by: str,
    key: str,
    title: str,
    description: str,
) -> str:
    """NE of training and validation rows by round or step (`by`); a line at the last one that was kept."""
    figure, axes = _figure(height=2.6)
    for place in range(2):
        points = [(number, ne) for number, *both in curve if (ne := both[place]) is not None]
        axes.plot(
            [at for at, _ in points],
            [ne for _, ne in points],
            color=SERIES[place],
            linewidth=1.5,
            marker=MARKERS[place] if len(points) <= FEW_POINTS else "",
            markersize=4,
        )
    axes.axvline(kept, color=MUTED, linewidth=1, linestyle="dashed", zorder=1)
    axes.set(xlabel=by, ylabel="NE")
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.ticklabel_format(axis="y", useOffset=False)
    return _svg(figure, key=key, title=title, description=description)


def forest(rows: Sequence[tuple[int, Interval]], *, key: str, title: str, description: str) -> str:
    """Differences with their numbers and intervals, from the top down; the line of no difference."""
    figure, axes = _figure(height=1.0 + 0.28 * len(rows))
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    for place, (_, (value, low, high)) in enumerate(rows):
        color = SERIES[0] if high < 0 else SERIES[1] if low > 0 else MUTED
        axes.hlines(place, low, high, color=color, linewidth=2, zorder=2)
        axes.plot(value, place, color=color, marker="o", markersize=5.5, zorder=3)
    axes.set_yticks(range(len(rows)), [str(number) for number, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("difference in NE")
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    return _svg(figure, key=key, title=title, description=description)


def is_rare(bins: Sequence[Bin]) -> bool:
    """Whether there are clicks but fewer than `RARE`, so that log axes are needed to see anything."""
    return 0 < sum(bin.ctr * bin.n for bin in bins) < RARE * sum(bin.n for bin in bins)


def _dots(axes: Axes, bins: Sequence[Bin], floor: float, *, color: str, fill: str, zorder: int) -> None:
    """Bins as dots with intervals; a bin without clicks sits on the floor as a triangle."""
    for marker, some in (("o", [b for b in bins if b.ctr > floor]), ("v", [b for b in bins if b.ctr <= floor])):
        axes.plot(
            [b.p_mean for b in some],
            [max(b.ctr, floor) for b in some],
            linestyle="none",
            marker=marker,
            markersize=5,
            markeredgewidth=1,
            markeredgecolor=color,
            markerfacecolor=fill,
            zorder=zorder,
        )
    for b in bins:
        if b.low is not None and b.high is not None:
            axes.vlines(b.p_mean, max(b.low, floor), max(b.high, floor), color=color, linewidth=1, zorder=zorder)


def _log_axes(axes: Axes, subs: tuple[float, ...]) -> None:
    """Log scales with labels at these multiples of the powers of ten, and none between them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_minor_formatter(NullFormatter())


def _limits(bins: Sequence[Bin], rare: bool) -> tuple[float, float]:
    """Equal limits of both axes, with some air."""
    top = max(max(b.p_mean, b.ctr) for b in bins)
    if not rare:
        return 0.0, min(top * 1.08, 1.02) or 1.0
    least = min((value for b in bins for value in (b.p_mean, b.ctr) if value > 0), default=top)
    return least / 1.6, min(top * 1.6, 1.05)


def _percent(value: float) -> str:
    return f"{100 * value:.6f}".rstrip("0").rstrip(".") + " %"


def _figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.grid(visible=True, color=GRID, linewidth=0.75)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(which="both", colors=MUTED, labelcolor=INK, labelsize=9.5, width=0.75)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=10.5)
    return figure, axes


def _svg(figure: Figure, *, key: str, title: str, description: str) -> str:
    """The figure as an SVG element: ids of its own, themed colours, the page's font, a title and a description."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", LINK)
    root = ElementTree.fromstring(out.getvalue())
    _tidy(root, key)
    for name, words, place in (("title", title, 0), ("desc", description, 1)):
        element = ElementTree.Element(f"{{{SVG}}}{name}", id=f"{key}-{name}")
        element.text = text.plain(words, limit=2000)
        root.insert(place, element)
    root.attrib.update({"role": "img", "aria-labelledby": f"{key}-title {key}-desc"})
    drawn = ElementTree.tostring(root, encoding="unicode")
    drawn = re.sub(r"#0a0b([0-9a-f]{2})", r"var(--c\1)", drawn)
    return re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", drawn)


def _tidy(root: ElementTree.Element, key: str) -> None:
    """Leaves out sizes, metadata and the style that would leak into the page; makes ids unique to the figure."""
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("metadata") or child.tag == f"{{{SVG}}}style":
                parent.remove(child)
    for element in root.iter():
        element.attrib.update(_own_ids(dict(element.attrib), key))


def _own_ids(attributes: dict[str, Any], key: str) -> dict[str, str]:
    changed = {}
    for name, value in attributes.items():
        if name == "id":
            changed[name] = f"{key}-{value}"
        elif name.endswith("href") and value.startswith("#"):
            changed[name] = f"#{key}-{value[1:]}"
        elif "url(#" in value:
            changed[name] = value.replace("url(#", f"url(#{key}-")
    return changed
