"""A trained network in words: what a person who watches the job is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words(figures: Mapping[str, Any]) -> str:
    """What was trained on, by whom, and how well it went."""
    judged, ranks = figures["validation_ne"], figures["ranks"]
    return (
        f"{figures['rows']} rows, {figures['clicks']} clicks; "
        f"{ranks} {'process' if ranks == 1 else 'processes'} ({figures['launcher']}), {figures['steps']} steps, "
        f"the weights of step {figures['best_step']} kept; "
        f"validation NE {'unknown' if judged is None else f'{judged:.4f}'}"
    )


def warn_of(figures: Mapping[str, Any]) -> list[str]:
    """What a careful person would not like to have overlooked."""
    warnings = []
    if figures["stops_early"] and figures["best_step"] == figures["steps"]:
        warnings.append("validation log-loss was still falling at the last step; raise epochs or learning_rate")
    if not figures["validation_rows"]:
        warnings.append("validation time has no rows, so its NE there is unknown")
    silent = sorted(group for group, norm in figures["gradient_norms"].items() if not norm)
    if silent:
        warnings.append(f"no gradient reached {', '.join(silent)} in the last step")
    return warnings


def learned(figures: Mapping[str, Any]) -> str:
    """What `--overfit-check` found."""
    return (
        f"log-loss of a few rows from {figures['first']:.4f} to {figures['last']:.6f} in {figures['steps']} steps"
    )
