"""From figures to a verdict, `none`, `watch` or `retrain`, with sentences. No Spark."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Literal, NamedTuple

from clickmill.config import Monitor
from clickmill.monitor.figures import ALL, Drift

Level = Literal["none", "watch", "retrain"]
LEVELS: tuple[Level, ...] = ("none", "watch", "retrain")

WORDS = {
    "psi": "its distribution has moved",
    "ks": "its distribution has moved",
    "psi_excess": "its distribution has moved",
    "unseen_excess": "more of its values are new",
    "seen_ratio": "values that used to come again are gone",
    "ctr_ratio": "the click-through rate is another",
    "adversarial_auc": "a classifier tells the day's rows from earlier ones",
    "calibration_ratio": "the champion's p is off",
    "ne_loss": "the champion's NE is worse than on the day it was promoted",
}
OF_SLOTS = ("psi_excess", "unseen_excess", "seen_ratio")
OWN = ("psi", "ks", *OF_SLOTS, "ctr_ratio")
"""Statistics of the rows themselves: told before what they do to models."""


class Judged(NamedTuple):
    """A figure and what it means."""

    figure: Drift
    verdict: Level
    strength: float
    """What is proven of it over the threshold of `retrain`."""


class Verdict(NamedTuple):
    """Of a day."""

    level: Level
    sentences: tuple[str, ...]
    """The strongest reason first; empty for `none`."""
    figures: tuple[Judged, ...]


def verdict(figures: Iterable[Drift], conf: Monitor) -> Verdict:
    """What the figures come to. Against the day before a figure says `watch` at most: what is gone again today, or
    was there before train time ended, is no reason to train; nor are rows without any click to learn from. But of
    a slot, where train time does not tell what is usual for it at the day's distance, the day before is asked."""
    figures = tuple(figures)
    slots = {figure.column for figure in figures if figure.statistic == "unseen"}
    held = {
        figure.column for figure in figures if (figure.against, figure.statistic) == ("train", "unseen_excess")
    }
    judged = tuple(_judged(figure, conf, slots=slots, held=held) for figure in figures)
    telling = sorted((one for one in judged if one.verdict != "none"), key=_rank)
    level = LEVELS[max((LEVELS.index(one.verdict) for one in judged), default=0)]
    return Verdict(level, tuple(_sentence(one, conf) for one in telling), judged)


def _judged(figure: Drift, conf: Monitor, *, slots: Set[str], held: Set[str]) -> Judged:
    """slots: columns whose PSI is judged by its excess. held: those that are held against train time."""
    if figure.statistic not in WORDS or (figure.statistic == "psi" and figure.column in slots):
        return Judged(figure, "none", 0.0)
    watch, retrain = thresholds(figure.statistic, conf)
    proven = _proven(figure)
    level: Level = "none" if proven < watch else "watch" if proven < retrain else "retrain"
    hopeless = figure.statistic == "ctr_ratio" and not figure.value
    asked = figure.statistic in OF_SLOTS and figure.column not in held
    if level == "retrain" and ((figure.against == "day_before" and not asked) or hopeless):
        level = "watch"
    return Judged(figure, level, proven / retrain)


def thresholds(statistic: str, conf: Monitor) -> tuple[float, float]:
    """From what on a statistic says watch, and retrain."""
    return {
        "psi": conf.psi,
        "ks": conf.ks,
        "psi_excess": conf.psi,
        "unseen_excess": conf.unseen,
        "seen_ratio": conf.lost,
        "ctr_ratio": conf.click_rate,
        "adversarial_auc": conf.adversarial_auc,
        "calibration_ratio": conf.calibration,
        "ne_loss": conf.ne_loss,
    }[statistic]


def _proven(figure: Drift) -> float:
    """How much of it is no chance: of a ratio how far its interval lies from 1 (of values seen again: below 1), of
    other figures the lower end; 0 where there is no interval. Chance is taken off PSI, KS and excesses already."""
    if figure.statistic in ("psi", "ks", "psi_excess", "unseen_excess"):
        return figure.value
    if figure.low is None or figure.high is None:
        return 0.0
    if figure.statistic == "seen_ratio":
        return max(1 - figure.high, 0.0)
    if figure.statistic in ("ctr_ratio", "calibration_ratio"):
        return max(figure.low - 1, 1 - figure.high, 0.0)
    return figure.low


def _rank(one: Judged) -> tuple[int, bool, bool, float]:
    own = one.figure.statistic in OWN
    return -LEVELS.index(one.verdict), one.figure.against != "train", not own, -one.strength


def _sentence(one: Judged, conf: Monitor) -> str:
    figure = one.figure
    whose = "" if figure.column == ALL else f"{figure.column}: "
    since = "train time" if figure.against == "train" else "the day before"
    within = "" if figure.low is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    watch, retrain = thresholds(figure.statistic, conf)
    said = f"{figure.statistic} {figure.value:.3f}{within} against {since}"
    return f"{whose}{WORDS[figure.statistic]}: {said}, watch from {watch:g} on, retrain from {retrain:g} on"
