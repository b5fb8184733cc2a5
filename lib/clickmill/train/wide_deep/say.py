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
    warnings, ne = [], figures["validation_ne"]
    if ne is not None and not ne <= 1:
        warnings.append(
            f"validation NE {ne:.5g} is above 1, worse than always saying the base rate; lower learning_rate, or "
            "set clip_norm or warmup_steps"
        )
    elif figures["stops_early"] and figures["best_step"] == figures["steps"] and len(figures["history"]) > 1:
        more = "learning_rate" if _is_warm(figures) else "epochs or learning_rate"
        warnings.append(f"validation log-loss was still falling at the last step; raise {more}")
    if not figures["validation_rows"]:
        warnings.append("validation time has no rows, so its NE there is unknown")
    silent = sorted(group for group, norm in figures["gradient_norms"].items() if not norm)
    if silent:
        warnings.append(f"no gradient reached {', '.join(silent)} in the last step")
    return warnings


def _is_warm(figures: Mapping[str, Any]) -> bool:
    """Whether it went on from another network: then it is one epoch, whatever is set."""
    return figures.get("warm_start", {}).get("model_id") is not None


def learned(figures: Mapping[str, Any]) -> str:
    """What `--overfit-check` found."""
    return (
        f"log-loss of {figures['rows']} rows, {figures['clicks']} of them clicks, from {figures['first']:.4f} to "
        f"{figures['last']:.6f} in {figures['steps']} steps"
    )
