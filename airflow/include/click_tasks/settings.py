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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
N = TypeVar("N", int, float)
PLATFORMS = ("local", "databricks")
KINDS = ("logreg", "trees_logreg", "wide_deep", "xgboost")
"""Kinds of models: for each there is a job train_KIND."""
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
    wait_hours: float
    """Hours after a day's end at which its log is there."""
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
    runs: str | None
    """The table `runs`, which is asked where there is no verdict and the platform tells of a failure."""
    databricks: Mapping[str, Any]
    """Fields of a Databricks task that say on what it runs."""

    @classmethod
    def from_env(cls) -> Settings:
        """Raises ValueError, naming the variable, for what is not as it should be."""
        platform = _one_of("PLATFORM", "local", {name: name for name in PLATFORMS})
        home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().absolute()
        start = _read("START", "2026-01-01", _day, "a day, YYYY-MM-DD")
        return cls(
            platform=platform,
            conf=_list("CONF", "datasets/simulated.yaml", _some, "config files", least=1),
            sets=_list("SETS", "", _item, "SECTION.KEY=VALUE"),
            models=_models("lr:logreg lr_nocross:logreg"),
            simulate=_one_of("SIMULATE", "0", {"0": False, "1": True}),
            wait_hours=_number("WAIT_HOURS", "0", float, 0, 24),
            retrain_sets=_list("RETRAIN_SETS", "split.validation=6h split.test=6h", _item, "SECTION.KEY=VALUE"),
            start=start,
            end=_read("END", "", partial(_day_from, start), f"a day from CLICKMILL_START={start} on, or nothing"),
            pool=_read("POOL", "clickmill", _some, "a pool's name"),
            retries=_number("RETRIES", "2", int, 0, 100),
            retry_seconds=_number("RETRY_SECONDS", "60", float, 0, 86_400),
            timeout_minutes=_number("TIMEOUT_MINUTES", "120", float, 0.1, 100_000),
            alert=_get("ALERT", "").strip() or None,
            jobs=_read("JOBS", str(_CHECKOUT / "jobs"), _some, "a folder"),
            spark_submit=_read(
                "SPARK_SUBMIT", str(_CHECKOUT / "airflow" / "bin" / "spark-submit"), _some, "a program"
            ),
            spark_conf=dict(_list("SPARK_CONF", "", _pair, "KEY=VALUE, where KEY begins with spark.")),
            driver_memory=_read("DRIVER_MEMORY", "3g", _memory, "a heap's size, such as 3g or 3500m"),
            results=_read(
                "RESULTS",
                f"{home}/results" if platform == "local" else "",
                _folder,
                "an absolute path, or nothing",
            ),
            runs=_get("RUNS", "").strip() or None,
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


def _one_of(name: str, default: str, meaning: Mapping[str, T]) -> T:
    text = _get(name, default)
    if text not in meaning:
        raise ValueError(f"CLICKMILL_{name}={text!r}: write one of {', '.join(meaning)}")
    return meaning[text]


def _number(name: str, default: str, kind: Callable[[str], N], least: float, most: float) -> N:
    def read(text: str) -> N:
        found = kind(text)
        if not least <= found <= most:  # (nor is nan)
            raise ValueError(text)
        return found

    noun = "a whole number" if kind is int else "a number"
    return _read(name, default, read, f"{noun} from {least:g} to {most:g}")


def _list(name: str, default: str, read: Callable[[str], T], allowed: str, *, least: int = 0) -> tuple[T, ...]:
    """What `read` makes of each part. allowed: what a part may be. least: so many parts must be there."""
    parts = _read(name, default, shlex.split, "a list as in a shell, its quotes closed")
    if len(parts) < least:
        raise ValueError(f"CLICKMILL_{name}={_get(name, default)!r}: write {allowed}, {least} at least")
    found = []
    for part in parts:
        try:
            found.append(read(part))
        except ValueError:
            raise ValueError(f"CLICKMILL_{name}: {part!r}: write {allowed}") from None
    return tuple(found)


def _models(default: str) -> tuple[Model, ...]:
    models = _list("MODELS", default, _model, f"NAME:KIND, where KIND is one of {', '.join(KINDS)}", least=1)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"CLICKMILL_MODELS: {name!r} is there {names.count(name)} times: write each name once"
            )
    return models


def _model(text: str) -> Model:
    found = re.fullmatch(r"(\w+):(\w+)", text)
    if not found or found[2] not in KINDS:
        raise ValueError(text)
    return Model(found[1], found[2])


def _some(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text


def _item(text: str) -> str:
    if text.find("=") < 1:
        raise ValueError(text)
    return text


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.startswith("spark."):  # (spark-submit would pass over another with a warning)
        raise ValueError(text)
    return key, value


def _day(text: str) -> date:
    found = date.fromisoformat(text)
    if found.isoformat() != text:  # (a week's day, or without its hyphens)
        raise ValueError(text)
    return found


def _day_from(start: date, text: str) -> date | None:
    found = _day(text) if text else None
    if found and found < start:
        raise ValueError(text)
    return found


def _memory(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[kmgtKMGT]", text):
        raise ValueError(text)
    return text


def _folder(text: str) -> str | None:
    """Absolute: a job's working directory is not Airflow's."""
    if text and not Path(text).is_absolute():
        raise ValueError(text)
    return text or None


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return found
