"""A model's card: what it is for, what it was made from, how good it is and where it is weak, as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clickmill.report.data import Figure
from clickmill.report.text import count, interval, metric, plain, share

Row = Mapping[str, Any]
WEAKEST = 5
"""Slices that are shown."""
METRICS = {
    "ne": "NE (log-loss over that of always saying the test stretch's click rate; below 1, lower is better)",
    "log_loss": "log-loss",
    "calibration_ratio": "calibration ratio (clicks expected over clicks seen; 1 is right)",
    "ece": "ECE",
    "auc": "AUC",
}


def card(model: Row, bins: Sequence[Row], slices: Sequence[Row], *, min_clicks: int) -> str:
    """The card as Markdown; values from logs and config are escaped.

    model: as `registry.shown` tells it; bins: its rows of `reliability` at the last stage; slices: its rows of
    `metrics` of NE at the last stage.
    """
    return "\n".join(_lines(model, bins, slices, min_clicks)) + "\n"


def _lines(model: Row, bins: Sequence[Row], slices: Sequence[Row], min_clicks: int) -> Iterator[str]:
    yield f"# {_text(model['model_id'])}"
    yield ""
    yield (
        f"A {_text(model['kind'])} model of the chance that an impression of {_text(model['dataset'])} is "
        "clicked, for bids and rankings on traffic like that which it was trained on."
    )
    yield ""
    yield "## Data"
    yield ""
    for name, (start, end) in model["stretches"].items():
        yield f"- {_text(name)}: {_text(start)} up to {_text(end)} (UTC)"
    versions = ", ".join(f"{_text(name)} {version}" for name, version in sorted(model["tables"].items()))
    yield f"- table versions: {versions or 'none'}; code {_text(model['created_by'])}; digest `{model['digest']}`"
    training = model["training"]
    yield f"- rows trained on: {count(training.get('rows'))}, of them {count(training.get('clicks'))} clicks"
    yield ""
    yield "## Probabilities"
    yield ""
    yield from _probabilities(model)
    yield ""
    yield f"## On test time, {model['judged'] or 'not judged yet'}"
    yield ""
    yield from _metrics(model["metrics"])
    yield ""
    yield "## Where it is weak"
    yield ""
    yield from _weak(slices, min_clicks)
    yield ""
    yield "## Calibration by p"
    yield ""
    yield from _calibration(bins)
    yield ""
    yield "## Limits"
    yield ""
    yield "- It knows what its training time held: values seen there first later share one weight, or none."
    yield "- It says what happens where impressions are chosen as they were, not what showing more would do."
    if training.get("converged") is False:
        yield f"- Training stopped after {training.get('iterations')} iterations, before it converged."
    yield ""
    yield "## How to score"
    yield ""
    folder = model["artifact"].rpartition("/")[0]
    yield "```sh"
    yield f"clickmill score --model '{folder}' < log.tsv > p.tsv"
    yield f"clickmill run score --set score.model='{folder}' --ds DAY --conf FILE"
    yield "```"


def _probabilities(model: Row) -> Iterator[str]:
    keep, fitted = model["keep_rate"], model["calibration"]
    if model["correction"] == "weight":
        yield "- trained with weights: p_sampled is at full traffic already"
    else:
        yield f"- trained on every click and a share of {keep:g} of the rest, drawn by event id"
        yield f"- the prior correction undoes that: p = p_sampled / (p_sampled + (1 − p_sampled) / {keep:g})"
    if fitted is None:
        yield "- not recalibrated yet"
    else:
        start, end = fitted["stretch"]
        yield (
            f"- recalibration: {_text(fitted['method'])}, chosen on {count(fitted['clicks'])} clicks from "
            f"{_text(start)} up to {_text(end)}"
        )


def _metrics(metrics: Mapping[str, Row]) -> Iterator[str]:
    yield "| figure | value | 95% interval |"
    yield "|-|-|-|"
    for name, words in METRICS.items():
        if name in metrics:
            found = Figure(metrics[name]["value"], None, metrics[name]["low"], metrics[name]["high"])
            yield f"| {words} | {metric(name, found)} | {interval(name, found)} |"


def _weak(slices: Sequence[Row], min_clicks: int) -> Iterator[str]:
    judged = [row for row in slices if row["value"] is not None and row["clicks"] >= min_clicks]
    if not judged:
        yield f"No slice was judged on {min_clicks} clicks or more."
        return
    yield "| slice | NE | 95% interval | clicks |"
    yield "|-|-|-|-|"
    for row in sorted(judged, key=lambda row: (-row["value"], row["slice"]))[:WEAKEST]:
        found = Figure(row["value"], None, row["low"], row["high"])
        name = _text(row["slice"])
        yield f"| {name} | {metric('ne', found)} | {interval('ne', found)} | {count(row['clicks'])} |"


def _calibration(bins: Sequence[Row]) -> Iterator[str]:
    """Two bins of equal mass make a tenth."""
    if not bins:
        yield "No bins were stored."
        return
    yield "| tenth | predicted | observed |"
    yield "|-|-|-|"
    ordered = sorted(bins, key=lambda row: row["bin"])
    for number, first in enumerate(range(0, len(ordered), 2), 1):
        some = ordered[first : first + 2]
        mass = sum(row["n"] for row in some)
        p, rate = (sum(row[name] * row["n"] for row in some) / mass for name in ("p_mean", "ctr"))
        yield f"| {number} | {share(p)} | {share(rate)} |"


def _text(value: object) -> str:
    """A value that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", html.escape(plain(str(value)), quote=False))
