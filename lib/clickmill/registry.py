"""What the tables know of the trained models, for people: a list, one model, two of them, the champion.

A warehouse on this machine's disk is asked without Spark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from clickmill.champion import champion, promotions
from clickmill.config import Config
from clickmill.errors import MissingTableError, UsageError, nearest
from clickmill.models import artifact
from clickmill.promote.evidence import Evidence, difference
from clickmill.report.card import card
from clickmill.schema import EVERYTHING, LAST_STAGE
from clickmill.scoring import Contender
from clickmill.staleness import counted_again
from clickmill.tables import Tables

CARD = "card.md"
SHOWN = ("ne", "log_loss", "calibration_ratio", "ece", "auc")
"""Metrics of a model that is shown alone."""
COURSE = {"training.history", "training.per_l2"}
"""How a training went, step by step: two never have it in common."""


def open_tables(cfg: Config) -> Tables:
    """The warehouse, for reading: without a Spark session where it lies on this machine's disk."""
    path = cfg.warehouse_path
    if cfg.warehouse_is_catalog or "://" in path:
        from clickmill.session import get_spark

        return Tables(get_spark(cfg.spark, app="clickmill models"), path, run_id="models")
    return Tables.without_spark(path)


def listed(tables: Tables, ds: date | None) -> list[dict[str, Any]]:
    """The models of a day, or of all days, newest first, with NE and calibration ratio of p on their own day."""
    days = None if ds is None else [ds]
    rows = tables.rows_if_any("models", days=days)
    figures = _figures(tables, rows, days, ("ne", "calibration_ratio"))
    holder, again = champion(tables, ds or date.max), counted_again(tables, rows)
    return [
        {
            "model_id": row["model_id"],
            "name": row["name"],
            "kind": row["kind"],
            "ds": row["ds"],
            "keep_rate": row["keep_rate"],
            "seconds": row["seconds"],
            "champion": holder is not None and holder.digest == row["digest"],
            "counted_again": again.get(row["model_id"], []),
            **{name: figures.get((row["ds"], row["model_id"], name)) for name in ("ne", "calibration_ratio")},
        }
        for row in sorted(rows, key=lambda row: (row["ds"], row["name"]), reverse=True)
    ]


def shown(tables: Tables, model_id: str) -> dict[str, Any]:
    """All that is known of one model; the id may be cut where that leaves no doubt. Raises UsageError."""
    row = _row(tables, model_id)
    card = artifact.load(Path(row["artifact"])).card
    figures = _figures(tables, [row], None, SHOWN)
    newest = max((day for day, _, _ in figures), default=None)
    fitted = [one for one in _fitted(tables, [row]) if newest in (None, one["ds"])]
    return {
        "model_id": row["model_id"],
        "name": row["name"],
        "kind": row["kind"],
        "ds": row["ds"],
        "keep_rate": row["keep_rate"],
        "correction": row["correction"],
        "spec": card.spec,
        "dataset": card.dataset["name"],
        "stretches": card.stretches,
        "tables": card.tables,
        "training": {name: value for name, value in card.training.items() if not isinstance(value, list)},
        "seconds": row["seconds"],
        "created_by": card.created_by,
        "artifact": row["artifact"],
        "digest": row["digest"],
        "counted_again": counted_again(tables, [row]).get(row["model_id"], []),
        "calibration": _calibration(max(fitted, key=lambda one: one["ds"])) if fitted else None,
        "judged": newest,
        "metrics": {name: figure for (day, _, name), figure in figures.items() if day == newest},
        "decisions": [
            {
                "ds": one["ds"],
                "promoted": one["promoted"],
                "challenger": one["challenger"],
                "sentences": [rule["sentence"] for rule in json.loads(one["rules"])],
            }
            for one in tables.rows_if_any("decisions")
            if row["digest"] in (one["challenger_digest"], one["champion_before_digest"])
        ],
    }


def write_cards(tables: Tables, model_ids: Sequence[str], *, min_clicks: int) -> None:
    """`card.md` beside the artifacts of those of these models that `models` knows, as they were judged last."""
    known = {row["model_id"] for row in tables.rows("models", columns=("model_id",))}
    for model_id in [one for one in model_ids if one in known]:
        model = shown(tables, model_id)
        cut = {"model_id": [model_id]}
        days = [model["judged"]] if model["judged"] else []
        bins = tables.rows_if_any("reliability", where={**cut, "stage": [LAST_STAGE]}, days=days)
        slices = tables.rows_if_any("metrics", where={**cut, "stage": [LAST_STAGE], "metric": ["ne"]}, days=days)
        worse = tables.rows_if_any("comparisons", where={**cut, "metric": ["ne"], "verdict": ["worse"]}, days=days)
        text = card(model, bins, slices, worse, min_clicks=min_clicks)
        artifact.put_beside(model["artifact"], CARD, text)


def compared(tables: Tables, first: str, second: str) -> dict[str, Any]:
    """What differs between two models, and their paired difference in NE on the newest day that judged both."""
    rows = [_row(tables, first), _row(tables, second)]
    cards = [artifact.load(Path(row["artifact"])).card.model_dump(mode="json") for row in rows]
    flat = [dict(_flat(card)) for card in cards]
    keys = sorted((set(flat[0]) | set(flat[1])) - COURSE)
    return {
        "models": [row["model_id"] for row in rows],
        "differences": {
            key: [flat[0].get(key), flat[1].get(key)] for key in keys if flat[0].get(key) != flat[1].get(key)
        },
        "ne": _paired(tables, rows),
    }


def reigning(tables: Tables, ds: date) -> dict[str, Any] | None:
    """The champion as of a day, since when, in whose place, and the gate's sentences; None before the first."""
    made = [one for one in promotions(tables) if one.ds <= ds]
    if not made:
        return None
    last = made[-1]
    (row,) = [one for one in tables.rows("decisions") if one["promotion"] == last.number]
    return {
        "model_id": last.champion.model_id,
        "digest": last.champion.digest,
        "artifact": last.champion.artifact,
        "since": last.ds,
        "in_place_of": row["champion_before"],
        "run_id": row["run_id"],
        "sentences": [rule["sentence"] for rule in json.loads(row["rules"])],
    }


def _paired(tables: Tables, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    reason = "no day on which both were judged, as they are now, with intervals"
    judged = _judged(tables, rows)
    days = {day for day, _ in judged if all((day, row["model_id"]) in judged for row in rows)}
    for day in sorted(days, reverse=True):
        one, other = (_evidence(tables, day, row) for row in rows)
        if one is None or other is None:
            continue
        if one.on == other.on:
            bounds = difference(one, other)
            ends = {"low": bounds.low, "high": bounds.high, "reason": bounds.reason}
            return {"ds": day, "difference": bounds.value, **ends}
        reason = f"on {day} they were judged on other rows or by other draws: {one.on} and {other.on}"
    return {"reason": reason}


def _evidence(tables: Tables, day: date, row: Mapping[str, Any]) -> Evidence | None:
    own = {"model_id": [row["model_id"]]}
    (fitted,) = [one for one in _fitted(tables, [row]) if one["ds"] == day]
    metrics = tables.rows_if_any("metrics", where={**own, "stage": [LAST_STAGE]}, days=[day])
    drawn = tables.rows_if_any("replicates", where=own, days=[day])
    return Evidence.of(Contender.of(row), metrics, drawn, fitted) if metrics and drawn else None


def _fitted(tables: Tables, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `calibrations` of these very artifacts: a model that is trained again keeps its id."""
    digests = {row["model_id"]: row["digest"] for row in rows}
    found = tables.rows_if_any("calibrations", where={"model_id": list(digests)})
    return [one for one in found if one["artifact"] == digests[one["model_id"]]]


def _judged(tables: Tables, rows: Sequence[Mapping[str, Any]]) -> set[tuple[date, str]]:
    """The days on which these models may have been judged as they are now: those whose calibration is of their
    artifact and is the one that `replicates`, where there are any, were made with."""
    own = {"model_id": [row["model_id"] for row in rows]}
    drawn = tables.rows_if_any("replicates", where=own, columns=("ds", "model_id", "calibration_id"))
    made_with = {(one["ds"], one["model_id"]): one["calibration_id"] for one in drawn}
    fitted = {(one["ds"], one["model_id"]): one["calibration_id"] for one in _fitted(tables, rows)}
    return {key for key, name in fitted.items() if made_with.get(key, name) == name}


def _row(tables: Tables, model_id: str) -> dict[str, Any]:
    """The row of `models` whose id is this or begins so."""
    if not tables.exists("models"):
        raise MissingTableError(f"{tables.path('models')}: no model was trained yet")
    rows = tables.rows("models")
    exact = [row for row in rows if row["model_id"] == model_id]
    found = exact or [row for row in rows if row["model_id"].startswith(model_id)]
    if len(found) == 1:
        return found[0]
    ids = sorted(row["model_id"] for row in found or rows)
    near = f"is no model{nearest(model_id, ids)}; there are {', '.join(ids[-5:])}"
    told = f"begins {len(found)} ids: {', '.join(ids)}" if found else near
    raise UsageError(f"{model_id!r} {told}")


def _figures(
    tables: Tables, rows: Sequence[Mapping[str, Any]], days: Sequence[date] | None, metrics: Sequence[str]
) -> dict[tuple[date, str, str], dict[str, Any]]:
    """value, low, high and traffic of p over all rows, by day, model, metric, of these models as they are now."""
    ids = [row["model_id"] for row in rows]
    cut = {"model_id": ids, "slice": [EVERYTHING], "stage": [LAST_STAGE], "metric": metrics}
    judged = _judged(tables, rows)
    told = ("value", "low", "high", "traffic")
    return {
        (row["ds"], row["model_id"], row["metric"]): {name: row[name] for name in told}
        for row in tables.rows_if_any("metrics", where=cut, days=days)
        if (row["ds"], row["model_id"]) in judged
    }


def _calibration(row: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: json.loads(row[name] or "null") for name in ("parameters", "stretch", "candidates")}
    return {"calibration_id": row["calibration_id"], "method": row["method"], **own, "clicks": row["clicks"]}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Members by dotted name; lists as they are."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
