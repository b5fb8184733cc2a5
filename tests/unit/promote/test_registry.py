"""`clickmill models`: what a person sees of the trained models; no Spark is started."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_promote import DAYS, DS, JUDGED, decide, write
from typer.testing import CliRunner

from clickmill import cli
from clickmill.errors import UsageError


def ask(warehouse: str, *words: str) -> str:
    named = ["--conf", "datasets/simulated.yaml", "--set", f"warehouse={warehouse}"]
    done = CliRunner().invoke(cli.app, ["models", *words, *named])
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
    rows = told(warehouse, "list")
    assert [(row["name"], row["champion"]) for row in rows] == [("poor", False), ("best", False), ("good", True)]
    for row in rows:
        assert row["ne"]["low"] < row["ne"]["value"] < row["ne"]["high"]
    assert [row["name"] for row in told(warehouse, "list", "--ds", str(DAYS[0]))] == ["good"]
    shown = ask(warehouse, "list")
    for row in trained.values():
        assert row["model_id"] in shown
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
    assert told(warehouse, "champion", "--ds", "2026-01-01") is None


def test_an_empty_warehouse_says_so(warehouse: str) -> None:
    assert told(warehouse, "list") == []
    assert "no model was trained yet" in ask(warehouse, "list")
