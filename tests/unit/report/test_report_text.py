from __future__ import annotations

import math

import pytest

from clickmill.report import text
from clickmill.report.data import Figure


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00 %"),
        (0.031, "3.10 %"),
        (1.0, "100.00 %"),
        (0.00034, "0.034 %"),
        (0.0000071, "0.00071 %"),
        (1e-12, "< 0.00001 %"),
        (None, "–"),
    ],
)
def test_a_share_keeps_two_significant_digits(value, shown):
    assert text.share(value) == shown


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_a_number_is_a_dash(value):
    assert text.metric("ne", Figure(value)) == "–"


def test_figures_have_the_digits_that_matter():
    assert text.metric("ne", Figure(0.80341)) == "0.8034"
    assert text.metric("log_loss", Figure(0.108541)) == "0.10854"
    assert text.count(1234567) == "1,234,567"
    assert (text.seconds(8.31), text.seconds(1234.5)) == ("8.3", "1,234")


def test_control_and_format_characters_and_halves_of_surrogates_are_shown_not_sent():
    assert text.plain("a\tb\x1b[0m\u202ec\udc80\n") == "a b\ufffd[0m\ufffdc\ufffd\ufffd"


def test_long_values_are_cut():
    assert text.plain("x" * 300, 10) == "x" * 9 + "…"
    assert text.plain("x" * 10, 10) == "x" * 10
