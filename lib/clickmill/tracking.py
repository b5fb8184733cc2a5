"""MLflow where the config asks for it: a run for each judged model, its pyfunc, the champion's alias.

A run is found again by the model's digest and the day it was judged on, a version by that digest and the
calibration: a job done again adds no second one, and a champion that is calibrated anew gets a version that is.
The logged model is the artifact's own folder, read by the scorer that needs no Spark: nothing is pickled.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from clickmill import __version__
from clickmill.champion import champion, contenders
from clickmill.config import digest
from clickmill.errors import ClickmillError, PlatformError
from clickmill.models import artifact
from clickmill.models.artifact import CALIBRATION, calibration_of
from clickmill.score import scorer
from clickmill.score.scorer import Scorer

if TYPE_CHECKING:
    import pandas as pd

    from clickmill.config import Mlflow
    from clickmill.job import Run
    from clickmill.scoring import Contender

DIGEST, DAY, CALIBRATED = "clickmill.digest", "clickmill.ds", "clickmill.calibration"
"""Tags by which runs and versions are found again."""
ALIAS = "champion"
MODEL = "model"
"""The folder of a run's pyfuncs among its artifacts, one for each calibration."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # (it would tell its makers of each run)
    # A server that is away is given up after a minute; by MLflow's own settings, after a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
"""MLflow's, unless the environment has others."""


# --- what jobs call ------------------------------------------------------------------------


def judged(run: Run) -> None:
    """Logs what `evaluate` has judged: parameters, metrics, inputs, card, model. Nothing unless asked."""
    figures = {one["model_id"]: one for one in run.result.get("models", ())}

    def log(store: Store) -> None:
        for one in contenders(run.tables, run.ds, run.models):
            store.model(one, run.ds, figures[one.model_id], run.tables.versions_in, run.tables.path)
        run.say(f"mlflow: {len(figures)} models in experiment {store.asked.experiment!r}")

    _beside(run, log)


def decided(run: Run) -> None:
    """Gives the newest champion's version the alias `champion`. Nothing unless asked."""

    def log(store: Store) -> None:
        holder = champion(run.tables, date.max)
        if holder is None:
            return
        if store.crown(holder, run.cfg.dataset.name):
            run.say(f"mlflow: {holder.model_id} has the alias {ALIAS}")
        else:
            run.say(f"mlflow: {holder.model_id} is not logged as it is calibrated now: evaluate does that")

    _beside(run, log)


def reported(run: Run) -> None:
    """Adds the report to the runs of the models that it is about. Nothing unless asked."""

    def log(store: Store) -> None:
        for one in contenders(run.tables, run.ds, run.models) if run.result.get("report") else ():
            store.client.log_artifact(store.run_of(one, run.ds), run.result["report"])

    _beside(run, log)


def _beside(run: Run, log: Callable[[Store], None]) -> None:
    """Logs where the config asks for it. The tables are written by now, and are what counts: of an MLflow that
    fails, in whatever way, there is a warning, in the run's result too, and the job ends as it would without it.
    """
    asked = run.cfg.mlflow
    if asked is None or run.dry_run or run.is_reproduction:
        return
    if importlib.util.find_spec("mlflow") is None:
        raise PlatformError("the config asks for mlflow, which is not installed: `make mlflow` does that")
    try:
        log(Store(asked))
    except ClickmillError:
        raise
    except Exception as error:  # noqa: BLE001  (stores of all kinds raise what they like)
        first = (str(error).strip().splitlines() or [""])[0]
        said = (
            f"mlflow at {asked.tracking_uri} failed, so that it lacks some of this run: "
            f"{type(error).__name__}: {first[:600]}; the tables are whole. "
            "Look whether it can be reached from here (mlflow.tracking_uri), then run the job again to log it"
        )
        run.say(f"warning: {said}")
        run.result["mlflow"] = said


# --- the store -----------------------------------------------------------------------------


class Store:
    """One experiment of a tracking server, or of a file."""

    def __init__(self, asked: Mlflow) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.asked = asked
        self.client = MlflowClient(tracking_uri=asked.tracking_uri, registry_uri=asked.registry_uri)
        found = self.client.get_experiment_by_name(asked.experiment)
        self._experiment = (
            found.experiment_id if found else self.client.create_experiment(asked.experiment, asked.artifacts)
        )

    def run_of(self, one: Contender, ds: date) -> str:
        """The id of the run of a model judged on a day, made where there is none."""
        cut = f"tags.`{DIGEST}` = '{one.digest}' AND tags.`{DAY}` = '{ds}'"
        found = self.client.search_runs([self._experiment], cut, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {DIGEST: one.digest, DAY: str(ds), "clickmill.model_id": one.model_id}
        made = self.client.create_run(self._experiment, run_name=one.model_id, tags=tags)
        return str(made.info.run_id)

    def model(
        self, one: Contender, ds: date, figures: Mapping[str, Any], versions: Mapping[str, int], path_of: Any
    ) -> None:
        """Logs a judged model, and registers it once as it is calibrated."""
        from mlflow.entities import Param

        card, own = artifact.load(one.artifact).card, self.run_of(one, ds)
        said = {"kind": one.kind, "keep_rate": one.keep_rate, "train": card.stretches.get("train"), **card.spec}
        params = [
            Param(key, value if isinstance(value, str) else json.dumps(value)) for key, value in said.items()
        ]
        self.client.log_batch(own, metrics=list(_metrics(figures)), params=params)
        self.client.log_inputs(
            own, [*_inputs(card.tables, path_of, "training"), *_inputs(versions, path_of, "test")]
        )
        words = Path(one.artifact).parent / "card.md"
        if words.is_file():
            self.client.log_artifact(own, str(words))
        name = self.asked.model or str(card.dataset["name"])
        if self._version(name, one) is None:
            self._register(name, one, own)
        self.client.set_terminated(own)

    def crown(self, holder: Contender, dataset: str) -> bool:
        """Whether the champion's version, as it is calibrated now, is there to be given the alias."""
        name = self.asked.model or dataset
        version = self._version(name, holder)
        if version is not None:
            self.client.set_registered_model_alias(name, ALIAS, version)
        return version is not None

    def _version(self, name: str, one: Contender) -> str | None:
        tags = _tags(one).items()
        found = self.client.search_model_versions(f"name = '{name}'")
        return next((str(version.version) for version in found if tags <= version.tags.items()), None)

    def _register(self, name: str, one: Contender, own: str) -> None:
        tags = _tags(one)
        place = f"{MODEL}/{tags[CALIBRATED]}"  # (an earlier version of the same day's keeps its files)
        with tempfile.TemporaryDirectory(prefix="clickmill-mlflow-") as folder:
            save(Path(one.artifact), Path(folder, MODEL))
            self.client.log_artifacts(own, str(Path(folder, MODEL)), place)
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        source = f"{self.client.get_run(own).info.artifact_uri}/{place}"
        self.client.create_model_version(name, source, run_id=own, tags=tags)


def _tags(one: Contender) -> dict[str, str]:
    """What a version's scores hang on: the artifact, and the calibrator that lies beside it now."""
    beside = _calibration(Path(one.artifact))
    told = json.loads(beside.read_text(encoding="utf-8"))["calibrator"] if beside else None
    return {DIGEST: one.digest, CALIBRATED: digest(told) if told else scorer.UNCALIBRATED}


def _metrics(figures: Mapping[str, Any]) -> Iterator[Any]:
    """`ne`, `ne.low`, `ne.high` and so on, where they are known; before any correction as `uncalibrated.ne`."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    told = {f"uncalibrated.{name}": ends for name, ends in figures["metrics_uncalibrated"].items()}
    told |= figures["metrics"] | {"train_seconds": {"value": figures["seconds"]}}
    for name, ends in told.items():
        for end, value in ends.items():
            if value is not None and math.isfinite(value):
                yield Metric(name if end == "value" else f"{name}.{end}", value, now, 0)


def _inputs(versions: Mapping[str, int], path_of: Any, context: str) -> Iterator[Any]:
    """Tables at the versions that were read, as a run's inputs."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for name, version in versions.items():
        source = json.dumps({"path": path_of(name), "delta_table_version": version})
        table = Dataset(name=name, digest=f"version {version}", source_type="delta_table", source=source)
        yield DatasetInput(table, [InputTag("mlflow.data.context", context)])


# --- the model as a pyfunc -----------------------------------------------------------------


def save(folder: Path, place: Path) -> None:
    """Writes an artifact, with the calibration beside it, as an MLflow model in a new folder."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    calibration = _calibration(folder)
    needed = scorer.load(folder, calibration=None if calibration else scorer.UNCALIBRATED).needed
    columns = Schema([ColSpec(AnyType(), name, required=True) for name in needed])
    with tempfile.TemporaryDirectory(prefix="clickmill-mlflow-") as own:
        root = Path(own, "artifact")
        shutil.copytree(folder, root / folder.name)
        if calibration:
            shutil.copy(calibration, root / CALIBRATION)
        mlflow.pyfunc.save_model(
            str(place),
            loader_module=__name__,
            data_path=str(root),
            signature=ModelSignature(columns, Schema([ColSpec("double", "p")])),
            pip_requirements=[f"clickmill=={__version__}"],
        )


def _calibration(folder: Path) -> Path | None:
    """The calibration of an artifact that lies beside it, if there is one of its own."""
    for name in (calibration_of(folder.name), CALIBRATION):
        place = folder.parent / name
        if place.is_file() and json.loads(place.read_text(encoding="utf-8")).get("artifact") in (
            None,
            folder.name,
        ):
            return place
    return None


class Pyfunc:
    """What MLflow calls: columns of the raw log → p, NaN where a row is refused."""

    def __init__(self, own: Scorer) -> None:
        self._scorer = own

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002
        """(n,) p of n rows."""
        raw = {name: pa.array(data[name], from_pandas=True) for name in self._scorer.needed}
        return self._scorer.score(raw).p


def _load_pyfunc(path: str) -> Pyfunc:
    """MLflow's own name for what reads a model's data."""
    root = Path(path)
    there = (root / CALIBRATION).is_file()
    return Pyfunc(scorer.load(root, calibration=None if there else scorer.UNCALIBRATED))
