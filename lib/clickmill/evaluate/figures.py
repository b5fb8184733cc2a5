"""From sums to figures: the metrics of a group with their intervals, and the bins of the reliability plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clickmill.bootstrap import MIN_UNITS, interval
from clickmill.errors import DegenerateLabelsError
from clickmill.evaluate.cells import Cells
from clickmill.evaluate.intervals import Interval
from clickmill.evaluate.tally import SUMS, Tally
from clickmill.metrics import (
    Array,
    Groups,
    auc_of,
    average_precision_of,
    binary_entropy,
    ece_debiased_of,
    ece_of,
    equal_mass_bins,
)
from clickmill.schema import EVERYTHING, LAST_STAGE, STAGES


class Figure(NamedTuple):
    """A metric's value, or None and the reason why it has none."""

    value: float | None
    reason: str | None = None


def figures(sums: Array, groups: Groups | None) -> dict[str, Figure]:
    """Every metric of one slice at one stage, by its name; the ranking ones and ECE only with groups.

    sums: (len(SUMS),). Where a metric is undefined its value is None with the reason, never NaN.
    """
    s = dict(zip(SUMS, sums.tolist(), strict=True))
    loss = s["loss"] / s["weight"]

    def ne() -> float:
        return float(loss / binary_entropy(s["clicks"] / s["weight"]))

    def over(sum_p: str, expected: str) -> Callable[[], float]:
        def ratio() -> float:
            if s[expected] == 0:
                raise DegenerateLabelsError("there are no clicks")
            return float(s[sum_p] / s[expected])

        return ratio

    found = {
        "n": Figure(s["rows"]),
        "clicks": Figure(s["clicked"]),
        "ctr": Figure(s["clicks"] / s["weight"]),
        "clipped": Figure(s["clipped"]),
        "log_loss": Figure(loss),
        "ne": _or_reason(ne),
        "rig": _or_reason(lambda: 1 - ne()),
        "calibration_ratio": _or_reason(over("p", "clicks")),
        "brier": Figure(s["square"] / s["weight"]),
        "calibration_to_truth": _to_truth(s),
    }
    if groups is not None:
        found["ece"] = Figure(ece_of(groups))
        alike = s["weight"] == s["rows"]
        found["ece_debiased"] = Figure(ece_debiased_of(groups)) if alike else Figure(None, "the rows have weights")
        found["auc"] = _or_reason(lambda: auc_of(groups))
        found["auc_pr"] = _or_reason(lambda: average_precision_of(groups))
    return found


def metric_rows(
    tally: Tally, names: Sequence[str], intervals: Mapping[str, Mapping[str, Interval]], *, traffic: str
) -> Iterator[dict[str, Any]]:
    """Rows of `metrics`, less the keys that name day, model and run; groups without rows are left out.

    intervals: of the last stage, by group and metric.
    """
    for group in np.flatnonzero(tally.sums[:, 0, SUMS.index("rows")]).tolist():
        name = names[group]
        for place, stage in enumerate(STAGES):
            sums = tally.sums[group, place]
            groups = tally.cells.groups(place) if name == EVERYTHING else None
            own = intervals.get(name, {}) if stage == LAST_STAGE else {}
            for metric, figure in figures(sums, groups).items():
                low, high, lacking = own.get(metric, Interval(None, None))
                yield {
                    "stage": stage,
                    "slice": name,
                    "metric": metric,
                    "traffic": traffic,
                    "value": figure.value,
                    "low": low,
                    "high": high,
                    "n": int(sums[SUMS.index("rows")]),
                    "clicks": int(sums[SUMS.index("clicked")]),
                    "reason": figure.reason or (lacking and f"no interval: {lacking}"),
                }


def reliability_rows(cells: Cells, rates: Array | None = None) -> Iterator[dict[str, Any]]:
    """Rows of `reliability`, less the keys: bins of equal mass at every stage.

    rates: (bins, replicates) click rates of the same bins, which all stages share, of units enough for an
    interval; their spread is the band. A bin that over bootstrap.MAX_LOST of the replicates leave empty has none.
    """
    for place, stage in enumerate(STAGES):
        bins = equal_mass_bins(cells.groups(place))
        for number, (p_mean, rate, mass) in enumerate(zip(*(part.tolist() for part in bins), strict=True)):
            ends = None if rates is None else interval(rates[number], MIN_UNITS)[0]
            low, high = ends or (None, None)
            yield {
                "stage": stage,
                "bin": number,
                "p_mean": p_mean,
                "ctr": rate,
                "n": mass,
                "low": low,
                "high": high,
            }


def _or_reason(compute: Callable[[], float]) -> Figure:
    try:
        return Figure(compute())
    except DegenerateLabelsError as error:
        return Figure(None, str(error))


def _to_truth(s: dict[str, float]) -> Figure:
    if s["unknown"]:
        share = "the rows" if s["unknown"] == s["rows"] else f"{s['unknown']:.0f} rows"
        return Figure(None, f"{share} have no p_true")
    if s["truth"] == 0:
        return Figure(None, "p_true is 0 everywhere")
    return Figure(s["p"] / s["truth"])
