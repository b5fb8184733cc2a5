"""`clickmill models`: what a person sees of the trained models; no Spark is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_promote import DAYS, DS, JUDGED, decide, decisions, model, tables_of, write
from typer.testing import CliRunner

from clickmill import cli
from clickmill.errors import UsageError
from clickmill.registry import write_cards


def named(warehouse: str) -> list[str]:
    return ["--conf", "datasets/simulated.yaml", "--set", f"warehouse={warehouse}"]


def ask(warehouse: str, *words: str) -> str:
    done = CliRunner().invoke(cli.app, ["models", *words, *named(warehouse)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def told(warehouse: str, *words: str) -> Any:
    return json.loads(ask(warehouse, *words, "--json"))


@pytest.fixture
def trained(warehouse: str) -> dict[str, dict[str, Any]]:
    """`good` is the champion from the first day on; `best` and `poor` are of the second."""
    good = write(warehouse, DAYS[0], "good")["good"]
    decide(warehouse, DAYS[0], "good")
    others = write(warehouse, DAYS[1], "best", "poor", holder=good)
    return {"good": good, **others}


def test_the_list_has_all_models_and_marks_the_champion(
    warehouse: str, trained: dict[str, dict[str, Any]]
) -> None:
    rows = told(warehouse, "list")["models"]
    assert [(row["name"], row["champion"]) for row in rows] == [("poor", False), ("best", False), ("good", True)]
    for row in rows:
        assert row["ne"]["low"] < row["ne"]["value"] < row["ne"]["high"]
    assert [row["name"] for row in told(warehouse, "list", "--ds", str(DAYS[0]))["models"]] == ["good"]
    shown = ask(warehouse, "list")
    for row in trained.values():
        assert row["model_id"] in shown
        assert f"{row['kind']}, keep rate {row['keep_rate']}" in shown
    for row in rows:
        assert f"[{row['ne']['low']:.4f}, {row['ne']['high']:.4f}]" in shown, "whole, however narrow the terminal"
    assert "* the champion" in shown


def test_one_model_is_shown_with_its_figures_and_its_verdicts(
    warehouse: str, trained: dict[str, dict[str, Any]]
) -> None:
    found = told(warehouse, "show", "good")
    assert (found["model_id"], found["judged"]) == (trained["good"]["model_id"], str(DAYS[1]))
    assert found["metrics"]["ne"]["low"] < found["metrics"]["ne"]["value"]
    assert found["calibration"]["method"] == "none"
    assert found["decisions"][0]["promoted"]
    assert found["digest"] == trained["good"]["digest"]
    assert "digest: " + trained["good"]["digest"] in ask(warehouse, "show", trained["good"]["model_id"])


def test_an_id_that_is_unknown_or_cut_too_short_is_named(warehouse: str, trained: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="'goood-2026-01-10-00000000' is no model; did you mean 'good-"):
        ask(warehouse, "show", "goood-2026-01-10-00000000")
    write(warehouse, DAYS[2], "good")
    with pytest.raises(UsageError, match="'good-' begins 2 ids: good-2026-01-10-00000000, good-2026-01-12"):
        ask(warehouse, "show", "good-")


def test_two_models_differ_by_members_and_by_a_paired_difference(
    warehouse: str, trained: dict[str, dict[str, Any]]
) -> None:
    found = told(warehouse, "diff", "best", "poor")
    assert found["differences"]["name"] == ["best", "poor"]
    assert "dataset.name" not in found["differences"]
    assert found["ne"]["ds"] == str(DAYS[1])
    assert found["ne"]["low"] < found["ne"]["difference"] < found["ne"]["high"] < 0
    assert f"NE of the first less that of the second on {DAYS[1]}: +0." in ask(warehouse, "diff", "poor", "best")
    write(warehouse, DAYS[2], "lone", found={"lone": JUDGED[DAYS[2]]["best"]})
    assert "no day on which both were judged" in ask(warehouse, "diff", "lone", "best")


def test_the_champion_is_told_with_its_sentences(warehouse: str, trained: dict[str, dict[str, Any]]) -> None:
    found = told(warehouse, "champion")
    assert (found["model_id"], found["since"], found["in_place_of"]) == (
        trained["good"]["model_id"],
        str(DS),
        None,
    )
    assert all(sentence.endswith(": passed") for sentence in found["sentences"])
    assert ask(warehouse, "champion", "--ds", "2026-01-01") == "there is no champion yet: nothing was promoted\n"
    assert told(warehouse, "champion", "--ds", "2026-01-01") == {"model_id": None}


def test_an_empty_warehouse_says_so(warehouse: str) -> None:
    assert told(warehouse, "list")["models"] == []
    assert "no model was trained yet" in ask(warehouse, "list")


def test_an_error_is_one_object_too(
    warehouse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["clickmill", "models", "show", "nobody", *named(warehouse)]
    monkeypatch.setattr("sys.argv", [*asked, "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["exit_code"] == end.value.code == 3
    assert f"clickmill: {found['error']['name']}: {found['error']['message']}" == said.err.strip()
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out == ""


def test_the_list_marks_the_champion_that_was_put_back_on_a_later_day(warehouse: str) -> None:
    held = write(warehouse, DAYS[0], "poor")["poor"]
    decide(warehouse, DAYS[0], "poor")
    write(warehouse, DAYS[1], "best", holder=held)
    decide(warehouse, DAYS[1], "best")
    decide(warehouse, DAYS[2], "best", to="previous")
    assert [row["name"] for row in told(warehouse, "list")["models"] if row["champion"]] == ["poor"]
    assert told(warehouse, "champion")["model_id"] == held["model_id"]


def test_a_model_trained_again_is_not_shown_by_what_was_said_of_its_former_artifact(warehouse: str) -> None:
    write(warehouse, DAYS[0], "good", "best")
    decide(warehouse, DAYS[0], "good")
    again = model(warehouse, "good", DAYS[0], shift=0.5)
    tables_of(warehouse).write("models", [again], replace={"ds": DAYS[0], "name": "good"})
    found = told(warehouse, "show", "good")
    assert found["digest"] == again["digest"]
    assert (found["judged"], found["metrics"], found["calibration"], found["decisions"]) == (None, {}, None, [])
    assert [row["ne"] is None for row in told(warehouse, "list")["models"]] == [True, False]
    assert "no day on which both were judged" in told(warehouse, "diff", "good", "best")["ne"]["reason"]


def test_a_model_calibrated_again_is_not_shown_by_its_former_figures(warehouse: str) -> None:
    """`calibrations` has the new artifact by then, and the judge's tables the former one's figures."""
    write(warehouse, DS, "good", "best")
    again = model(warehouse, "good", DS, shift=0.5)
    key = {"ds": DS, "model_id": again["model_id"]}
    fitted = {"calibration_id": "new", "artifact": again["digest"], "method": "none", "parameters": "{}"}
    tables_of(warehouse).write("models", [again], replace={"ds": DS, "name": "good"})
    tables_of(warehouse).write("calibrations", [key | fitted | {"run_id": "r", "stretch": "[]"}], replace=key)
    assert told(warehouse, "show", "good")["judged"] is None
    assert "no day on which both were judged" in told(warehouse, "diff", "good", "best")["ne"]["reason"]


def test_two_models_judged_on_other_rows_of_a_day_are_not_compared_and_it_says_why(warehouse: str) -> None:
    mixed = {"best": JUDGED[DAYS[0]]["best"], "poor": JUDGED[DAYS[1]]["poor"]}
    write(warehouse, DAYS[0], "best", "poor", found=mixed)
    reason = told(warehouse, "diff", "best", "poor")["ne"]["reason"]
    assert reason.startswith(f"on {DAYS[0]} they were judged on other rows or by other draws: 30000-")


def test_a_card_is_of_one_day_the_newest_also_after_a_backfill(warehouse: str) -> None:
    held = write(warehouse, DAYS[0], "good")["good"]
    write(warehouse, DAYS[1], "best", holder=held)
    place = Path(held["artifact"]).parent / "card.md"
    write_cards(tables_of(warehouse), [held["model_id"]], min_clicks=1)
    told_once = place.read_text(encoding="utf-8")
    assert f"## On test time, {DAYS[1]}" in told_once
    metrics, _ = JUDGED[DAYS[1]]["good"]
    (half,) = [row["value"] for row in metrics if (row["slice"], row["metric"]) == ("half=a", "ne")]
    assert f"half=a | {half:.4f} |" in told_once
    write(warehouse, DAYS[0], "good")
    write_cards(tables_of(warehouse), [held["model_id"]], min_clicks=1)
    assert place.read_text(encoding="utf-8") == told_once


def test_a_sentence_steers_no_terminal(warehouse: str, trained: dict[str, dict[str, Any]]) -> None:
    rules = json.dumps([{"sentence": "in user=\u202e\x1b[31m[red]evil: FAILED"}])
    row = {**decisions(warehouse)[0], "promoted": False, "promotion": None, "rules": rules}
    tables_of(warehouse).append("decisions", [row])
    shown = ask(warehouse, "show", "good")
    assert "[red]evil: FAILED" in shown
    assert not {"\u202e", "\x1b"} & set(shown)


def test_no_spark_is_started_for_a_warehouse_on_this_disk(
    warehouse: str, trained: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clickmill.session.get_spark", lambda *_, **__: pytest.fail("a session was asked for"))
    for words in (["list"], ["show", "good"], ["diff", "best", "poor"], ["champion"]):
        assert ask(warehouse, *words)
    with pytest.raises(pytest.fail.Exception, match="a session was asked for"):
        ask("some.catalogue", "list")
