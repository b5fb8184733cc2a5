"""The assets that tasks announce, and the metadata of their events: the day, the run, the tables' versions."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetAlias

from click_tasks.outcome import Verdict

FEATURES = Asset("clickmill_features")
MODELS = Asset("clickmill_models")
CHAMPION = Asset("clickmill_champion")
DRIFT = Asset("clickmill_drift")
NEW_CHAMPION = AssetAlias("clickmill_promote")
"""Becomes an event of CHAMPION where a model was promoted."""
RETRAIN = AssetAlias("clickmill_monitor")
"""Becomes an event of DRIFT where the day's verdict is `retrain`."""


def announce(outlets: list[Any], events: Any, verdict: Verdict) -> None:
    """Gives the event of each outlet its metadata, and makes the event of an alias where there is reason to.

    events: the task context's `outlet_events`.
    """
    extra = metadata(verdict)
    for outlet in outlets:
        if outlet == NEW_CHAMPION:
            if (verdict.get("decision") or {}).get("promoted"):
                events[outlet].add(CHAMPION, extra=extra)
        elif outlet == RETRAIN:
            if (verdict.get("drift") or {}).get("verdict") == "retrain":
                events[outlet].add(DRIFT, extra=extra)
        else:
            events[outlet].extra = extra


def metadata(verdict: Verdict) -> dict[str, Any]:
    """Of a verdict, what others may want to read it again by; small, since it is stored with every event."""
    extra = {name: verdict.get(name) for name in ("ds", "run_id", "tables")}
    if "models" in verdict:
        extra["models"] = [model["model_id"] for model in verdict["models"]]
    if verdict.get("decision"):
        extra["champion"] = verdict["decision"]["champion"]
        extra["sentences"] = verdict["decision"]["sentences"]
    if verdict.get("drift"):
        extra |= {"verdict": verdict["drift"]["verdict"], "sentences": verdict["drift"]["sentences"]}
    return extra


def drifted_day(triggering: Any) -> str:
    """The latest day that the events which started a run name. triggering: `triggering_asset_events`."""
    return max(event.extra["ds"] for events in triggering.values() for event in events)
