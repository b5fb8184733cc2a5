"""A job as a Databricks run of the wheel, whose entry point `clickmill` takes the same arguments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator

from click_tasks.events import announce, metadata
from click_tasks.ledger import ended, sought
from click_tasks.outcome import told, verdict_in
from click_tasks.settings import Settings

CONNECTION = "clickmill_databricks"


class DatabricksJob(DatabricksSubmitRunOperator):
    """Runs a job, says its own error where it fails, announces what it made."""

    template_fields: Sequence[str] = (*DatabricksSubmitRunOperator.template_fields, "result_file", "sought")

    def __init__(self, *, job: str, arguments: list[str], settings: Settings, **kwargs: Any) -> None:
        self.job, self.sought, self.runs = job, sought(job, arguments), settings.runs
        name = "{{ dag.dag_id }}-{{ run_id }}-{{ ti.task_id }}"
        self.result_file = f"{settings.results}/{name}-{{{{ ti.try_number }}}}.json" if settings.results else None
        told_to = ["--result-file", self.result_file] if self.result_file else []
        wheel = {
            "package_name": "clickmill",
            "entry_point": "clickmill",
            "parameters": ["run", job, *arguments, *told_to],
        }
        super().__init__(
            json={
                "run_name": f"clickmill {name}",
                "idempotency_token": "{{ ti.id }}",
                "tasks": [{"task_key": kwargs["task_id"], "python_wheel_task": wheel, **settings.databricks}],
            },
            databricks_conn_id=CONNECTION,
            deferrable=True,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        self.params = {}  # (rendered by now; the provider would hand a DAG's params to the wheel once more)
        with self._told(context):
            super().execute(context)
        return self._done(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        with self._told(context):
            super().execute_complete(context, event)
        return self._done(context)

    def _told(self, context: Any) -> Any:
        ask = partial(ended, self.runs, self.sought, context["ti"].start_date)
        return told(self.job, self.result_file, ask)

    def _done(self, context: Any) -> dict[str, Any]:
        verdict = verdict_in(self.result_file) or {}
        announce(self.outlets, context["outlet_events"], verdict)
        return metadata(verdict) | {"counts": verdict.get("counts")}
