"""A job through spark-submit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from click_tasks.events import announce, metadata
from click_tasks.ledger import ended, sought
from click_tasks.outcome import forget, told, verdict_in
from click_tasks.settings import Settings

CONNECTION = "clickmill_spark"
MASTER = (
    "{% set c = conn."
    + CONNECTION
    + " %}{% set whole = c.conn_type == 'spark' and c.host and ('://' in c.host or not c.port) %}"
    + "{{ c.host if whole else '%s://%s' % (c.conn_type, c.host or '') }}{{ ':%s' % c.port if c.port else '' }}"
)
"""As spark-submit is told it, by the hook's own rule: a job's config must not name another one."""


class SparkJob(SparkSubmitOperator):
    """Runs a job, says its own error where it fails, announces what it made."""

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "result_file", "sought")

    def __init__(self, *, job: str, arguments: list[str], settings: Settings, **kwargs: Any) -> None:
        name = "{{ dag.dag_id }}-{{ run_id }}-{{ ti.task_id }}"
        self.job, self.sought, self.runs = job, sought(job, arguments), settings.runs
        self.result_file = f"{settings.results}/{name}.json" if settings.results else None
        told_to = ["--result-file", self.result_file] if self.result_file else []
        super().__init__(
            application=f"{settings.jobs}/{job}.py",
            application_args=[*arguments, "--set", f"spark.master={MASTER}", *told_to],
            name=f"clickmill {name}",
            conn_id=CONNECTION,
            spark_binary=settings.spark_submit,
            driver_memory=settings.driver_memory,
            conf={"spark.ui.enabled": "false", "spark.log.level": "WARN", **settings.spark_conf},
            **kwargs,
        )

    def execute(self, context: Any) -> dict[str, Any]:
        forget(self.result_file)
        ask = partial(ended, self.runs, self.sought, context["ti"].start_date)
        with told(self.job, self.result_file, ask):
            super().execute(context)
        verdict = verdict_in(self.result_file) or {}
        announce(self.outlets, context["outlet_events"], verdict)
        return metadata(verdict) | {"counts": verdict.get("counts")}
