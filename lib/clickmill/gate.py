"""Whether a challenger becomes the champion: rules, each a sentence with its figures. No Spark, no tables.

All rules must hold. Uncertainty comes from the judge's paired bootstrap; slices are refused only where they are
proven worse, at a false discovery rate over all slices that have clicks enough (Benjamini and Hochberg 1995;
the bound of those found, Benjamini and Yekutieli 2005).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any, NamedTuple

from clickmill.config import Gate
from clickmill.discoveries import FALSE_DISCOVERIES, adjusted

_NORMAL = NormalDist()


class Rule(NamedTuple):
    """One rule's verdict."""

    name: str
    passed: bool
    sentence: str
    figures: dict[str, Any]


class Bounds(NamedTuple):
    """A figure and its 95% interval; without one, the reason why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


class Worse(NamedTuple):
    """A slice's relative NE loss, (challenger − champion) / champion, with its standard error."""

    slice: str
    loss: float | None
    error: float | None
    clicks: int


@dataclass(frozen=True)
class Candidate:
    """All that the rules ask of a model. Times are naive UTC."""

    model_id: str
    judged: str
    """Names the rows that it was judged on, and the draws of the bootstrap."""
    trained_until: datetime | None
    """The end of the time that it, or the choice of its settings, learned from."""
    calibrated_on: str
    """The stretch of time that its calibration was fitted on."""
    keep_rate_known: bool
    artifact_fault: str | None
    """Why the artifact does not load; None where it does."""
    ne: Bounds
    calibration: Bounds


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    *,
    difference: Bounds | None,
    slices: Sequence[Worse],
    test_from: datetime,
    conf: Gate,
    min_clicks: int,
) -> tuple[Rule, ...]:
    """Every rule's verdict; the challenger is promoted where all passed.

    difference: of NE, challenger − champion, paired; slices: of the same pair. Both are for a champion only.
    """
    rules = list(_sound(challenger, test_from))
    if champion is None:
        rules.append(_better_than_the_rate(challenger))
    else:
        rules += _comparable(challenger, champion, test_from)
        rules.append(_gain(challenger, champion, difference or Bounds(None, None, None, "none"), conf))
        rules.append(_slices(slices, conf, min_clicks))
    rules.append(_calibrated(challenger, conf))
    return tuple(rules)


def _sound(one: Candidate, test_from: datetime) -> Iterator[Rule]:
    fault = one.artifact_fault
    yield _rule("artifact", fault is None, f"artifact of {one.model_id}: {fault or 'loads, as its digest says'}")
    known = "known" if one.keep_rate_known else "missing"
    yield _rule("keep_rate", one.keep_rate_known, f"keep rate of {one.model_id}: {known}")
    yield _trained_before(one, test_from)


def _trained_before(one: Candidate, test_from: datetime) -> Rule:
    until, form = one.trained_until, "%Y-%m-%d %H:%M"
    if until is None:
        return _rule("trained_before", False, f"{one.model_id} does not say until when its data went")
    said = f"{one.model_id} was trained on data until {until:{form}}, test time begins {test_from:{form}}"
    return _rule(
        "trained_before", until <= test_from, said, until=until.isoformat(), test_from=test_from.isoformat()
    )


def _comparable(challenger: Candidate, champion: Candidate, test_from: datetime) -> Iterator[Rule]:
    one, same = challenger.model_id, challenger.judged == champion.judged
    yield _rule(
        "same_rows",
        same,
        f"both are judged on the same rows ({challenger.judged})"
        if same
        else f"judged on other rows: {one} on {challenger.judged}, the champion on {champion.judged}",
    )
    alike = challenger.calibrated_on == champion.calibrated_on
    yield _rule(
        "same_calibration",
        alike,
        f"both are calibrated on {challenger.calibrated_on}"
        if alike
        else f"calibrated on other time: {challenger.calibrated_on}, the champion on {champion.calibrated_on}",
    )
    yield _trained_before(champion, test_from)


def _better_than_the_rate(one: Candidate) -> Rule:
    ne = one.ne
    if ne.high is None:
        return _rule("first", False, f"NE of {one.model_id} has no interval: {ne.reason}", ne=ne.value)
    said = f"first model: NE {ne.value:.4f} [{ne.low:.4f}, {ne.high:.4f}], required below 1"
    return _rule("first", ne.high < 1, said, ne=ne.value, low=ne.low, high=ne.high)


def _gain(challenger: Candidate, champion: Candidate, difference: Bounds, conf: Gate) -> Rule:
    if difference.high is None or difference.value is None:
        return _rule("gain", False, f"the difference in NE has no interval: {difference.reason}")
    said = (
        f"NE {challenger.ne.value:.4f} against the champion's {champion.ne.value:.4f}: difference "
        f"{_signed(difference.value)} [{_signed(difference.low or 0.0)}, {_signed(difference.high)}], "
        f"required below {_signed(-conf.min_gain)}"
    )
    figures = {"difference": difference.value, "low": difference.low, "high": difference.high}
    return _rule("gain", difference.high < -conf.min_gain, said, **figures, min_gain=conf.min_gain)


def _calibrated(one: Candidate, conf: Gate) -> Rule:
    least, most = conf.calibration_band
    ratio = one.calibration
    if ratio.low is None or ratio.high is None:
        return _rule("calibration", False, f"the calibration ratio has no interval: {ratio.reason}")
    found = f"calibration ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    said = f"{found}, required within [{least:g}, {most:g}]"
    inside = least <= ratio.low and ratio.high <= most
    return _rule("calibration", inside, said, ratio=ratio.value, low=ratio.low, high=ratio.high)


def _slices(found: Sequence[Worse], conf: Gate, min_clicks: int) -> Rule:
    judged = [one for one in found if one.clicks >= min_clicks and one.loss is not None and one.error]
    proven = proven_worse(judged, conf.slice_tolerance)
    if not judged:
        return _rule("slices", True, f"no slice has {min_clicks} clicks and an interval: nothing to compare")
    if not proven:
        worst = max(judged, key=lambda one: one.loss or 0.0)
        said = (
            f"none of {len(judged)} slices is proven worse by more than {conf.slice_tolerance:.1%}; "
            f"the largest loss is {worst.loss:+.2%} in {worst.slice}"
        )
        return _rule("slices", True, said, slices=len(judged), worst=worst.slice, loss=worst.loss)
    told = ", ".join(f"{one.slice} {one.loss:+.2%} (at least {bound:+.2%})" for one, bound in proven)
    said = (
        f"{len(proven)} of {len(judged)} slices are proven worse by more than {conf.slice_tolerance:.1%}: {told}"
    )
    return _rule("slices", False, said, slices=len(judged), worse=[one.slice for one, _ in proven])


def proven_worse(slices: Sequence[Worse], tolerance: float) -> list[tuple[Worse, float]]:
    """Slices whose relative loss is proven above `tolerance`, worst first, each with its adjusted lower bound."""

    def chance(one: Worse) -> float:
        return _NORMAL.cdf((tolerance - (one.loss or 0.0)) / (one.error or 1.0))

    ordered = sorted(slices, key=chance)
    found = sum(value <= FALSE_DISCOVERIES for value in adjusted([chance(one) for one in ordered]))
    if not found:
        return []
    reach = _NORMAL.inv_cdf(1 - FALSE_DISCOVERIES * found / len(ordered))
    bounds = [(one, (one.loss or 0.0) - reach * (one.error or 0.0)) for one in ordered[:found]]
    return sorted(bounds, key=lambda pair: -pair[1])


def refused(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that failed."""
    return [rule for rule in rules if not rule.passed]


def _rule(name: str, passed: bool, said: str, **figures: Any) -> Rule:
    return Rule(name, passed, f"{said}: {'passed' if passed else 'FAILED'}", figures)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def to_rows(rules: Sequence[Rule]) -> list[Mapping[str, Any]]:
    """Rules as `decisions` and `--json` hold them."""
    return [rule._asdict() for rule in rules]
