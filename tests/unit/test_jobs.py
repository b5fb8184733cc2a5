"""A job's file reads as one sentence: what is read, one call, what is written."""

from pathlib import Path

import pytest

from clickmill import jobs
from clickmill.job import Job, called

FILES = sorted(Path(jobs.__path__[0]).glob("[a-z]*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_job_is_one_sentence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    for import_of_others in ("import numpy", "import pyarrow", "pyspark"):
        assert import_of_others not in text


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_a_job_is_found_by_its_name(name: str) -> None:
    assert isinstance(called(name), Job)
    assert called(name).name == name
