"""Intervals of a model's figures, and paired differences between two models, from resampled sums. No Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from clickmill import bootstrap
from clickmill.discoveries import FALSE_DISCOVERIES, adjusted, two_sided
from clickmill.evaluate.resampling import Ranked, Resampled
from clickmill.metrics import Array
from clickmill.schema import EVERYTHING

_NO_DIFFERENCE = dict.fromkeys(("difference", "standard_error", "low", "high"))


class Interval(NamedTuple):
    """A 95% interval, or why there is none."""

    low: float | None
    high: float | None
    reason: str | None = None


def interval_of(values: Array, units: int) -> Interval:
    """The interval of a metric's replicates."""
    ends, reason = bootstrap.interval(values, units)
    return Interval(None, None, reason) if ends is None else Interval(*ends)


def intervals(
    names: Sequence[str], model: int, resampled: Resampled, ranked: Ranked | None, auc: float | None
) -> dict[str, dict[str, Interval]]:
    """Intervals by group and metric. auc: the exact one, which the binned one's replicates are shifted to."""
    found = {
        name: {
            metric: interval_of(values, resampled.units(group))
            for metric, values in resampled.draws(model, group).figures().items()
        }
        for group, name in enumerate(names)
        if resampled.units(group)
    }
    if ranked is not None and auc is not None:
        binned, draws = ranked.aucs()
        found[EVERYTHING]["auc"] = interval_of(np.clip(draws + (auc - binned), 0, 1), resampled.units(0))
    return found


def comparison_rows(
    names: Sequence[str],
    models: Sequence[str],
    values: Mapping[str, Mapping[tuple[str, str], Mapping[str, Any]]],
    resampled: Resampled,
    *,
    min_clicks: int,
) -> Iterator[dict[str, Any]]:
    """Rows of `comparisons`, less the keys: of every two models, the first's figure less the second's.

    values: of each model, by (group, metric), the row of `metrics` at the last stage.
    """
    for one, other in permutations(range(len(models)), 2):
        rows = list(_paired(names, (one, other), (values[models[one]], values[models[other]]), resampled))
        verdicts = _verdicts([row for row in rows if row["metric"] == "ne"], min_clicks)
        for row in rows:
            told = verdicts.get(row["slice"], {}) if row["metric"] == "ne" else {}
            yield {"model_id": models[one], "other_id": models[other], **row, **told}


def _paired(
    names: Sequence[str],
    pair: tuple[int, int],
    values: tuple[Mapping[tuple[str, str], Mapping[str, Any]], Mapping[tuple[str, str], Mapping[str, Any]]],
    resampled: Resampled,
) -> Iterator[dict[str, Any]]:
    for group, name in enumerate(names):
        if (name, "ne") not in values[0]:
            continue
        draws = [resampled.draws(model, group).figures() for model in pair]
        for metric in draws[0]:
            mine, its = (found[name, metric] for found in values)
            row = {"slice": name, "metric": metric, "n": mine["n"], "clicks": mine["clicks"]}
            if mine["value"] is None or its["value"] is None:
                yield row | _NO_DIFFERENCE | {"reason": mine["reason"] or its["reason"]}
                continue
            drawn = draws[0][metric] - draws[1][metric]
            low, high, reason = interval_of(drawn, resampled.units(group))
            yield row | {
                "difference": mine["value"] - its["value"],
                "standard_error": None if low is None else float(np.nanstd(drawn)),
                "low": low,
                "high": high,
                "reason": reason,
            }


def _verdicts(rows: Sequence[Mapping[str, Any]], min_clicks: int) -> dict[str, dict[str, Any]]:
    """For each slice what is said of it: by false discovery rate over the slices that have clicks enough."""
    slices = [row for row in rows if row["slice"] != EVERYTHING]
    few = (row["slice"] for row in slices if row["clicks"] < min_clicks)
    found: dict[str, dict[str, Any]] = {name: {"verdict": "too few clicks"} for name in few}
    judged = [row for row in slices if row["slice"] not in found and row["standard_error"] is not None]
    chances = adjusted([two_sided(row["difference"], row["standard_error"]) for row in judged])
    for row, chance in zip(judged, chances, strict=True):
        verdict = "no difference" if chance > FALSE_DISCOVERIES else "worse" if row["difference"] > 0 else "better"
        found[row["slice"]] = {"verdict": verdict, "q_value": chance}
    return found
