"""How every job runs: arguments → config → session → main → a row in `runs` and an exit code.

`clickmill run X`, `python -m clickmill.jobs.X` and `spark-submit jobs/X.py` all end in `Job.run`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import secrets
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote

import typer

from clickmill import errors
from clickmill.config import Config
from clickmill.config_files import load
from clickmill.errors import ClickmillError, InputError, NoSpaceError, RankError, UsageError
from clickmill.progress import Progress
from clickmill.specs import duration

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickmill.split import Stretches
    from clickmill.tables import Tables

DAY = "YYYY-MM-DD, or that less some days: 2026-11-26-1d"
"""How --ds is written."""
WorksOn = Literal["days", "window", "rows"]
Choice = Literal["--days", "--models"]
CHOICES: dict[WorksOn, tuple[Choice, ...]] = {
    "days": ("--days",),
    "window": ("--models",),
    "rows": ("--days", "--models"),
}
_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:-([0-9]+)d)?")
_NAMED = re.compile(r"clickmill\.errors\.(\w+): (.*?)(?:\n|$)", re.DOTALL)
_UNREADABLE = re.compile(
    r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (?:file:/*(?=/))?(.+?)\.\s"
)
_FULL = re.compile(r"^.*(?:No space left on device|Disk quota exceeded|os error 28\b).*$", re.MULTILINE)


@dataclass(frozen=True)
class Arguments:
    """What the command line of every job says."""

    conf: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    ds: date | None = None
    days: int | None = None
    models: tuple[str, ...] = ()
    rollback: str | None = None
    overfit_check: bool = False
    dry_run: bool = False
    json: bool = False
    result_file: str | None = None


@dataclass
class Run:
    """One run of one job: what its `main` is given."""

    job: Job
    cfg: Config
    spark: SparkSession
    tables: Tables
    run_id: str
    ds: date
    days: tuple[date, ...]
    models: tuple[str, ...]
    dry_run: bool
    progress: Progress
    rollback: str | None = None
    """The champion that `promote` is to put back."""
    overfit_check: bool = False
    """Whether networks are to learn a few rows by heart, and nothing else."""
    is_reproduction: bool = False
    """Whether its tables are only made to be compared: nothing beside a model is to change."""
    counts: dict[str, int] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A line of progress."""
        self.progress.say(text)

    def count(self, **rows: int) -> None:
        """Adds to the run's `rows_in`, `rows_out`, `rejected`, `other_day`."""
        for name, number in rows.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def stretches(self) -> Stretches:
        """Train, validation and test time that end with the last hour on `ds` in `features` (else in `sample`)."""
        from clickmill.split import stretches

        sampled = self.tables.exists("sample") and not self.tables.exists("features")
        last = self.tables.last_time("sample" if sampled else "features", self.ds)
        return stretches(self.cfg.split, last)

    def sibling(self, job: Job, days: Sequence[date] | None = None, *, quiet: bool = False) -> Run:
        """A run of another job in the same session, with the same arguments."""
        from clickmill.tables import Tables

        run_id = new_run_id()
        return Run(
            job=job,
            cfg=self.cfg,
            spark=self.spark,
            tables=Tables(self.spark, self.cfg.warehouse_path, run_id=run_id, dry_run=self.dry_run),
            run_id=run_id,
            ds=self.ds,
            days=self.days if days is None else tuple(days),
            models=self.models,
            dry_run=self.dry_run,
            progress=Progress(quiet=True) if quiet else self.progress,
        )


@dataclass(frozen=True)
class Job:
    """A job's name, what it does, and what its result hangs on (so that a stale day can be told)."""

    name: str
    main: Callable[[Run], None]
    works_on: WorksOn
    reads: str | None = None
    """The table that a day of its result is made from."""
    writes: str | None = None
    """The table whose days it makes."""
    config: tuple[str, ...] = ()
    """The parts of the config (dotted) that its result hangs on."""
    choices: tuple[Choice, ...] | None = None
    """Those that it has a use for, where they are not those of what it works on."""

    def run(self, argv: Sequence[str] | None = None) -> None:
        """Runs the job with a command line (sys.argv unless given) and exits with its code."""
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        doc = sys.modules[self.main.__module__].__doc__ or ""
        app.command(help=job_help(self.name, doc))(command(lambda: self))
        app(args=None if argv is None else list(argv), prog_name=f"clickmill run {self.name}")


def called(name: str) -> Job:
    """The job of a file in jobs/, imported now: with it come the libraries that it works with."""
    job: Job = importlib.import_module(f"clickmill.jobs.{name}").JOB
    return job


def job_help(name: str, doc: str) -> str:
    """A job's own words, and an example."""
    example = f"clickmill run {name} --conf conf/datasets/simulated.yaml --ds 2026-01-10"
    return f"{doc.strip()}\n\nExample:\n\n{example}"


def command(load_job: Callable[[], Job]) -> Callable[..., None]:
    """The command-line form of a job, imported when it runs: the same arguments for each."""

    def run(
        conf: Annotated[list[str] | None, typer.Option(help="A config file; may be repeated, later wins.")] = None,
        set_: Annotated[
            list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")
        ] = None,
        ds: Annotated[str | None, typer.Option(help=f"The day, {DAY}.")] = None,
        days: Annotated[int | None, typer.Option(min=1, help="Day jobs: so many days, ending with --ds.")] = None,
        models: Annotated[str | None, typer.Option(help="Window jobs: names of models, with commas.")] = None,
        rollback: Annotated[
            str | None, typer.Option(help="promote: the champion to put back, by its id, or `previous`.")
        ] = None,
        overfit_check: Annotated[
            bool, typer.Option("--overfit-check", help="train_wide_deep: learn a few rows by heart, keep nothing.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
        result_file: Annotated[str | None, typer.Option(help="Write the verdict there, as JSON.")] = None,
    ) -> None:
        arguments = Arguments(
            conf=tuple(conf or ()),
            set=tuple(set_ or ()),
            ds=day_of(ds),
            days=days,
            models=names_of(models),
            rollback=rollback,
            overfit_check=overfit_check,
            dry_run=dry_run or overfit_check,
            json=as_json,
            result_file=_writable(result_file),
        )
        raise typer.Exit(execute(load_job(), arguments))

    return run


def execute(job: Job, arguments: Arguments) -> int:
    """Runs the job and returns its exit code; every error that it may end with is told on standard error.

    Where that and the object of --json would lie on one stream the object alone tells it.
    """
    _die_with_the_jvm()
    verdict, error = verdict_of(job, arguments)
    if error is not None and not _is_output_shared(arguments):
        _tell(error)
    text = json.dumps(verdict, default=str)
    if arguments.result_file:
        Path(arguments.result_file).write_text(f"{text}\n", encoding="utf-8")
    if arguments.json:
        print(text)
    return error.exit_code if error else errors.EXIT_DONE


def verdict_of(job: Job, arguments: Arguments) -> tuple[dict[str, Any], ClickmillError | None]:
    """Runs the job: what `--json` prints, and the error that it ended with."""
    progress = Progress(quiet=arguments.json)
    run: Run | None = None
    error: ClickmillError | None = None
    try:
        run = _prepare(job, arguments, progress)
        perform(run)
    except Exception as raised:  # noqa: BLE001  (the outermost door: every failure becomes an exit code)
        error = named(raised)
        if type(error) is ClickmillError and not _is_output_shared(arguments):
            traceback.print_exception(raised)
    code = error.exit_code if error else errors.EXIT_DONE
    return _verdict(job, run, code, error), error


def perform(run: Run) -> None:
    """Runs the job's main between the two rows of `runs` that say it started and how it ended."""
    from clickmill.runs import Ledger

    if run.dry_run:
        run.job.main(run)
        return
    ledger = Ledger(run.tables, run.job.name, run.cfg, run.ds, run.days, models=run.models, parts=run.job.config)
    ledger.start()
    try:
        run.job.main(run)
    except BaseException as raised:
        error = named(raised)
        try:
            ledger.end("refused" if error.exit_code == errors.EXIT_REFUSED else "failed", run.counts, error)
        except Exception as second:  # noqa: BLE001  (what the job itself died of is the error to tell)
            run.say(f"the run's last row could not be written: {type(second).__name__}: {second}")
        raise
    ledger.end("done", run.counts)


def perform_within(run: Run, part: Run) -> None:
    """Performs `part` as a run of its own; its result and table versions are the whole's too."""
    try:
        perform(part)
    finally:
        run.result |= part.result
        run.tables.versions_in |= part.tables.versions_in
        run.tables.versions_out |= part.tables.versions_out


def named(raised: BaseException) -> ClickmillError:
    """The error as one of ours: what a worker raised by name comes back by that name, a file that Spark cannot
    read as InputError, a full disk as NoSpaceError."""
    full = _FULL.search(str(raised))
    if isinstance(raised, ClickmillError) and not (full and type(raised) is RankError):
        return raised
    found = _NAMED.search(str(raised))
    kind = getattr(errors, found[1], None) if found else None
    if found and isinstance(kind, type) and issubclass(kind, ClickmillError):
        return kind(found[2].strip())
    unreadable = _UNREADABLE.search(str(raised))
    if unreadable:
        return InputError(
            f"{unquote(unreadable[1])}: damaged, or not of the format that it is read as; fetch it again"
        )
    if full:
        return NoSpaceError(
            f"{full[0].strip()[:300]}; make room there and run the job again: what was written is in no table"
        )
    first = str(raised).strip().splitlines()[:1]
    return ClickmillError(f"{type(raised).__name__}: {first[0] if first else ''}")


def new_run_id() -> str:
    """Time (UTC) and chance: sorts by start, never repeats."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _prepare(job: Job, arguments: Arguments, progress: Progress) -> Run:
    cfg = load(arguments.conf, arguments.set)
    if arguments.ds is None:
        raise UsageError("--ds is missing: name the day, such as --ds 2026-01-10")
    unknown = [name for name in arguments.models if name not in cfg.models]
    if unknown:
        known = f"which has {', '.join(cfg.models) or 'none'}{errors.nearest(unknown[0], cfg.models)}"
        raise UsageError(f"--models {','.join(unknown)}: not in the config, {known}")
    choices = CHOICES[job.works_on] if job.choices is None else job.choices
    for choice, given in (("--days", arguments.days), ("--models", arguments.models)):
        if given and choice not in choices:
            what = given if choice == "--days" else ",".join(arguments.models)
            raise UsageError(f"{choice} {what}: {job.name} has no use for it")
    if arguments.rollback is not None and job.name != "promote":
        raise UsageError(f"--rollback {arguments.rollback}: only promote puts a champion back")
    if arguments.overfit_check and job.name != "train_wide_deep":
        raise UsageError("--overfit-check: only train_wide_deep knows what that is")
    from clickmill.session import get_spark
    from clickmill.tables import Tables

    spark = get_spark(cfg.spark, app=f"clickmill {job.name}")
    run_id = new_run_id()
    return Run(
        job=job,
        cfg=cfg,
        spark=spark,
        tables=Tables(spark, cfg.warehouse_path, run_id=run_id, dry_run=arguments.dry_run),
        run_id=run_id,
        ds=arguments.ds,
        days=_days(job, cfg, arguments),
        models=arguments.models or tuple(cfg.models),
        dry_run=arguments.dry_run,
        progress=progress,
        rollback=arguments.rollback,
        overfit_check=arguments.overfit_check,
    )


def _days(job: Job, cfg: Config, arguments: Arguments) -> tuple[date, ...]:
    assert arguments.ds is not None
    count = arguments.days
    if count is None:
        count = window_days(cfg, arguments.models or tuple(cfg.models)) if job.works_on == "window" else 1
    return tuple(arguments.ds - timedelta(days=back) for back in reversed(range(count)))


def window_days(cfg: Config, names: Sequence[str]) -> int:
    """How many days the three stretches of the split touch where the last hour on `--ds` is the day's last, and
    those before them that the models by these names look back to.

    Where it is not, train time begins within the day before these: training says so if that day is not there.
    """
    split = cfg.split
    whole = sum((duration(t) for t in (split.train, split.validation, split.test, split.label_delay)), timedelta())
    reach = max((cfg.reach(name) for name in names), default=timedelta())
    return -(-(whole + 2 * duration(split.gap) + reach) // timedelta(days=1))


def names_of(text: str | None) -> tuple[str, ...]:
    """The names of models that --models lists."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def day_of(text: str | None) -> date | None:
    """The day that --ds says: itself, or less some days, for schedulers that only know the day that has begun.

    Raises BadParameter, which ends the command with exit 2.
    """
    try:
        return None if text is None else told_day(text)
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint="--ds") from None


def told_day(text: str) -> date:
    """As `day_of`. Raises UsageError."""
    found = _DAY.fullmatch(text)
    try:
        return date.fromisoformat(found[1] if found else "") - timedelta(days=int((found and found[2]) or 0))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a day: write {DAY}") from None


def _writable(path: str | None) -> str | None:
    """A verdict that cannot be written is told before the work, not after it."""
    try:
        if path is not None:
            Path(path).touch()
    except OSError as error:
        hint = "--result-file"
        raise typer.BadParameter(f"{path!r} cannot be written: {error.strerror}", param_hint=hint) from None
    return path


def _verdict(job: Job, run: Run | None, code: int, error: ClickmillError | None) -> dict[str, Any]:
    verdict: dict[str, Any] = {"run_id": run.run_id if run else None, "job": job.name, "exit_code": code}
    verdict["error"] = None if error is None else {"name": type(error).__name__, "message": str(error)}
    if run is not None:
        verdict |= {"ds": run.ds, "tables": run.tables.versions_in | run.tables.versions_out}
        verdict |= {"counts": run.counts, **run.result}
    return verdict


def _is_output_shared(arguments: Arguments) -> bool:
    """spark-submit puts standard error on standard output, which belongs to the object of --json."""
    return arguments.json and "PYSPARK_GATEWAY_PORT" in os.environ


def _tell(error: ClickmillError) -> None:
    print(f"clickmill: {type(error).__name__}: {error}", file=sys.stderr)
    session = sys.modules.get("clickmill.session")
    if (
        type(error) in (ClickmillError, errors.NoSparkError)
        and session is not None
        and session.spark_log_file().exists()
    ):
        print(f"clickmill: Spark's own log is {session.spark_log_file()}", file=sys.stderr)


def _die_with_the_jvm() -> None:
    """Under spark-submit: a driver whose JVM was killed must not go on writing beside the retry."""
    if sys.platform != "linux":
        return
    import psutil

    parent = psutil.Process().parent()
    if parent is not None and parent.name() == "java":
        ctypes.CDLL("libc.so.6", use_errno=True).prctl(1, signal.SIGKILL)
