"""What the DAGs are told: environment variables, read as a DAG file is parsed (docs/airflow.md has the table).

A list is written as in a shell: spaces between, quotes around what has spaces in it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
PLATFORMS = ("local", "databricks")
LOOKING_BACK = ("xgboost", "trees_logreg")
"""Kinds of models that read `encodings`."""
_CHECKOUT = Path(__file__).resolve().parents[3]


class Model(NamedTuple):
    """A model by its name in the config; its kind says which job trains it."""

    name: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says."""

    platform: str
    conf: tuple[str, ...]
    """Config files, for --conf."""
    sets: tuple[str, ...]
    """Items for --set."""
    models: tuple[Model, ...]
    simulate: bool
    """Whether a task writes the day's log first."""
    retrain_sets: tuple[str, ...]
    """Items for --set, in click_models_retrain on top of the others."""
    start: date
    end: date | None
    pool: str
    retries: int
    retry_seconds: float
    timeout_minutes: float
    alert: str | None
    """A program that is given the message of each failure."""
    jobs: str
    """The folder of the jobs, for spark-submit."""
    spark_submit: str
    spark_conf: Mapping[str, str]
    driver_memory: str
    results: str | None
    """A folder that both the job and Airflow see, where each job leaves its verdict."""
    databricks: Mapping[str, Any]
    """Fields of a Databricks task that say on what it runs."""

    @classmethod
    def from_env(cls) -> Settings:
        """Raises ValueError, naming the variable, for what is not as it should be."""
        platform = _get("PLATFORM", "local")
        if platform not in PLATFORMS:
            raise ValueError(f"CLICKMILL_PLATFORM={platform!r}: write one of {', '.join(PLATFORMS)}")
        home = os.environ.get("AIRFLOW_HOME", str(Path.home() / "airflow"))
        return cls(
            platform=platform,
            conf=_words("CONF", "datasets/simulated.yaml"),
            sets=_words("SETS", ""),
            models=tuple(_model(text) for text in _words("MODELS", "lr:logreg lr_nocross:logreg")),
            simulate=_read("SIMULATE", "0", lambda text: bool(int(text)), "0 or 1"),
            retrain_sets=_words("RETRAIN_SETS", "split.validation=6h split.test=6h"),
            start=_read("START", "2026-01-01", date.fromisoformat, "a day, YYYY-MM-DD"),
            end=_read("END", "", _day_or_none, "a day, YYYY-MM-DD, or nothing"),
            pool=_get("POOL", "clickmill"),
            retries=_read("RETRIES", "2", int, "a whole number"),
            retry_seconds=_read("RETRY_SECONDS", "60", float, "a number"),
            timeout_minutes=_read("TIMEOUT_MINUTES", "120", float, "a number"),
            alert=_get("ALERT", "") or None,
            jobs=_get("JOBS", str(_CHECKOUT / "jobs")),
            spark_submit=_get("SPARK_SUBMIT", str(_CHECKOUT / "airflow" / "bin" / "spark-submit")),
            spark_conf=dict(_pair(text) for text in _words("SPARK_CONF", "")),
            driver_memory=_get("DRIVER_MEMORY", "3g"),
            results=_get("RESULTS", f"{home}/results" if platform == "local" else "") or None,
            databricks=_read("DATABRICKS", "{}", _object, "a JSON object"),
        )

    @property
    def looks_back(self) -> bool:
        """Whether a model needs values to be counted."""
        return any(model.kind in LOOKING_BACK for model in self.models)


def _get(name: str, default: str) -> str:
    return os.environ.get(f"CLICKMILL_{name}", default)


def _read(name: str, default: str, read: Callable[[str], T], allowed: str) -> T:
    text = _get(name, default)
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"CLICKMILL_{name}={text!r}: write {allowed}") from None


def _words(name: str, default: str) -> tuple[str, ...]:
    return _read(name, default, lambda text: tuple(shlex.split(text)), "a list as in a shell, its quotes closed")


def _model(text: str) -> Model:
    found = re.fullmatch(r"(\w+):([a-z_]+)", text)
    if not found:
        raise ValueError(f"CLICKMILL_MODELS: {text!r}: write NAME:KIND, such as lr:logreg")
    return Model(*found.groups())


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"CLICKMILL_SPARK_CONF: {text!r}: write KEY=VALUE")
    return key, value


def _day_or_none(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return found
