"""What the gate promises: how often it promotes an equal, a better and a partly worse model, over many days."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import judged_day
import judged_rows
import numpy as np
import pytest
from judged_rows import Floats

from clickmill.calibration import expit
from clickmill.config import Config
from clickmill.gate import Rule, refused
from clickmill.metrics import roc_auc
from clickmill.promote.evidence import Evidence, rules
from clickmill.scoring import Contender

NAMES = ("slice=small", "slice=rest")
MUCH_WORSE, EQUAL = 0.94, 0.55
"""Noise of a challenger in the small slice: its NE there is 3% above, or is, that of a champion of noise 0.55."""
CALIBRATION = {"stretch": '["2026-01-09T00:00:00", "2026-01-10T00:00:00"]'}


class World(NamedTuple):
    """A day: the logit of each impression's chance of a click, its label, and its place in NAMES."""

    logit: Floats
    label: np.ndarray
    slices: np.ndarray


def world(rng: np.random.Generator, rows: int, *, small: float = 0.3) -> World:
    """A click-through rate of 3%; a truth whose NE is about 0.8."""
    logit = -4.0 + rng.normal(0, 1.1, rows)
    label = (rng.random(rows) < expit(logit)).astype(np.int8)
    return World(logit, label, (rng.random(rows) >= small).astype(np.int32))


def off(rng: np.random.Generator, logit: Floats, noise: float | Floats) -> Floats:
    """p of a model whose logit is off by noise that it cannot know of, and that is calibrated nevertheless.

    What it sees is a logit of spread 1.1 and noise on top: a calibrated model shrinks that towards the mean.
    """
    variance = 1.1**2
    seen = logit + noise * rng.normal(0, 1, len(logit))
    share = variance / (variance + np.square(noise))
    spread = np.sqrt(variance * (1 - share))
    return _mean_of_expit(-4.0 + share * (seen + 4.0), spread)


def _mean_of_expit(mean: Floats, spread: float | Floats) -> Floats:
    """The mean of expit over normal logits, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    parts = (w * expit(mean + spread * x) for x, w in zip(nodes, weights, strict=True))
    return np.asarray(sum(parts) / weights.sum())


class Gate:
    """The gate on rows in memory: the very code that `promote` runs on tables."""

    def __init__(self, root: Path, **conf: float) -> None:
        row = judged_day.save_model(str(root), "any")
        stretches = '{"train": ["2026-01-01T00:00:00", "2026-01-08T00:00:00"]}'
        self.model = Contender.of(row | {"stretches": stretches})
        base = {"dataset": judged_day.DATASET.model_dump(), "warehouse": str(root), "gate": conf}
        self.conf = Config.model_validate(base)

    def __call__(self, day: World, champion: Floats, challenger: Floats, *, seed: int = 42) -> dict[str, Rule]:
        models = {"challenger": challenger, "champion": champion}
        judged = judged_rows.judge(day.label, models, day.slices, NAMES, seed=seed)
        one, other = (Evidence.of(self.model, *judged[name], CALIBRATION) for name in models)
        return {rule.name: rule for rule in rules(one, other, self.conf, test_from=datetime(2026, 1, 10))}


def promoted(found: dict[str, Rule]) -> bool:
    return not refused(list(found.values()))


def equal_ones(gate: Gate, repeats: int, rows: int, noise: float = 0.3) -> float:
    """How often an exchangeable challenger's gain is proven at `gate`'s min_gain: the other rules left aside."""
    rng, won = np.random.default_rng(5), 0
    for _ in range(repeats):
        day = world(rng, rows)
        pair = (off(rng, day.logit, noise), off(rng, day.logit, noise))
        won += gate(day, *pair, seed=int(rng.integers(2**31)))["gain"].passed
    return won / repeats


def power(gate: Gate, repeats: int) -> float:
    """How often a model whose NE is 1% lower is promoted: 200k rows, 6k clicks, all rules."""
    rng, won = np.random.default_rng(6), Counter[bool]()
    gains = []
    for _ in range(repeats):
        day = world(rng, 200_000)
        found = gate(day, off(rng, day.logit, 0.65), off(rng, day.logit, 0.525), seed=int(rng.integers(2**31)))
        won[promoted(found)] += 1
        gains.append(found["gain"].figures["difference"])
    print(f"mean difference in NE {np.mean(gains):+.4f}")
    return won[True] / repeats


def by_slice(gate: Gate, repeats: int, *, worse: float) -> float:
    """How often the slice rule refuses a model that is better overall: 2,000 clicks in the small slice."""
    rng, hit = np.random.default_rng(8), 0
    for _ in range(repeats):
        day = world(rng, 200_000)
        inside = day.slices == 0
        mine = off(rng, day.logit, np.where(inside, worse, 0.2))
        found = gate(day, off(rng, day.logit, 0.55), mine, seed=int(rng.integers(2**31)))
        hit += not found["slices"].passed
    return hit / repeats


def test_an_equal_challenger_seldom_wins(tmp_path: Path) -> None:
    """The fast form: 60 days of 20,000 rows."""
    assert equal_ones(Gate(tmp_path, min_gain=0), 60, 20_000) <= 0.1


def test_a_real_gain_of_one_per_cent_is_promoted(tmp_path: Path) -> None:
    """The fast form: 6 days."""
    assert power(Gate(tmp_path), 6) >= 0.6


def test_a_slice_that_is_much_worse_refuses_and_an_equal_one_does_not(tmp_path: Path) -> None:
    """The fast form: 4 days each."""
    gate = Gate(tmp_path)
    assert by_slice(gate, 4, worse=MUCH_WORSE) >= 0.75
    assert by_slice(gate, 4, worse=EQUAL) <= 0.25


def test_p_a_tenth_too_high_is_refused_by_its_calibration_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    day = world(rng, 200_000)
    good = off(rng, day.logit, 0.3)
    found = Gate(tmp_path)(day, off(rng, day.logit, 0.65), 1.1 * good)
    assert [rule.name for rule in refused(list(found.values()))] == ["calibration"]
    assert roc_auc(day.label, 1.1 * good) == pytest.approx(roc_auc(day.label, good), abs=1e-12)
    assert promoted(Gate(tmp_path)(day, off(rng, day.logit, 0.65), good))


def test_a_model_against_itself_differs_by_nothing_and_cannot_win(tmp_path: Path) -> None:
    """So does one that is calibrated again on the same stretch: its p is the same."""
    rng = np.random.default_rng(10)
    day = world(rng, 5_000)
    p = off(rng, day.logit, 0.3)
    gain = Gate(tmp_path, min_gain=0)(day, p, p)["gain"]
    assert not gain.passed
    assert [gain.figures[name] for name in ("difference", "low", "high")] == [0, 0, 0]


@pytest.mark.slow
def test_of_400_equal_challengers_at_most_one_in_twenty_wins(tmp_path: Path) -> None:
    share = equal_ones(Gate(tmp_path, min_gain=0), 400, 20_000)
    print(f"equal challengers promoted at min_gain 0: {share:.2%} of 400")
    assert share <= 0.05


@pytest.mark.slow
def test_power_and_slices_over_a_hundred_days(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    found = {
        "a gain of 1% is promoted": power(gate, 100),
        "3% worse in a slice is refused": by_slice(gate, 100, worse=MUCH_WORSE),
        "equal in that slice is refused": by_slice(gate, 100, worse=EQUAL),
    }
    print(found)
    gained, worse, equal = found.values()
    assert gained > 0.8
    assert worse > 0.8
    assert equal <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "days"), [(20_000, 2000), (200_000, 200)])
def test_how_often_an_equal_challenger_wins_within_thirty_days(tmp_path: Path, rows: int, days: int) -> None:
    """The table of docs/gate.md: a fresh, equal challenger each day."""
    gate, rng = Gate(tmp_path, min_gain=0), np.random.default_rng(11)
    for noise in (0.1, 0.3):
        highs, errors = [], []
        for _ in range(days):
            day = world(rng, rows)
            pair = (off(rng, day.logit, noise), off(rng, day.logit, noise))
            figures = gate(day, *pair, seed=int(rng.integers(2**31)))["gain"].figures
            highs.append(figures["high"])
            errors.append((figures["high"] - figures["low"]) / 3.92)
        error = float(np.mean(errors))
        gains = (0.0, 0.5 * error, 1.0 * error, 1.5 * error, 0.0005)
        daily = [float(np.mean(np.array(highs) < -gain)) for gain in gains]
        thirty = [1 - (1 - share) ** 30 for share in daily]
        for gain, share, within in zip(gains, daily, thirty, strict=True):
            print(
                f"{rows} rows, noise {noise}: standard error {error:.5f}, min_gain {gain:.5f} "
                f"({gain / error:.1f} of it): {share:.2%} a day, {within:.1%} in thirty"
            )
        assert thirty[3] < 0.05, "1.5 standard errors are what docs/gate.md tells to ask for"
        assert thirty[0] > 0.05, "else nothing would have to be asked for"
