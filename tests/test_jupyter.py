"""`make notebooks`: each notebook's cells, one for one, as Jupyter has them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="jupytext, which brings it, is not installed (make setup)")

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


def cells(source: str) -> list[tuple[str, str]]:
    """Kind and text of the cells of a notebook in Databricks' format, by its own rules."""
    head, _, body = source.partition("\n")
    assert head == "# Databricks notebook source"
    found = []
    for cell in re.split(r"^# COMMAND -+$", body, flags=re.MULTILINE):
        lines = cell.strip("\n").splitlines()
        if lines[0] == "# MAGIC %md":
            found.append(
                ("markdown", "\n".join(line.removeprefix("# MAGIC").removeprefix(" ") for line in lines[1:]))
            )
        else:
            found.append(("code", "\n".join(lines)))
    return found


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("note books")
    subprocess.run(["make", "--silent", "notebooks", f"NOTEBOOKS={folder}"], cwd=ROOT, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_for_jupyter_has_the_cells_of_its_source(converted: Path, name: str) -> None:
    found = nbformat.read(converted / f"{name}.ipynb", as_version=4)
    nbformat.validate(found)
    assert len(NAMES) == 5
    told = [(cell.cell_type, cell.source) for cell in found.cells]
    assert told == cells((ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in found.cells)
