"""Trained trees in words: what a person who watches the job is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def words(row: Mapping[str, Any]) -> str:
    """What was trained on, and how well it went."""
    figures = json.loads(row["training"])
    judged = figures["validation_ne"]
    return (
        f"{row['name']}: {figures['rows']} rows, {figures['clicks']} clicks, {figures['columns']} columns; "
        f"{figures['rounds']} trees, {figures['leaves']} leaves, of {figures['grown']} grown; "
        f"train NE {figures['train_ne']:.4f}, validation NE {'unknown' if judged is None else f'{judged:.4f}'}; "
        f"{row['seconds']:.1f} s"
    )


def warn_of(row: Mapping[str, Any]) -> list[str]:
    """What a careful person would not like to have overlooked."""
    figures = json.loads(row["training"])
    warnings = []
    if json.loads(row["spec"])["early_stopping_rounds"] is not None and figures["stopped"] == "rounds":
        warnings.append(
            f"warning: {row['name']}: validation log-loss was still falling after {figures['grown']} rounds; "
            "raise rounds or eta"
        )
    if not figures["validation_rows"]:
        warnings.append(f"warning: {row['name']}: validation time has no rows, so its NE there is unknown")
    return warnings
