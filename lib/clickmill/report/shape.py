"""Rows of the small tables → `ReportData`. Rows are plain dicts, as `Row.asDict()` gives them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from clickmill.report.data import (
    Bin,
    Collisions,
    Column,
    DayFigure,
    Difference,
    Figure,
    Model,
    Network,
    Reject,
    ReportData,
    Rule,
    RunInfo,
    Slice,
    Slices,
    Stretch,
    TableVersion,
    Trees,
    Verdict,
)
from clickmill.schema import DAY_SLICE, EVERYTHING, LAST_STAGE

Row = Mapping[str, Any]


def report_data(
    *,
    ds: date,
    dataset: str,
    run: RunInfo,
    metrics: Iterable[Row],
    history: Iterable[Row],
    reliability: Iterable[Row],
    models: Iterable[Row],
    calibrations: Iterable[Row],
    audit: Iterable[Row],
    rejects: Iterable[Row],
    rejects_days: Sequence[date],
    versions: Mapping[str, int],
    stretches: Mapping[str, tuple[datetime, datetime]],
    comparisons: Iterable[Row] = (),
    slices: Iterable[Row] = (),
    decision: Row | None = None,
) -> ReportData:
    """All that is shown of one day.

    metrics: of `ds`; history: NE and calibration ratio by test day (slice `day=…`) of `ds` and of earlier days;
    models: those judged and earlier ones of the same names, which history needs;
    comparisons: paired differences of NE; slices: NE and calibration ratio of the slices;
    decision: the gate's, as `--json` shows it;
    rejects: one row a reason with `lines`, and the `source`, `line`, `text` of one example.
    """
    metrics, bins = list(metrics), list(reliability)
    trained = {row["model_id"]: row for row in models}
    methods = {row["model_id"]: row["method"] for row in calibrations}
    ids = sorted({row["model_id"] for row in metrics if row["slice"] == EVERYTHING})
    judged = [_model(model_id, trained.get(model_id), methods.get(model_id), metrics, bins) for model_id in ids]
    judged.sort(key=lambda model: (_last_if_absent(model.figure("ne").value), model.model_id))
    names = {row["model_id"]: row["name"] for row in trained.values()} | {m.model_id: m.name for m in judged}
    audited = list(audit)
    compared = list(comparisons)
    bits = min((model.bits for model in judged if model.bits is not None), default=None)
    return ReportData(
        ds=ds,
        dataset=dataset,
        run=run,
        models=tuple(judged),
        days=_days(history, names, {model.name for model in judged}),
        collisions=_collisions(audited, bits),
        collisions_day=max((row["ds"] for row in audited), default=None),
        rejects=tuple(sorted(map(_reject, rejects), key=lambda reject: (-reject.lines, reject.reason))),
        rejects_days=tuple(rejects_days),
        tables=tuple(TableVersion(name, version) for name, version in versions.items()),
        stretches=tuple(Stretch(name, start, end) for name, (start, end) in stretches.items()),
        differences=_differences(compared, [model.model_id for model in judged]),
        slices=_slices(list(slices), compared, [model.model_id for model in judged], decision),
        verdict=_verdict(decision),
    )


def _differences(comparisons: Iterable[Row], ids: Sequence[str]) -> tuple[Difference, ...]:
    """Those of the first model, whose ids come in the order of the leaderboard."""
    overall = (row for row in comparisons if row["slice"] == EVERYTHING and row["difference"] is not None)
    found = {(row["model_id"], row["other_id"]): row for row in overall}
    pairs = [(ids[0], other) for other in ids[1:] if (ids[0], other) in found]
    rows = [found[pair] for pair in pairs]
    return tuple(
        Difference(row["model_id"], row["other_id"], row["difference"], row["low"], row["high"], row["reason"])
        for row in rows
    )


def _slices(
    rows: Sequence[Row], comparisons: Sequence[Row], ids: Sequence[str], decision: Row | None
) -> Slices | None:
    """The challenger against the champion before it; without one, the first model against the second."""
    if not ids:
        return None
    asked = decision or {}
    mine, rival = asked.get("challenger"), asked.get("champion_before")
    if mine not in ids or rival not in ids or mine == rival:
        mine, rival = ids[0], ids[1] if len(ids) > 1 else None
    own = {(row["slice"], row["metric"]): row for row in rows if row["model_id"] == mine}
    pair = {row["slice"]: row for row in comparisons if (row["model_id"], row["other_id"]) == (mine, rival)}
    found = []
    for name, metric in own:
        if metric != "ne" or name == EVERYTHING:
            continue
        ne, compared = own[name, "ne"], pair.get(name, {})
        difference = Figure(
            compared.get("difference"), compared.get("reason"), compared.get("low"), compared.get("high")
        )
        calibration = own.get((name, "calibration_ratio"))
        found.append(
            Slice(
                name,
                ne["n"] or 0,
                ne["clicks"] or 0,
                _figure(ne),
                Figure(None, "not computed") if calibration is None else _figure(calibration),
                difference,
                compared.get("verdict"),
            )
        )
    found.sort(key=lambda one: (one.verdict != "worse", _last_if_absent(one.difference.value, sign=-1), one.name))
    return Slices(str(mine), rival, tuple(found))


def _verdict(decision: Row | None) -> Verdict | None:
    if decision is None:
        return None
    rules = tuple(Rule(rule["passed"], rule["sentence"]) for rule in decision["rules"])
    return Verdict(decision["sentences"][0], decision["promoted"], decision["champion"], rules)


def _figure(row: Row) -> Figure:
    return Figure(row["value"], row.get("reason"), row.get("low"), row.get("high"))


def _last_if_absent(value: float | None, *, sign: int = 1) -> float:
    return math.inf if value is None or math.isnan(value) else sign * value


def _model(model_id: str, trained: Row | None, method: str | None, metrics: list[Row], bins: list[Row]) -> Model:
    """One judged model. A model whose training row is gone is shown by its id."""
    own = [row for row in metrics if row["model_id"] == model_id and row["slice"] == EVERYTHING]
    stages: dict[str, dict[str, Figure]] = {}
    for row in own:
        stages.setdefault(row["stage"], {})[row["metric"]] = _figure(row)
    seen = next((row for row in own if row["stage"] == LAST_STAGE), own[0])
    trained = trained or {}
    spec, training = _json(trained.get("spec")), _json(trained.get("training"))
    return Model(
        model_id=model_id,
        name=trained.get("name") or model_id,
        kind=trained.get("kind") or "unknown",
        keep_rate=trained.get("keep_rate"),
        seconds=trained.get("seconds"),
        bits=spec.get("linear", spec).get("bits"),
        calibration=method,
        n=seen["n"] or 0,
        clicks=seen["clicks"] or 0,
        traffic=seen["traffic"],
        stages=stages,
        reliability=_reliability([row for row in bins if row["model_id"] == model_id]),
        trained_on={str(name): int(version) for name, version in _json(trained.get("versions")).items()},
        remarks=_remarks(training),
        trees=_trees(training),
        network=_network(training),
    )


def _json(text: str | None) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def _remarks(training: Mapping[str, Any]) -> tuple[str, ...]:
    if training.get("converged") is False:
        why = f": {training['stopped']}" if training.get("stopped") else ""
        return (f"training stopped after {training.get('iterations')} iterations before it converged{why}",)
    return ()


def _trees(training: Mapping[str, Any]) -> Trees | None:
    """Of a model of trees, or of one that has trees; None of others."""
    figures, seconds = training.get("trees", training), training.get("seconds", {})
    if "gain" not in figures:
        return None
    shares = [_shares(figures[kind]) for kind in ("gain", "cover")]
    columns = tuple(
        Column(name, gain, shares[1].get(name, 0.0), figures["shap"].get(name)) for name, gain in shares[0].items()
    )
    return Trees(
        curve=tuple((entry[2], entry[3]) for entry in figures["history"]),
        rounds=figures["rounds"],
        leaves=figures["leaves"],
        seconds=seconds.get("trees", seconds),
        columns=columns,
    )


def _network(training: Mapping[str, Any]) -> Network | None:
    """Of a network; None of other models."""
    if "bytes_per_step" not in training:
        return None
    return Network(
        curve=tuple((step, training_ne, ne) for step, _, _, ne, training_ne in training["history"]),
        best=training["best_step"],
        steps=training["steps"],
        ranks=training["ranks"],
        launcher=training["launcher"],
        rows_per_second=training.get("rows_per_second"),
        bytes_per_step=training["bytes_per_step"],
        seconds=training.get("seconds", {}),
    )


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values()) or 1.0
    return {name: value / total for name, value in values.items()}


def _reliability(rows: list[Row]) -> dict[str, tuple[Bin, ...]]:
    stages: dict[str, list[Bin]] = {}
    for row in sorted(rows, key=lambda row: row["bin"]):
        if row["n"] and row["p_mean"] is not None and row["ctr"] is not None:
            found = Bin(row["p_mean"], row["ctr"], row["n"], row.get("low"), row.get("high"))
            stages.setdefault(row["stage"], []).append(found)
    return {stage: tuple(bins) for stage, bins in stages.items()}


def _days(history: Iterable[Row], names: Mapping[str, str], judged: set[str]) -> tuple[DayFigure, ...]:
    """By day of the judged names; where several evaluations judged a day, the latest one's."""
    latest: dict[tuple[str, date], dict[str, Row]] = {}
    for row in history:
        name = names.get(row["model_id"])
        if name not in judged or not row["slice"].startswith(DAY_SLICE):
            continue
        key = (name, date.fromisoformat(row["slice"].removeprefix(DAY_SLICE)))
        known = latest.setdefault(key, {})
        if row["metric"] not in known or row["ds"] >= known[row["metric"]]["ds"]:
            known[row["metric"]] = row
    return tuple(
        DayFigure(
            name,
            day,
            ne["value"],
            ne["n"] or 0,
            ne["clicks"] or 0,
            ne.get("reason"),
            found.get("calibration_ratio", {}).get("value"),
        )
        for (name, day), found in sorted(latest.items(), key=lambda item: item[0])
        if (ne := found.get("ne")) is not None
    )


def _collisions(rows: list[Row], bits: int | None) -> tuple[Collisions, ...]:
    slots: dict[str, list[Row]] = {}
    for row in rows:
        slots.setdefault(row["slot"], []).append(row)
    found = [
        Collisions(
            slot=slot,
            rows=own[0]["rows"],
            distinct=own[0]["distinct"],
            missing_share=own[0]["missing_share"],
            unseen_share=own[0]["unseen_share"],
            mass={row["bits"]: row["collision_mass"] for row in own if row["collision_mass"] is not None},
        )
        for slot, own in slots.items()
    ]
    return tuple(sorted(found, key=lambda slot: (-_mass(slot, bits), -slot.distinct, slot.slot)))


def _mass(slot: Collisions, bits: int | None) -> float:
    """Collision mass at these bits; at the nearest audited ones where these were not audited."""
    if not slot.mass:
        return 0.0
    nearest = min(slot.mass, key=lambda known: (abs(known - (bits or 0)), known))
    return slot.mass[nearest]


def _reject(row: Row) -> Reject:
    return Reject(row["reason"], row["lines"], row["source"], row["line"], row["text"])
