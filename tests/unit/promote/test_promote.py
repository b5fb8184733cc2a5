"""`promote` on tables: who becomes the champion, what is written, and what is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import judged_day
import judged_rows
import numpy as np
import pytest
import running
import stored

from clickmill.calibration import expit
from clickmill.champion import champion, contenders
from clickmill.config import Config
from clickmill.errors import ArtifactError, ConflictError, GateRefusedError, MissingTableError, UsageError
from clickmill.jobs.promote import JOB
from clickmill.promote.driver import challenge, record, rollback
from clickmill.split import Stretch
from clickmill.tables import Tables

DS = judged_day.DS
DAYS = tuple(DS + timedelta(days=n) for n in range(3))
ROWS = 30_000
NOISE = {"best": 0.05, "good": 0.4, "poor": 0.9}
"""How much each model's logit is off."""
RUNS = iter(range(10**6))


def tables_of(warehouse: str, *, dry_run: bool = False) -> Tables:
    """Those of another run."""
    return Tables.without_spark(warehouse, run_id=f"run-{next(RUNS)}", dry_run=dry_run)


def config(warehouse: str, *names: str, **changes: Any) -> Config:
    return Config.model_validate(
        {
            "dataset": judged_day.DATASET.model_dump(),
            "warehouse": warehouse,
            "models": {name: {"kind": "logreg", "bits": 22} for name in names},
            "split": {"train": "1d", "validation": "1d", "test": "1d"},
            "gate": {"calibration_band": [0.8, 1.2]},
            **changes,
        }
    )


def rows_of(day: date, **changes: Any) -> dict[str, tuple[judged_rows.Rows, judged_rows.Rows]]:
    """What the judge says of NOISE's models on a day's rows; slices a and b, half of the rows each."""
    rng = np.random.default_rng(day.toordinal())
    logit = -2.5 + rng.normal(0, 1.0, ROWS)
    label = (rng.random(ROWS) < expit(logit)).astype(np.int8)
    off = rng.normal(0, 1, ROWS)
    models = {name: expit(logit + noise * off - noise**2 / 2) for name, noise in NOISE.items()}
    slices = (np.arange(ROWS) % 2).astype(np.int32)
    return judged_rows.judge(label, models, slices, ("half=a", "half=b"), tag=f"{day}-", **changes)


JUDGED = {day: rows_of(day) for day in DAYS}


def write(
    warehouse: str, day: date, *names: str, holder: dict[str, Any] | None = None, found: Any = None
) -> dict[str, dict[str, Any]]:
    """Models of `day` by these names, calibrated and judged on it; `holder`: an earlier row, judged with them."""
    tables = tables_of(warehouse)
    last = datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC)
    impression = {"event_id": "e", "event_time": last, "label": 0, "ds": day}
    tables.write("features", [impression], replace={"ds": day})
    trained = {name: model(warehouse, name, day) for name in names}
    tables.write("models", list(trained.values()), replace={"ds": day})
    found = found or JUDGED[day]
    judged = {**trained, **({} if holder is None else {holder["name"]: holder})}
    for name, row in judged.items():
        keys = {"ds": day, "model_id": row["model_id"], "run_id": "r"}
        replace = {"ds": day, "model_id": row["model_id"]}
        metrics, replicates = found[name]
        tables.write("metrics", [keys | one for one in metrics], replace=replace)
        tables.write("replicates", [keys | one for one in replicates], replace=replace)
        fitted = {"calibration_id": f"c-{name}", "artifact": row["digest"], "method": "none", "parameters": "{}"}
        stretch = json.dumps([f"{day - timedelta(days=1)}T00:00:00", f"{day}T00:00:00"])
        tables.write("calibrations", [keys | fitted | {"stretch": stretch}], replace=replace)
    return trained


def model(warehouse: str, name: str, day: date, **changes: Any) -> dict[str, Any]:
    row = judged_day.save_model(warehouse, name, ds=day, slope=1 + NOISE.get(name, 0), **changes)
    before = [f"{day - timedelta(days=back)}T00:00:00" for back in (2, 1, 0)]
    return row | {"stretches": json.dumps({"train": before[:2], "validation": before[1:]})}


def decide(
    warehouse: str, day: date, *names: str, dry_run: bool = False, to: str | None = None, **changes: Any
) -> dict[str, Any]:
    """The job's own code; its decision, and its exit code (0 or 4) as `code`."""
    run = running.prepared(
        tables_of(warehouse, dry_run=dry_run), JOB, config(warehouse, *names, **changes), [day], names
    )
    run.rollback = to
    code = 0
    try:
        JOB.main(run)
    except GateRefusedError as error:
        code = error.exit_code
    decision: dict[str, Any] = run.result["decision"]
    return decision | {"code": code}


def reigns(warehouse: str, day: date) -> str | None:
    """The champion's name as of a day."""
    found = champion(tables_of(warehouse), day)
    return found and found.name


def decisions(warehouse: str) -> list[dict[str, Any]]:
    return stored.rows(warehouse, "decisions")


def test_the_first_model_is_promoted_and_a_rerun_changes_nothing(warehouse: str) -> None:
    trained = write(warehouse, DS, "good", "poor")
    assert decide(warehouse, DS, "good", "poor", dry_run=True)["promoted"]
    assert not Path(warehouse, "decisions").exists(), "a dry run writes nothing"
    first = decide(warehouse, DS, "good", "poor")
    assert (first["code"], first["promoted"], first["champion"]) == (0, True, trained["good"]["model_id"])
    assert [rule["name"] for rule in first["rules"]] == [
        "artifact",
        "keep_rate",
        "trained_before",
        "first",
        "calibration",
    ]
    assert all(rule["sentence"].endswith(": passed") for rule in first["rules"])
    (row,) = decisions(warehouse)
    assert (row["champion_digest"], row["champion_before"], row["promotion"]) == (
        trained["good"]["digest"],
        None,
        1,
    )
    assert json.loads(row["rules"]) == first["rules"]
    again = decide(warehouse, DS, "good", "poor")
    assert (again["code"], again["promoted"], again["champion"]) == (0, False, first["champion"])
    assert again["sentences"] == [f"{first['champion']} is the champion already"]
    assert len(decisions(warehouse)) == 1


def test_a_better_model_takes_the_place_and_a_worse_one_is_refused_in_sentences(warehouse: str) -> None:
    held = write(warehouse, DAYS[0], "good")["good"]
    decide(warehouse, DAYS[0], "good")
    write(warehouse, DAYS[1], "poor", holder=held)
    refused = decide(warehouse, DAYS[1], "poor")
    assert (refused["code"], refused["promoted"], refused["champion"]) == (4, False, held["model_id"])
    gain = next(rule for rule in refused["rules"] if rule["name"] == "gain")
    assert gain["sentence"].startswith("NE 0.")
    assert "against the champion's 0." in gain["sentence"]
    assert gain["sentence"].endswith("required below −0.0005: FAILED")
    assert decide(warehouse, DAYS[1], "poor") == refused
    assert len(decisions(warehouse)) == 2, "the same refusal again is no second row"
    write(warehouse, DAYS[2], "best", holder=held)
    better = decide(warehouse, DAYS[2], "best")
    assert (better["code"], better["champion_before"]) == (0, held["model_id"])
    assert [reigns(warehouse, day) for day in DAYS] == ["good", "good", "best"]


def test_a_backfill_never_displaces_a_later_champion(warehouse: str) -> None:
    write(warehouse, DAYS[2], "good")
    decide(warehouse, DAYS[2], "good")
    write(warehouse, DAYS[0], "best")
    assert decide(warehouse, DAYS[0], "best")["promoted"]
    assert [reigns(warehouse, day) for day in DAYS] == ["best", "best", "good"]


def test_a_champion_that_was_trained_again_is_judged_as_what_it_was(warehouse: str) -> None:
    """`models` has its new row by then: the verdict alone still knows the artifact that was promoted."""
    held = write(warehouse, DS, "good")["good"]
    decide(warehouse, DS, "good")
    tables = tables_of(warehouse)
    tables.write("models", [model(warehouse, "good", DS, shift=0.5)], replace={"ds": DS})
    now, before = contenders(tables, DS, ["good"])
    assert before.digest == held["digest"] != now.digest
    assert before.model_id == f"{held['model_id']}@{held['digest'][:8]}"
    assert now.model_id == held["model_id"]
    with pytest.raises(MissingTableError, match="was not judged on 2026-01-10 as it is now"):
        decide(warehouse, DS, "good")
    assert before.model().card.model_id == held["model_id"], "its artifact is there still"


def test_the_day_of_a_promotion_judges_the_champion_before_it_again(warehouse: str) -> None:
    held = write(warehouse, DAYS[0], "good")["good"]
    decide(warehouse, DAYS[0], "good")
    write(warehouse, DAYS[1], "best", holder=held)
    first = [one.model_id for one in contenders(tables_of(warehouse), DAYS[1], ["best"])]
    assert decide(warehouse, DAYS[1], "best")["promoted"]
    assert [one.model_id for one in contenders(tables_of(warehouse), DAYS[1], ["best"])] == first


def test_models_judged_on_other_rows_or_by_other_draws_are_not_compared(warehouse: str) -> None:
    held = write(warehouse, DAYS[0], "good")["good"]
    decide(warehouse, DAYS[0], "good")
    others = {"rows": rows_of(DAYS[2])["good"], "draws": rows_of(DAYS[1], replicates=100)["good"]}
    for name, other in others.items():
        write(warehouse, DAYS[1], "best", holder=held, found={"best": JUDGED[DAYS[1]]["best"], "good": other})
        refused = decide(warehouse, DAYS[1], "best")
        sentences = {rule["name"]: rule["sentence"] for rule in refused["rules"] if not rule["passed"]}
        assert refused["code"] == 4
        assert sentences["same_rows"].startswith("judged on other rows: best-"), name
    assert (
        sentences["gain"]
        == "the difference in NE has no interval: they were judged by other numbers of draws: FAILED"
    )


def test_what_was_not_judged_as_it_is_now_is_named(warehouse: str) -> None:
    trained = write(warehouse, DS, "good")["good"]
    key = {"ds": DS, "model_id": trained["model_id"]}
    fitted = {"calibration_id": "another", "artifact": trained["digest"], "stretch": '["a", "b"]'}
    known = {"run_id": "r", "method": "none", "parameters": "{}"}
    tables_of(warehouse).write("calibrations", [key | known | fitted], replace=key)
    with pytest.raises(MissingTableError, match=f"{trained['model_id']} was not judged on {DS} as it is now"):
        decide(warehouse, DS, "good")


def test_a_damaged_artifact_is_refused(warehouse: str) -> None:
    trained = write(warehouse, DS, "good")["good"]
    weights = next(Path(trained["artifact"]).glob("*.npz"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    refused = decide(warehouse, DS, "good")
    assert refused["code"] == 4
    assert [rule["name"] for rule in refused["rules"] if not rule["passed"]] == ["artifact"]


def test_rollback_puts_an_earlier_champion_back_as_one_more_row(warehouse: str) -> None:
    with pytest.raises(UsageError, match="there is no champion as of"):
        rollback(tables_of(warehouse), DS, "previous")
    held = write(warehouse, DAYS[0], "poor")["poor"]
    decide(warehouse, DAYS[0], "poor")
    second = write(warehouse, DAYS[1], "good", holder=held)["good"]
    decide(warehouse, DAYS[1], "good")
    write(warehouse, DAYS[2], "best", holder=second)
    decide(warehouse, DAYS[2], "best")
    with pytest.raises(UsageError, match=r"no such champion before best-.*; there were poor-.*, good-"):
        decide(warehouse, DAYS[2], "best", to="nobody")
    assert decide(warehouse, DAYS[2], "best", to="previous")["champion"] == second["model_id"]
    assert decide(warehouse, DAYS[2], "best", to=held["model_id"])["champion"] == held["model_id"]
    assert [reigns(warehouse, day) for day in DAYS] == ["poor", "good", "poor"]
    rows = sorted(decisions(warehouse), key=lambda row: row["promotion"])
    assert [row["promotion"] for row in rows] == [1, 2, 3, 4, 5]
    shutil.rmtree(second["artifact"])
    with pytest.raises(ArtifactError):
        decide(warehouse, DAYS[2], "best", to=second["model_id"])
    assert len(decisions(warehouse)) == 5


def test_of_two_promotions_at_once_one_wins(warehouse: str) -> None:
    write(warehouse, DS, "good", "best")
    verdicts = []
    for name in ("good", "best"):
        tables = tables_of(warehouse)
        test = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
        verdicts.append((tables, challenge(tables, config(warehouse, name), DS, [name], test)))
    record(*verdicts[0])
    with pytest.raises(ConflictError, match=r"another writer was first \(number 1 is taken\)"):
        record(*verdicts[1])
    assert reigns(warehouse, DS) == "good"
    assert decide(warehouse, DS, "best", "good")["promoted"]


PROCESS = """
    import sys, time
    from pathlib import Path
    sys.path[:0] = ["tests", "tests/unit/promote"]
    from test_promote import DS, Stretch, challenge, config, datetime, record, tables_of
    from clickmill.errors import ConflictError
    name, other, *warehouses = sys.argv[1:]
    for warehouse in warehouses:
        tables = tables_of(warehouse)
        tables.run_id = name
        test = Stretch(datetime(2026, 1, 10), datetime(2026, 1, 11))
        verdict = challenge(tables, config(warehouse, name), DS, [name], test)
        Path(warehouse, name + ".ready").touch()
        while not Path(warehouse, other + ".ready").exists():
            time.sleep(0.0005)
        try:
            record(tables, verdict)
            print("won")
        except ConflictError as error:
            assert "another writer was first" in str(error), error
            print("lost")
"""


def test_of_two_processes_that_promote_at_once_one_wins_twenty_times(warehouse: str, tmp_path: Path) -> None:
    names = ("good", "best")
    write(warehouse, DS, *names)
    copies = [str(shutil.copytree(warehouse, tmp_path / f"round {n}")) for n in range(20)]
    command = [sys.executable, "-c", textwrap.dedent(PROCESS)]
    writers = [
        subprocess.Popen([*command, *pair, *copies], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for pair in (names, names[::-1])
    ]
    ends = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], [error[-3000:] for _, error in ends]
    told = [said.split() for said, _ in ends]
    for number, copy in enumerate(copies):
        outcome = {name: said[number] for name, said in zip(names, told, strict=True)}
        assert sorted(outcome.values()) == ["lost", "won"], number
        (row,) = decisions(copy)
        assert outcome[row["run_id"]] == "won"
        assert reigns(copy, DS) == row["run_id"]
