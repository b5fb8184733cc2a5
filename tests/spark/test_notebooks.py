"""Each notebook from top to bottom on a small log, with real Spark: its plots are there, its figures right."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ROWS = "6000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all: the second notebook of a warehouse finds its days made."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture
def run_notebook(spark, folder, monkeypatch):
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    monkeypatch.setenv("CLICKMILL_WAREHOUSE", str(folder))
    monkeypatch.setenv("CLICKMILL_ROWS", ROWS)
    monkeypatch.chdir(folder)

    def run(name: str) -> tuple[dict[str, Any], int]:
        """The notebook's variables, and how many plots with something in them it made."""
        plt.close("all")
        found = runpy.run_path(str(NOTEBOOKS / f"{name}.py"))
        drawn = [plt.figure(number) for number in plt.get_fignums()]
        return found, sum(bool(axes.lines or axes.patches) for figure in drawn for axes in figure.axes)

    return run


def test_quickstart(run_notebook):
    found, plots = run_notebook("01_quickstart")
    assert list(found["board"].index) == ["lr", "lr_nocross"]
    assert found["board"].loc["lr", "NE"] < 1
    assert found["board"].loc["lr", "calibration before"] > 5
    assert len(found["bins"]) > 10
    assert Path(found["verdict"]["report"]).is_file()
    assert plots == 1


def test_your_own_log(run_notebook):
    found, plots = run_notebook("02_your_own_log")
    assert found["verdict"]["models"][0]["metrics"]["ne"]["value"] < 1
    assert found["rejects"] == []
    assert found["model"].card.keep_rate == 0.3
    assert plots == 1


def test_judge_any_model(run_notebook):
    found, plots = run_notebook("03_judge_any_model")
    models = {model["name"]: model["metrics"] for model in found["compared"]["models"]}
    assert models["theirs"]["ne"]["value"] < models["lr"]["ne"]["value"]
    assert models["theirs"]["calibration_ratio"]["value"] > 1.05
    assert found["whole"]["high"].item() < 0
    assert len(found["whole"]) == 1
    assert plots == 1


def test_calibration_explained(run_notebook):
    found, plots = run_notebook("04_calibration_explained")
    assert found["ratios"]["corrected"] == pytest.approx(1, abs=0.03)
    assert found["ratios"]["as trained"] > 8
    assert found["ratios"]["misprinted"] > found["ratios"]["as trained"]
    aucs = {auc for auc, _ in found["scores"].values()}
    assert max(aucs) - min(aucs) < 1e-12
    assert found["scores"]["corrected"][1] < 1 < found["scores"]["as trained"][1]
    assert plots == 2


def test_collisions_and_crosses(run_notebook):
    found, plots = run_notebook("05_collisions_and_crosses")
    assert found["counted"] == pytest.approx(found["computed"], abs=0.01)
    assert found["crossed"][0] != found["turned"][0]
    assert list(found["board"].index) == ["lr", "lr_nocross"]
    assert len(found["worst"]) == 5
    assert plots == 2


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_defines_nothing_and_is_in_databricks_source_format(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Databricks notebook source\n")
    assert len(re.findall(r"^# COMMAND ----------$", text, re.MULTILINE)) > 4
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef, ast.Lambda)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
