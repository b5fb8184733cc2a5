"""A model's card: what it is for, what it was made from, how good it is and where it is weak, as Markdown."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clickmill.discoveries import FALSE_DISCOVERIES
from clickmill.report.data import Figure
from clickmill.report.text import count, interval, metric, plain, share, signed

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


def card(
    model: Row, bins: Sequence[Row], slices: Sequence[Row], worse: Sequence[Row] = (), *, min_clicks: int
) -> str:
    """The card as Markdown; values from logs and config are escaped.

    model: as `registry.shown` tells it; bins: its rows of `reliability` at the last stage; slices: its rows of
    `metrics` of NE at the last stage; worse: those of `comparisons` of NE where another model is proven better.
    """
    return "\n".join(_lines(model, bins, slices, worse, min_clicks)) + "\n"


def _lines(
    model: Row, bins: Sequence[Row], slices: Sequence[Row], worse: Sequence[Row], min_clicks: int
) -> Iterator[str]:
    yield f"# {_text(model['model_id'])}"
    yield ""
    yield (
        f"A model of kind {_text(model['kind'])}: the chance that an impression of {_text(model['dataset'])} is "
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
    yield from _proven(worse)
    yield ""
    yield "## Calibration by p"
    yield ""
    yield from _calibration(bins)
    yield ""
    yield "## Limits"
    yield ""
    yield "- It knows what its training time held: values seen there first later share one weight, or none."
    yield "- It says what happens where impressions are chosen as they were, not what showing more would do."
    yield from _unproven(model["metrics"])
    if any(one.get("traffic") == "weighted_sample" for one in model["metrics"].values()):
        yield "- Judged on a weighted sample of test time, not at full traffic: its intervals are wider for it."
    if training.get("converged") is False:
        yield f"- Training stopped after {training.get('iterations')} iterations, before it converged."
    yield ""
    yield "## How to score"
    yield ""
    folder = shlex.quote(plain(model["artifact"].rpartition("/")[0], limit=4096))
    yield "```sh"
    yield f"clickmill score --model {folder} < log.tsv > p.tsv"
    yield f"clickmill run score --set score.model={folder} --ds DAY --conf FILE"
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
    whole = max((row["n"] for row in slices), default=0)  # (the one test day is no slice worth naming)
    judged = [
        row for row in slices if row["value"] is not None and row["clicks"] >= min_clicks and row["n"] < whole
    ]
    if not judged:
        yield f"No slice was judged on {min_clicks} clicks or more."
        return
    yield "| slice | NE | 95% interval | clicks |"
    yield "|-|-|-|-|"
    for row in sorted(judged, key=lambda row: (-row["value"], row["slice"]))[:WEAKEST]:
        found = Figure(row["value"], None, row["low"], row["high"])
        name = _text(row["slice"])
        yield f"| {name} | {metric('ne', found)} | {interval('ne', found)} | {count(row['clicks'])} |"


def _proven(worse: Sequence[Row]) -> Iterator[str]:
    """Slices where another model is proven better, the largest loss first."""
    if worse:
        yield ""
        yield f"Proven worse than another model (false discovery rate of {FALSE_DISCOVERIES:.0%} over the slices):"
        yield ""
    for row in sorted(worse, key=lambda row: (-row["difference"], row["slice"], row["other_id"])):
        ends = f"[{signed(row['low'])}, {signed(row['high'])}]"
        yield f"- {_text(row['slice'])}: NE {signed(row['difference'])} {ends} against {_text(row['other_id'])}"


def _unproven(metrics: Mapping[str, Row]) -> Iterator[str]:
    """What the intervals do not exclude, or do."""
    ne, ratio = metrics.get("ne"), metrics.get("calibration_ratio")
    if ne and (ne["high"] is None or ne["high"] >= 1):
        yield "- It is not proven better than always saying the click rate: NE's interval is missing or reaches 1."
    if ratio and ratio["low"] is not None and not ratio["low"] <= 1 <= ratio["high"]:
        wrong = "high" if ratio["low"] > 1 else "low"
        yield f"- Its p was too {wrong} on test time: 1 is outside the calibration ratio's interval."


def _calibration(bins: Sequence[Row]) -> Iterator[str]:
    """Bins by the tenth of the rows, as p rises, that their middle lies in."""
    if not bins:
        yield "No bins were stored."
        return
    yield "| tenth | impressions | predicted | observed |"
    yield "|-|-|-|-|"
    total, before = sum(row["n"] for row in bins), 0.0
    tenths: dict[int, list[Row]] = {}
    for row in sorted(bins, key=lambda row: row["bin"]):
        tenths.setdefault(int((before + row["n"] / 2) * 10 / total) + 1, []).append(row)
        before += row["n"]
    for number, some in tenths.items():
        mass = sum(row["n"] for row in some)
        p, rate = (sum(row[name] * row["n"] for row in some) / mass for name in ("p_mean", "ctr"))
        yield f"| {number} | {count(mass)} | {share(p)} | {share(rate)} |"


def _text(value: object) -> str:
    """A value that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", html.escape(plain(str(value)), quote=False))
