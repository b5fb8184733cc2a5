"""The report from real tables."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from clickmill.errors import PlatformError
from clickmill.report.data import RunInfo
from clickmill.report.driver import collect, save

DS = date(2026, 1, 10)
DAYS = tuple(date(2026, 1, day) for day in (8, 9, 10))
RUN = RunInfo("r-1", "0.1.0", "0123", datetime(2026, 1, 11, tzinfo=UTC))


def metric(
    model_id: str, name: str, value: float, *, slice: str = "all", ds: date = DS, stage: str = "calibrated"
):
    keys = {"ds": ds, "model_id": model_id, "run_id": "r", "stage": stage, "slice": slice, "metric": name}
    return {**keys, "traffic": "full", "value": value, "n": 1000, "clicks": 30}


def model(model_id: str, name: str, ds: date = DS):
    keys = {"model_id": model_id, "name": name, "kind": "logreg", "artifact": "a", "digest": "d", "ds": ds}
    return {**keys, "spec": '{"bits": 22}', "versions": '{"sample": 3}', "keep_rate": 0.05, "seconds": 1.5}


def audit(day: date, bits: int, mass: float):
    shares = {"missing_share": 0.1, "unseen_share": 0.2, "load": 0.3, "collision_mass": mass}
    return {
        "slot": "C1",
        "rows": 10,
        "distinct": 5,
        "bits": bits,
        "largest_bucket_share": 0.4,
        "ds": day,
        **shares,
    }


def reject(line: int, reason: str, text: str, day: date = DS):
    return {"source": "log.tsv", "line": line, "reason": reason, "text": text, "run_id": "r", "ds": day}


@pytest.fixture
def filled(tables):
    """Two models of the day, one of them trained on the day before too."""
    today = [metric("lr-b", "ne", 0.82), metric("lr-b", "calibration_ratio", 9.0, stage="p_sampled")]
    today += [metric("x-b", "ne", 0.81), metric("lr-b", "ne", 0.83, slice="day=2026-01-10")]
    before = [
        metric("lr-a", "ne", 0.84, ds=DAYS[1]),
        metric("lr-a", "ne", 0.85, slice="day=2026-01-09", ds=DAYS[1]),
    ]
    tables.write("metrics", today + before, replace={"ds": [DAYS[1], DS]})
    rows = [model("lr-b", "lr"), model("x-b", "x"), model("lr-a", "lr", DAYS[1])]
    tables.write("models", rows, replace={"ds": [DAYS[1], DS]})
    tables.write("feature_audit", [audit(DAYS[1], 22, 0.9), audit(DAYS[1], 24, 0.004)], replace={"ds": DAYS[1]})
    lines = [reject(9, "label not 0/1", "7"), reject(4, "label not 0/1", "first"), reject(1, "long", "x" * 900)]
    lines += [reject(1, "label not 0/1", "another time", date(2025, 12, 1))]
    tables.write("rejects", lines, replace={"ds": [date(2025, 12, 1), DS]})
    return tables


def test_the_report_holds_what_the_tables_say(filled):
    report = collect(filled, ds=DS, days=DAYS, dataset="d", run=RUN, stretches={})
    assert [(m.model_id, m.figure("ne").value) for m in report.models] == [("x-b", 0.81), ("lr-b", 0.82)]
    assert report.models[1].figure("calibration_ratio", "p_sampled").value == 9.0
    assert [(d.name, d.day, d.ne) for d in report.days] == [("lr", DAYS[1], 0.85), ("lr", DS, 0.83)]
    assert report.collisions_day == DAYS[1]
    assert report.collisions[0].enough_bits() == 24
    found = [(r.reason, r.lines, r.line, len(r.text or "")) for r in report.rejects]
    assert found == [("label not 0/1", 2, 4, len("first")), ("long", 1, 1, 200)]
    versions = {table.name: table.version for table in report.tables}
    assert versions == {name: filled.version(name) for name in ("feature_audit", "metrics", "models", "rejects")}


def test_only_the_models_asked_for_are_shown(filled):
    report = collect(filled, ds=DS, days=DAYS, dataset="d", run=RUN, stretches={}, model_ids=["lr-b"])
    assert [m.model_id for m in report.models] == ["lr-b"]


def test_a_warehouse_without_tables_gives_an_empty_report_that_can_be_saved(tables, tmp_path):
    report = collect(tables, ds=DS, days=DAYS, dataset="d", run=RUN, stretches={})
    place = tmp_path / "new folder" / "r.html"
    assert save(report, str(place)) == str(place)
    assert "No line was refused" in place.read_text(encoding="utf-8")
    assert list(place.parent.iterdir()) == [place]


def test_a_place_that_cannot_be_written_is_named(tables, tmp_path):
    report = collect(tables, ds=DS, days=DAYS, dataset="d", run=RUN, stretches={})
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match=r"file/r\.html"):
        save(report, str(Path(tmp_path, "file", "r.html")))
