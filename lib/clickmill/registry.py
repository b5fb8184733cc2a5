"""What the tables know of the trained models, for people: a list, one model, two of them, the champion.

A warehouse on this machine's disk is asked without Spark.
"""

from __future__ import annotations

import json
import secrets
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
    rows = tables.rows("models", days=days) if tables.exists("models") else []
    judged = _figures(tables, days, ("ne", "calibration_ratio"))
    holder = champion(tables, ds or max((row["ds"] for row in rows), default=date.max))
    return [
        {
            "model_id": row["model_id"],
            "name": row["name"],
            "kind": row["kind"],
            "ds": row["ds"],
            "keep_rate": row["keep_rate"],
            "seconds": row["seconds"],
            "champion": holder is not None and holder.digest == row["digest"],
            **{name: judged.get((row["ds"], row["model_id"], name)) for name in ("ne", "calibration_ratio")},
        }
        for row in sorted(rows, key=lambda row: (row["ds"], row["name"]), reverse=True)
    ]


def shown(tables: Tables, model_id: str) -> dict[str, Any]:
    """All that is known of one model; the id may be cut where that leaves no doubt. Raises UsageError."""
    row = _row(tables, model_id)
    card = artifact.load(Path(row["artifact"])).card
    own = {"model_id": [row["model_id"]]}
    days = sorted({one["ds"] for one in _rows(tables, "metrics", own, ("ds",))})
    newest = days[-1:]
    fitted = _rows(tables, "calibrations", own, days=newest)
    figures = _figures(tables, newest, SHOWN)
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
        "calibration": _calibration(fitted[0]) if fitted else None,
        "judged": newest[0] if newest else None,
        "metrics": {name: figure for (_, own_id, name), figure in figures.items() if own_id == row["model_id"]},
        "decisions": [
            {
                "ds": one["ds"],
                "promoted": one["promoted"],
                "challenger": one["challenger"],
                "sentences": [rule["sentence"] for rule in json.loads(one["rules"])],
            }
            for one in _rows(tables, "decisions", {})
            if row["model_id"] in (one["challenger"], one["champion_before"])
        ],
    }


def write_cards(tables: Tables, ds: date, model_ids: Sequence[str], *, min_clicks: int) -> None:
    """`card.md` beside the artifacts of these models, those of them that `models` knows, as judged on `ds`."""
    known = {row["model_id"] for row in tables.rows("models", columns=("model_id",))}
    for model_id in [one for one in model_ids if one in known]:
        cut = {"model_id": [model_id], "stage": [LAST_STAGE]}
        bins = _rows(tables, "reliability", cut, days=[ds])
        slices = _rows(tables, "metrics", {**cut, "metric": ["ne"]}, days=[ds])
        model = shown(tables, model_id)
        text = card(model, bins, [row for row in slices if row["slice"] != EVERYTHING], min_clicks=min_clicks)
        place = Path(model["artifact"]).parent / CARD
        aside = place.with_name(f".{CARD}-{secrets.token_hex(4)}")
        aside.write_text(text, encoding="utf-8")
        aside.replace(place)


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
    ids = [row["model_id"] for row in rows]
    judged = [{one["ds"] for one in _rows(tables, "replicates", {"model_id": [name]}, ("ds",))} for name in ids]
    for day in sorted(judged[0] & judged[1], reverse=True):
        found = [_evidence(tables, day, row) for row in rows]
        one, other = found
        if one is None or other is None or one.on != other.on:
            continue
        bounds = difference(one, other)
        ends = {"low": bounds.low, "high": bounds.high, "reason": bounds.reason}
        return {"ds": day, "difference": bounds.value, **ends}
    return {"reason": "no day on which both were judged, as they are now, on the same rows by the same draws"}


def _evidence(tables: Tables, day: date, row: Mapping[str, Any]) -> Evidence | None:
    own = {"model_id": [row["model_id"]]}
    fitted = [one for one in _rows(tables, "calibrations", own, days=[day]) if one["artifact"] == row["digest"]]
    metrics = _rows(tables, "metrics", {**own, "stage": [LAST_STAGE]}, days=[day])
    drawn = _rows(tables, "replicates", own, days=[day])
    return Evidence.of(Contender.of(row), metrics, drawn, fitted[0]) if fitted and metrics and drawn else None


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
    tables: Tables, days: Sequence[date] | None, metrics: Sequence[str]
) -> dict[tuple[date, str, str], dict[str, Any]]:
    """value, low, high of p over all rows, by day, model and metric."""
    cut = {"slice": [EVERYTHING], "stage": [LAST_STAGE], "metric": metrics}
    return {
        (row["ds"], row["model_id"], row["metric"]): {end: row[end] for end in ("value", "low", "high")}
        for row in _rows(tables, "metrics", cut, days=days)
    }


def _calibration(row: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: json.loads(row[name] or "null") for name in ("parameters", "stretch", "candidates")}
    return {"calibration_id": row["calibration_id"], "method": row["method"], **own, "clicks": row["clicks"]}


def _rows(
    tables: Tables,
    name: str,
    where: Mapping[str, Sequence[str]],
    columns: Sequence[str] = (),
    *,
    days: Sequence[date] | None = None,
) -> list[dict[str, Any]]:
    return tables.rows(name, days=days, where=where, columns=columns) if tables.exists(name) else []


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Members by dotted name; lists as they are."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
