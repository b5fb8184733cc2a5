"""A job's file reads as one sentence: what is read, one call, what is written."""

from pathlib import Path

import pytest

from clickmill import jobs
from clickmill.errors import ClickmillError, NoSpaceError
from clickmill.job import Job, called, named

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


@pytest.mark.parametrize(
    "said",
    [
        "thrown from the Python worker:\n  File x\nOSError: [Errno 28] No space left on device: '/w/a'",
        "Generic LocalFileSystem error: Unable to sync data to file /w/b: No space left on device (os error 28)",
        "java.io.IOException: Disk quota exceeded\n\tat java.base/sun.nio.ch.FileDispatcherImpl.write0",
    ],
)
def test_a_full_disk_has_a_name_and_no_retry(said: str) -> None:
    error = named(RuntimeError(said))
    assert type(error) is NoSpaceError
    assert error.exit_code == 2
    assert "make room" in str(error)
    assert any(what in str(error) for what in ("No space left on device", "Disk quota exceeded"))
    assert len(str(error).splitlines()) == 1


def test_the_log_of_another_error_is_no_full_disk() -> None:
    assert type(named(RuntimeError("os error 2: No such file; 28 rows"))) is ClickmillError
