"""What a person is told of a trained network."""

from __future__ import annotations

import re
from typing import Any

import pytest

from clickmill.train.wide_deep.say import warn_of

LOOKS = [[10, 0.4, 0.3, 0.95, 0.96], [20, 0.3, 0.2, 0.9, 0.91]]


def figures(**changes: Any) -> dict[str, Any]:
    """Of a training that went well, and whose last look was its best."""
    return {
        "stops_early": True,
        "best_step": 20,
        "steps": 20,
        "history": LOOKS,
        "validation_rows": 100,
        "validation_ne": 0.9,
        "gradient_norms": {"head.weight": 0.1},
    } | changes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ["still falling at the last step; raise epochs or learning_rate"]),
        ({"history": LOOKS[1:]}, []),  # (one look shows no direction)
        ({"best_step": 10}, []),
        ({"stops_early": False}, []),
        ({"warm_start": {"model_id": "deep-1"}}, ["still falling at the last step; raise learning_rate"]),
        ({"warm_start": {"model_id": None}}, ["raise epochs or learning_rate"]),  # (there was none to start from)
        ({"validation_ne": 1.6e16}, [r"validation NE 1\.6e\+16 is above 1, .*; lower learning_rate"]),
        ({"validation_ne": 1.0004, "best_step": 10}, ["validation NE 1.0004 is above 1"]),
        ({"validation_ne": None, "validation_rows": 0, "stops_early": False}, ["validation time has no rows"]),
        (
            {"best_step": 10, "gradient_norms": {"head.weight": 0.0, "wide": 1.0}},
            ["no gradient reached head.weight"],
        ),
    ],
)
def test_what_a_careful_person_would_look_at_is_said(changes: dict[str, Any], told: list[str]) -> None:
    warnings = warn_of(figures(**changes))
    assert len(warnings) == len(told)
    for found, wanted in zip(warnings, told, strict=True):
        assert re.search(wanted, found)
