"""A trained model in words: what a person who watches the job is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words(figures: Mapping[str, Any]) -> str:
    """What was trained on, and how well it went."""
    judged = figures["validation_ne"]
    return (
        f"{figures['rows']} rows, {figures['clicks']} clicks, {figures['non_zeros']} weights, "
        f"l2 {figures['l2']:g}; {figures['stopped']} after {figures['iterations']} iterations; "
        f"train NE {figures['train_ne']:.4f}, validation NE {'unknown' if judged is None else f'{judged:.4f}'}"
    )


def warn_of(figures: Mapping[str, Any]) -> list[str]:
    """What a careful person would not like to have overlooked."""
    warnings = []
    if not figures["converged"]:
        left = figures["gradient_norm"] / figures["base_gradient_norm"]
        warnings.append(
            f"did not converge ({figures['stopped']}), {figures['iterations']} iterations, "
            f"a gradient of {left:.1e} of the base rate's; "
            "raise max_iterations or l2"
        )
    rivals = [
        f"{tried['l2']:g}"
        for tried in figures["per_l2"]
        if not tried["converged"] and tried["l2"] != figures["l2"]
    ]
    if rivals:
        warnings.append(
            f"l2 {figures['l2']:g} was chosen against {', '.join(rivals)}, which did not "
            "converge; raise max_iterations"
        )
    if not figures["validation_rows"]:
        warnings.append("validation time has no rows, so its NE there is unknown")
    return warnings
