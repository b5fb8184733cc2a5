"""The gate's rules: what each says and when it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from clickmill.config import Gate
from clickmill.gate import Bounds, Candidate, Rule, Worse, decide, proven_worse, refused

TEST_FROM = datetime(2026, 1, 10)
CHALLENGER = Candidate(
    model_id="lr-2026-01-10-aaaa",
    judged="1000-ff",
    trained_until=datetime(2026, 1, 9),
    calibrated_on="2026-01-09",
    keep_rate_known=True,
    artifact_fault=None,
    ne=Bounds(0.7923, 0.78, 0.80),
    calibration=Bounds(1.01, 0.97, 1.04),
)
CHAMPION = replace(
    CHALLENGER, model_id="lr-2026-01-09-bbbb", trained_until=datetime(2026, 1, 8), ne=Bounds(0.7951, 0.78, 0.81)
)
GAIN = Bounds(-0.0028, -0.0036, -0.0021)


def rules(
    challenger: Candidate = CHALLENGER,
    champion: Candidate | None = CHAMPION,
    *,
    difference: Bounds | None = GAIN,
    slices: tuple[Worse, ...] = (),
) -> dict[str, Rule]:
    found = decide(
        challenger,
        champion,
        difference=difference,
        slices=slices,
        test_from=TEST_FROM,
        conf=Gate(),
        min_clicks=200,
    )
    return {
        f"{rule.name}{n}" if rule.name == "trained_before" else rule.name: rule for n, rule in enumerate(found)
    }


def failed(found: dict[str, Rule]) -> list[str]:
    return [rule.name for rule in refused(list(found.values()))]


def test_a_better_challenger_passes_and_each_rule_is_a_sentence_with_its_figures() -> None:
    found = rules(slices=(Worse("user=a", 0.002, 0.004, 500), Worse("user=b", -0.01, 0.004, 500)))
    assert failed(found) == []
    assert found["gain"].sentence == (
        "NE 0.7923 against the champion's 0.7951: difference −0.0028 [−0.0036, −0.0021], "
        "required below −0.0005: passed"
    )
    assert found["calibration"].sentence == (
        "calibration ratio 1.010 [0.970, 1.040], required within [0.95, 1.05]: passed"
    )
    assert found["slices"].sentence == (
        "none of 2 slices is proven worse by more than 1.0%; the largest loss is +0.20% in user=a: passed"
    )


@pytest.mark.parametrize(
    ("challenger", "other", "rule", "says"),
    [
        ({"judged": "999-aa"}, {}, "same_rows", "judged on other rows: .* on 999-aa, the champion on 1000-ff"),
        ({"calibrated_on": "2026-01-08"}, {}, "same_calibration", "calibrated on other time: 2026-01-08"),
        (
            {"trained_until": datetime(2026, 1, 10, 5)},
            {},
            "trained_before",
            "until 2026-01-10 05:00, test time begins",
        ),
        ({"keep_rate_known": False}, {}, "keep_rate", "missing"),
        ({"artifact_fault": "model.npz is damaged"}, {}, "artifact", "model.npz is damaged: FAILED"),
        ({"calibration": Bounds(1.1, 1.08, 1.12)}, {}, "calibration", r"1.100 \[1.080, 1.120\].*FAILED"),
        ({"calibration": Bounds(1.0, None, None, "3 units")}, {}, "calibration", "no interval: 3 units"),
        ({}, {"difference": Bounds(-0.0028, -0.006, 0.0004)}, "gain", "FAILED"),
        ({}, {"difference": Bounds(-0.0004, -0.0004, -0.0004)}, "gain", "required below −0.0005: FAILED"),
        ({}, {"difference": Bounds(-0.5, None, None, "12 units")}, "gain", "no interval: 12 units"),
        ({}, {"slices": (Worse("user=a", 0.03, 0.002, 2000),)}, "slices", r"user=a \+3.00% \(at least \+2\.67%\)"),
    ],
)
def test_one_rule_that_fails_refuses(challenger: dict, other: dict, rule: str, says: str) -> None:
    import re

    found = rules(replace(CHALLENGER, **challenger), **other)
    assert failed(found) == [rule]
    (sentence,) = [r.sentence for r in found.values() if not r.passed]
    assert re.search(says, sentence)


def test_the_first_model_must_beat_its_own_rate() -> None:
    assert failed(rules(champion=None)) == []
    assert failed(rules(replace(CHALLENGER, ne=Bounds(0.99, 0.97, 1.01)), champion=None)) == ["first"]
    assert (
        "first model: NE 0.7923 [0.7800, 0.8000], required below 1: passed"
        in rules(champion=None)["first"].sentence
    )


def test_a_small_or_unsure_slice_refuses_nobody() -> None:
    few = Worse("user=a", 0.5, 0.01, 199)
    unsure = Worse("user=b", 0.03, 0.02, 900)
    without = Worse("user=c", None, None, 900)
    assert failed(rules(slices=(few, unsure, without))) == []
    assert "nothing to compare" in rules(slices=(few,))["slices"].sentence


def test_of_many_equal_slices_few_are_called_worse() -> None:
    rng = np.random.default_rng(0)
    days = [
        bool(proven_worse([Worse(f"s{k}", 0.01 + 0.01 * rng.normal(), 0.01, 500) for k in range(20)], 0.01))
        for _ in range(2000)
    ]
    assert np.mean(days) < 0.06
    found = proven_worse(
        [Worse("bad", 0.08, 0.01, 500), *(Worse(f"s{k}", 0.0, 0.01, 500) for k in range(19))], 0.01
    )
    assert [one.slice for one, _ in found] == ["bad"]
    assert 0.01 < found[0][1] < 0.08
