"""The jobs of a pipeline, in order: the days that are missing or stale, then models, calibration and the judge."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from clickmill.errors import NoRowsError
from clickmill.job import Run, called, perform_within, window_days
from clickmill.staleness import stale_runs

DAY_JOBS = ("simulate", "ingest", "build_features", "downsample")
TRAINING = {
    "logreg": "train_logreg",
    "xgboost": "train_xgboost",
    "trees_logreg": "train_trees_logreg",
    "wide_deep": "train_wide_deep",
}
"""The job that trains each kind of model."""


def perform_chain(run: Run) -> bool:
    """Performs them as runs of their own; False where a dry run ended after the first."""
    for part, title in chain(_days(run), _window(run)):
        with run.progress.step(title):
            _perform(run, part)
        if run.dry_run:
            run.say("the dry run ends here: what follows needs what this would write")
            return False
    return True


def _perform(run: Run, part: Run) -> None:
    """Performs `part`; without days that models only look back to, now and later, where the raw log lacks them."""
    try:
        perform_within(run, part)
    except NoRowsError as error:
        if not error.days or set(error.days) & set(run.days[-window_days(run.cfg, ()) :]):
            raise
        lacking = ", ".join(map(str, error.days))
        run.say(f"warning: {error}; models look back to {lacking}, and know less without")
        run.days = tuple(day for day in run.days if day not in error.days)
        left = [day for day in part.days if day in run.days]
        if left:
            perform_within(run, run.sibling(part.job, left))


def _days(run: Run) -> Iterator[tuple[Run, str]]:
    """Values are counted where a model looks back to them."""
    producers = [called(name) for name in DAY_JOBS]
    needed = producers if run.cfg.simulated else producers[1:]
    if any(run.cfg.reach(name) for name in run.models):
        needed = [*needed, called("encode")]
    return stale_runs(run, needed, producers=producers)


def _window(run: Run) -> Iterator[tuple[Run, str]]:
    """The training of each kind of model that there is, then what is done for all of them at once."""
    for kind, job in TRAINING.items():
        names = [name for name in run.models if run.cfg.models[name].kind == kind]
        if names:
            yield run.sibling(called(job)), f"{job} of {', '.join(names)}"
    for job in ("calibrate", "evaluate"):
        yield run.sibling(called(job)), f"{job} of {', '.join(run.models)}"
