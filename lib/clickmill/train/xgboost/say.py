"""Trained trees in words: what a person who watches the job is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words(figures: Mapping[str, Any]) -> str:
    """What was trained on, and how well it went."""
    judged = figures["validation_ne"]
    return (
        f"{figures['rows']} rows, {figures['clicks']} clicks, {figures['columns']} columns; "
        f"{figures['rounds']} trees, {figures['leaves']} leaves, of {figures['grown']} grown; "
        f"train NE {figures['train_ne']:.4f}, validation NE {'unknown' if judged is None else f'{judged:.4f}'}"
    )


def warn_of(figures: Mapping[str, Any]) -> list[str]:
    """What a careful person would not like to have overlooked."""
    warnings = []
    if figures["stops_early"] and figures["rounds"] == figures["grown"]:
        warnings.append(
            f"validation log-loss was still falling after {figures['grown']} rounds; raise rounds or eta"
        )
    if not figures["validation_rows"]:
        warnings.append("validation time has no rows, so its NE there is unknown")
    return warnings
