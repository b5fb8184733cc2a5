"""A job's file reads as one sentence: what is read, one call, what is written."""

from datetime import date
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clickmill import cli, jobs
from clickmill.errors import ClickmillError, NoSpaceError
from clickmill.job import Job, called, day_of, named

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


DAYS = {
    "2026-11-26": date(2026, 11, 26),
    "2026-11-26-0d": date(2026, 11, 26),
    "2026-11-26-1d": date(2026, 11, 25),
    "2026-03-01-1d": date(2026, 2, 28),
    "2026-01-05-10d": date(2025, 12, 26),
}


@pytest.mark.parametrize(("text", "day"), DAYS.items(), ids=DAYS.keys())
def test_a_day_may_be_told_as_another_less_some_days(text: str, day: date) -> None:
    assert day_of(text) == day


NO_DAYS = [
    "yesterday",
    "2026-11-31",
    "2026-11-26-d",
    "2026-11-26-1",
    "2026-11-26--1d",
    "2026-11-26+1d",
    "2026-11-26-1d-1d",
    "2026-11-26-1d ",
    "2026-1-5",
    "20261126",
    "2026-W48-4",
    "2026-11-26-99999999d",
    "-1d",
    "",
]


@pytest.mark.parametrize("text", NO_DAYS)
def test_what_is_no_day_is_told_with_what_is_one(text: str) -> None:
    with pytest.raises(typer.BadParameter) as told:
        day_of(text)
    assert str(told.value) == f"{text!r} is not a day: write YYYY-MM-DD, or that less some days: 2026-11-26-1d"


@pytest.mark.parametrize("words", [["run", "ingest"], ["compare"], ["models", "list"], ["models", "champion"]])
def test_help_says_how_a_day_is_written(words: list[str]) -> None:
    told = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "200"}).output
    assert "2026-11-26-1d" in told


@pytest.mark.parametrize(
    ("job", "arguments", "said"),
    [
        ("train_logreg", ["--days", "3"], "--days 3: train_logreg has no use for it"),
        ("monitor", ["--models", "lr,lr_nocross"], "--models lr,lr_nocross: monitor has no use for it"),
        ("ingest", ["--models", "lr"], "--models lr: ingest has no use for it"),
    ],
)
def test_what_a_job_has_no_use_for_is_not_taken_in_silence(job: str, arguments: list[str], said: str) -> None:
    words = ["run", job, "--conf", "datasets/simulated.yaml", "--ds", "2026-01-14", *arguments]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 2
    assert said in done.output


def test_a_command_with_no_day_ends_with_exit_2() -> None:
    done = CliRunner().invoke(cli.app, ["run", "ingest", "--ds", "2026-11-26-1w"])
    assert done.exit_code == 2
    assert "--ds" in done.output
    assert "2026-11-26-1d" in done.output
