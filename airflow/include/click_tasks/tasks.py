"""Tasks that are jobs, on the platform that the settings name; and the part of a day that both DAGs share."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule, chain

from click_tasks import events
from click_tasks.outcome import ByExitCode
from click_tasks.settings import Settings

log = logging.getLogger(__name__)


def defaults(settings: Settings) -> dict[str, Any]:
    """A DAG's `default_args`."""
    return {
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_seconds),
        "retry_policy": ByExitCode(),
        "execution_timeout": timedelta(minutes=settings.timeout_minutes),
        "on_failure_callback": [Alert(settings.alert)],
        "pool": settings.pool,
    }


def job(
    settings: Settings,
    name: str,
    *,
    ds: str,
    task_id: str | None = None,
    models: Sequence[str] = (),
    more: Sequence[str] = (),
    **operator: Any,
) -> Any:
    """A task that runs the job of this name for a day.

    ds: the day, a template. models: names for --models. more: arguments after the others.
    """
    arguments = [part for file in settings.conf for part in ("--conf", file)]
    arguments += [part for item in settings.sets for part in ("--set", item)]
    arguments += ["--ds", ds, *(("--models", ",".join(models)) if models else ()), *more]
    kind = _kind_of_task(settings.platform)
    return kind(job=name, arguments=arguments, settings=settings, task_id=task_id or name, **operator)


def wait_for_the_log(settings: Settings) -> Any:
    """A task that ends so many hours after the day's end as its log may take; no slot is held meanwhile."""
    from airflow.providers.standard.sensors.date_time import DateTimeSensor

    return DateTimeSensor(
        task_id="wait",
        target_time=f"{{{{ logical_date + macros.timedelta(days=1, hours={settings.wait_hours}) }}}}",
        mode="reschedule",
        poke_interval=300,
    )


def trained_and_judged(settings: Settings, *, ds: str, more: Sequence[str] = ()) -> tuple[list[Any], Any]:
    """From the sample to the gate, for each model a task that trains it. The first tasks, and the last."""
    names = [model.name for model in settings.models]
    training = [
        job(
            settings,
            f"train_{model.kind}",
            ds=ds,
            task_id=f"train_{model.name}",
            models=[model.name],
            more=more,
            outlets=[events.MODELS],
        )
        for model in settings.models
    ]
    calibrate = job(settings, "calibrate", ds=ds, models=names, more=more)
    evaluate = job(settings, "evaluate", ds=ds, models=names, more=more)
    promote = job(settings, "promote", ds=ds, models=names, more=more, outlets=[events.NEW_CHAMPION])
    chain(training, calibrate, evaluate, promote)
    return training, promote


def after_the_gate(settings: Settings, *, ds: str) -> Any:
    """The task that looks for drift, also where the gate refused."""
    return job(settings, "monitor", ds=ds, outlets=[events.RETRAIN], trigger_rule=TriggerRule.NONE_FAILED)


class Alert:
    """Says a failure's own words in Airflow's log, and to a program where one is named."""

    def __init__(self, program: str | None) -> None:
        self.program = program

    def __call__(self, context: Any) -> None:
        ti = context["ti"]
        where = f"{ti.dag_id}.{ti.task_id}, run {ti.run_id}, try {ti.try_number}"
        message = f"{where}: {context.get('exception') or 'ended without a word: killed, or lost'}"
        log.error("%s", message)
        if self.program:
            subprocess.run([self.program, message], timeout=60, check=False)


def _kind_of_task(platform: str) -> Any:
    """The other platform's provider need not be there."""
    if platform == "local":
        from click_tasks.on_spark import SparkJob

        return SparkJob
    from click_tasks.on_databricks import DatabricksJob

    return DatabricksJob
