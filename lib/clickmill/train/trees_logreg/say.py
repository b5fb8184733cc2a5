"""A trained pair of trees and linear part in words: what a person who watches the job is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickmill.train.logreg import say as linear
from clickmill.train.xgboost import say as trees


def words(figures: Mapping[str, Any]) -> str:
    """What each part was trained on, and how well it went."""
    return f"trees: {trees.words(figures['trees'])}; on their leaves: {linear.words(figures['linear'])}"


def warn_of(figures: Mapping[str, Any]) -> list[str]:
    """What a careful person would not like to have overlooked."""
    own = [f"linear part: {text}" for text in linear.warn_of(figures["linear"])]
    return [f"trees: {text}" for text in trees.warn_of(figures["trees"])] + own
