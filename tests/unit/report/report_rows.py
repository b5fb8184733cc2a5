"""Made-up rows of the small tables, as a day's evaluation leaves them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

from clickmill.report.data import ReportData, RunInfo
from clickmill.report.shape import report_data

DS = date(2026, 1, 10)
HOSTILE = "<script>alert(1)</script>[red]\x1b[31m\u202e{{7*7}}"
"""A log value that would run in a page, colour a terminal or reverse a line if it were not escaped."""


def metric_rows(
    model_id: str, ne: float, *, before: float = 9.8, truth: float | None = 1.004
) -> list[dict[str, Any]]:
    def row(stage: str, metric: str, value: float | None, slice: str = "all") -> dict[str, Any]:
        return {
            "ds": DS,
            "model_id": model_id,
            "stage": stage,
            "slice": slice,
            "metric": metric,
            "traffic": "full",
            "value": value,
            "low": value and value * 0.99,
            "high": value and value * 1.01,
            "n": 200_000,
            "clicks": 6_021,
            "reason": None if value is not None else "the truth is not known",
        }

    last = {"ne": ne, "log_loss": ne * 0.1351, "calibration_ratio": 1.0031, "ece": 0.00061, "auc": 0.7812}
    rows = [row("calibrated", name, value) for name, value in last.items()]
    rows += [row("calibrated", "calibration_to_truth", truth), row("p_sampled", "calibration_ratio", before)]
    return rows


def day_rows(model_id: str, figures: dict[str, float]) -> list[dict[str, Any]]:
    base = {"ds": DS, "model_id": model_id, "stage": "calibrated", "metric": "ne", "traffic": "full"}
    return [
        {**base, "slice": f"day={day}", "value": ne, "n": 100_000, "clicks": 3_010, "reason": None}
        for day, ne in figures.items()
    ]


def slice_rows(model_id: str, figures: dict[str, float]) -> list[dict[str, Any]]:
    base = {"ds": DS, "model_id": model_id, "stage": "calibrated", "traffic": "full", "n": 50_000, "clicks": 900}
    return [
        {**base, "slice": name, "metric": metric, "value": value, "low": value - 0.01, "high": value + 0.01}
        for name, ne in figures.items()
        for metric, value in (("ne", ne), ("calibration_ratio", 1.02))
    ]


def difference_row(one: str, other: str, slice: str, value: float, **changed: Any) -> dict[str, Any]:
    verdict = None if slice == "all" else "worse" if value > 0.004 else "no difference"
    ends = {"low": value - 0.004, "high": value + 0.004, "reason": None, "verdict": verdict}
    return {"model_id": one, "other_id": other, "slice": slice, "difference": value, **ends, **changed}


def decision(challenger: str, champion: str, text: str = "") -> dict[str, Any]:
    passed = {"name": "first", "passed": True, "sentence": f"calibration ratio 1.01 {text}: passed"}
    failed = {"name": "slices", "passed": False, "sentence": "1 of 3 slices is proven worse: FAILED"}
    return {
        "promoted": False,
        "challenger": challenger,
        "champion_before": champion,
        "champion": champion,
        "sentences": [f"{challenger} is refused, {champion} stays the champion"],
        "rules": [passed, failed],
    }


def bin_rows(model_id: str, *, times: float = 1.0, stage: str = "calibrated") -> list[dict[str, Any]]:
    odds = [0.004 * 1.27**step for step in range(20)]
    return [
        {
            "model_id": model_id,
            "stage": stage,
            "bin": step,
            "p_mean": times * value / (1 + (times - 1) * value),
            "ctr": value * (1 + 0.06 * (-1) ** step),
            "n": 10_000.0,
            "low": None,
            "high": None,
        }
        for step, value in enumerate(odds)
    ]


def model_row(model_id: str, name: str, *, converged: bool = True, bits: int = 22) -> dict[str, Any]:
    training = json.dumps({"converged": converged, "iterations": 200})
    spec = json.dumps({"kind": "logreg", "bits": bits})
    return {
        "model_id": model_id,
        "name": name,
        "kind": "logreg",
        "keep_rate": 0.05,
        "seconds": 8.312,
        "spec": spec,
        "training": training,
        "versions": json.dumps({"sample": 3}),
    }


def trees_row(model_id: str, name: str, *, column: str = "e_C1_rate", inside: bool = False) -> dict[str, Any]:
    """A model of trees, or one that has trees inside."""
    grown = {
        "history": [[0.2, 0.21, 0.95, 0.96], [0.19, 0.2, 0.91, 0.93], [0.18, 0.201, 0.88, 0.94]],
        "rounds": 2,
        "leaves": 14,
        "gain": {column: 30.0, "n_I1": 10.0},
        "cover": {column: 20.0, "n_I1": 60.0},
        "shap": {column: 0.4321},
    }
    seconds = {"read": 0.4, "grow": 12.5}
    training = {"trees": grown, "seconds": {"trees": seconds}} if inside else {**grown, "seconds": seconds}
    return {**model_row(model_id, name), "kind": "xgboost", "training": json.dumps(training)}


def network_row(model_id: str, name: str, *, judged: bool = True) -> dict[str, Any]:
    """A network, whose validation time may have been empty."""
    training = {
        "history": [[10, 0.12, 0.11, 0.96, 0.98], [20, 0.1, 0.1, 0.91, 0.93], [30, 0.09, 0.12, 0.97, 0.88]],
        "best_step": 20,
        "steps": 30,
        "ranks": 2,
        "launcher": "horovod",
        "bytes_per_step": 123_456.0,
        "rows_per_second": 54_321.4,
        "seconds": {"read": 0.4, "step": 12.5, "communicate": 3.0},
    }
    if not judged:
        training["history"] = [[*entry[:2], None, None, entry[4]] for entry in training["history"]]
    return {**model_row(model_id, name), "kind": "wide_deep", "training": json.dumps(training)}


def audit_rows(slot: str, distinct: int, day: date = DS) -> list[dict[str, Any]]:
    return [
        {
            "ds": day,
            "slot": slot,
            "rows": 200_000,
            "distinct": distinct,
            "missing_share": 0.031,
            "unseen_share": 0.012,
            "bits": bits,
            "collision_mass": min(1.0, distinct / 2**bits),
        }
        for bits in range(18, 29)
    ]


def sample_report(
    *, name: str = "lr", other: str = "lr_nocross", text: str = "1\t\t12\tx", **changed: Any
) -> ReportData:
    """A report of two models over two test days; `changed` replaces single inputs of `report_data`."""
    first, second = f"{name}-2026-01-10-1f09aa31", f"{other}-2026-01-10-77c0ee02"
    inputs: dict[str, Any] = {
        "ds": DS,
        "dataset": "simulated",
        "run": RunInfo(
            "20260110T060102-5c1d", "0.1.0+g1a2b3c4", "9f31c0aa77de1b02", datetime(2026, 1, 11, 6, 1, tzinfo=UTC)
        ),
        "metrics": metric_rows(second, 0.8207) + metric_rows(first, 0.8034),
        "history": day_rows(second, {"2026-01-09": 0.8181, "2026-01-10": 0.8230})
        + day_rows(first, {"2026-01-09": 0.8012, "2026-01-10": 0.8056}),
        "reliability": [
            *bin_rows(first),
            *bin_rows(first, times=18, stage="p_sampled"),
            *bin_rows(second),
            *bin_rows(second, times=18, stage="p_sampled"),
        ],
        "models": [model_row(first, name), model_row(second, other, converged=False)],
        "comparisons": [
            difference_row(first, second, "all", -0.0173),
            difference_row(first, second, "site=b", 0.0061),
            difference_row(first, second, "site=a", -0.0212),
        ],
        "slices": slice_rows(first, {"site=a": 0.79, "site=b": 0.83, "site=few": 0.9}),
        "decision": decision(first, second, text),
        "calibrations": [{"model_id": first, "method": "platt"}, {"model_id": second, "method": "none"}],
        "audit": audit_rows("c21", 94_120) + audit_rows("c3", 310) + audit_rows("c21×user", 161_004),
        "rejects": [
            {"reason": "wrong number of fields", "lines": 31, "source": "day.tsv", "line": 1_204, "text": text},
            {"reason": "label not 0/1", "lines": 2, "source": "day.tsv", "line": 77, "text": "7\t3"},
        ],
        "rejects_days": [date(2026, 1, day) for day in range(2, 11)],
        "versions": {"metrics": 12, "features": 4, "models": 9},
        "stretches": {
            "train": (datetime(2026, 1, 2), datetime(2026, 1, 8)),
            "validation": (datetime(2026, 1, 8), datetime(2026, 1, 9)),
            "test": (datetime(2026, 1, 9), datetime(2026, 1, 11)),
        },
    }
    return report_data(**{**inputs, **changed})
