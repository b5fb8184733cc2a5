"""Of every day that has ended: its log → features → sample → models → judge → gate; then whether it has drifted.

A day can be run again alone and gives the same tables; days that train need the days of their window before them.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import CronDataIntervalTimetable, Param, chain, dag
from click_tasks import events
from click_tasks.settings import Settings
from click_tasks.tasks import after_the_gate, defaults, job, trained_and_judged, wait_for_the_log

SETTINGS = Settings.from_env()
DAY = "{{ ds }}"
"""A scheduled run's is the day that has ended; a backfill's and a test's is the one that was asked for."""
DAYS = ["--days", "{{ params.days }}"]


def utc(day):
    return day and pendulum.datetime(day.year, day.month, day.day, tz="UTC")


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=utc(SETTINGS.start),
    end_date=utc(SETTINGS.end),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(SETTINGS),
    params={"days": Param(1, type="integer", minimum=1, description="How many days to make, the run's the last")},
    tags=["clickmill"],
    doc_md=__doc__,
)
def click_models_daily():
    wait = [wait_for_the_log(SETTINGS)] if SETTINGS.wait_hours else []
    simulate = [job(SETTINGS, "simulate", ds=DAY, more=DAYS)] if SETTINGS.simulate else []
    ingest = job(SETTINGS, "ingest", ds=DAY, more=DAYS)
    features = job(SETTINGS, "build_features", ds=DAY, more=DAYS, outlets=[events.FEATURES])
    encode = [job(SETTINGS, "encode", ds=DAY, more=DAYS)] if SETTINGS.looks_back else []
    downsample = job(SETTINGS, "downsample", ds=DAY, more=DAYS)
    training, promote = trained_and_judged(SETTINGS, ds=DAY)
    chain(*wait, *simulate, ingest, features, *encode, downsample, training)
    promote >> after_the_gate(SETTINGS, ds=DAY)


click_models_daily()
