"""The end of a pipeline: leaderboard and verdict on standard output, the report in its file."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

import clickmill
from clickmill.job import Run
from clickmill.report.data import RunInfo
from clickmill.report.driver import collect, save
from clickmill.report.terminal import differences, leaderboard


def publish(run: Run, model_ids: tuple[str, ...]) -> None:
    """Prints the judged models of the day and writes the page; `run.result["report"]` says where it lies.

    With --json nothing is printed: standard output belongs to the one object.
    """
    info = RunInfo(run.run_id, clickmill.__version__, run.cfg.digest(), datetime.now(UTC).replace(tzinfo=None))
    data = collect(
        run.tables,
        ds=run.ds,
        days=run.days,
        dataset=run.cfg.dataset.name,
        run=info,
        stretches={name: tuple(stretch) for name, stretch in run.stretches()._asdict().items()},
        model_ids=model_ids,
        decision=run.result["decision"],
    )
    path = save(data, run.cfg.report_path(run.ds))
    run.result["report"] = path
    if not run.progress.quiet:
        Console().print(leaderboard(data))
        plain = Console(soft_wrap=True, highlight=False, markup=False)
        for line in (*differences(data), *(run.result["decision"] or {"sentences": ()})["sentences"]):
            plain.print(line)
        plain.print(f"report: {path}")
