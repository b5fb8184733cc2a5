"""After drift: models that have learned from the day that drifted, judged on its last hours against the champion.

The daily models learn from days before the one that they are judged on; CLICKMILL_RETRAIN_SETS moves that.
"""

from __future__ import annotations

from airflow.sdk import dag
from click_tasks import events
from click_tasks.settings import Settings
from click_tasks.tasks import defaults, trained_and_judged

SETTINGS = Settings.from_env()
DAY = "{{ drifted_day(triggering_asset_events) }}"


@dag(
    schedule=[events.DRIFT],
    catchup=False,
    max_active_runs=1,
    default_args=defaults(SETTINGS),
    user_defined_macros={"drifted_day": events.drifted_day},
    tags=["clickmill"],
    doc_md=__doc__,
)
def click_models_retrain():
    moved = [part for item in SETTINGS.retrain_sets for part in ("--set", item)]
    trained_and_judged(SETTINGS, ds=DAY, more=moved)


click_models_retrain()
