"""MLflow, the real one with a store in a file: what is logged of a judged model, and what its pyfunc says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from judged_day import DATASET, DS, VALUES, save_model
from running import prepared

from clickmill.calibration import Calibrator
from clickmill.config import Config, Mlflow
from clickmill.config_files import load
from clickmill.errors import ConfigError, MissingTableError
from clickmill.job import Job, Run
from clickmill.score import scorer
from clickmill.scoring import Contender
from clickmill.tables import Tables

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (make mlflow)")

from clickmill import tracking

FIGURES: dict[str, Any] = {
    "metrics": {"ne": {"value": 0.9, "low": 0.88, "high": 0.92}, "auc": {"value": 0.7, "low": None, "high": None}},
    "metrics_uncalibrated": {"ne": {"value": 1.5, "low": 1.4, "high": float("nan")}},
    "seconds": 2.5,
}
EVALUATE = Job("evaluate", tracking.judged, works_on="window")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tracking.Store:
    folder = tmp_path_factory.mktemp("ml flow")
    asked = Mlflow(tracking_uri=f"sqlite:///{folder}/store.db", artifacts=str(folder / "artifacts"))
    return tracking.Store(asked)


def contender(folder: Path, name: str, **changes: Any) -> Contender:
    """A model with a card for people and a calibration beside it."""
    one = Contender.of(save_model(str(folder), name, **changes))
    beside = Path(one.artifact).parent
    (beside / "card.md").write_text("# a card", encoding="utf-8")
    calibrate(one, Calibrator("platt", slope=0.9, shift=-0.2))
    return one


def calibrate(one: Contender, calibrator: Calibrator) -> None:
    """Puts a calibration beside the artifact, as the job does each day that the model is judged."""
    content = {"artifact": Path(one.artifact).name, "calibrator": calibrator.to_dict()}
    (Path(one.artifact).parent / "calibration.json").write_text(json.dumps(content), encoding="utf-8")


def log(store: tracking.Store, one: Contender, ds: date = DS, **figures: Any) -> Any:
    store.model(one, ds, FIGURES | figures, {"features": 7}, "warehouse/{}".format)
    return store.client.get_run(store.run_of(one, ds))


def test_a_judged_model_is_a_run_with_its_figures_inputs_and_files(store: tracking.Store, tmp_path: Path) -> None:
    found = log(store, contender(tmp_path, "lr"))
    assert found.data.metrics == {
        "ne": 0.9,
        "ne.low": 0.88,
        "ne.high": 0.92,
        "auc": 0.7,
        "uncalibrated.ne": 1.5,
        "uncalibrated.ne.low": 1.4,
        "train_seconds": 2.5,
    }
    assert {"kind": "logreg", "keep_rate": "0.1", "bits": "32"}.items() <= found.data.params.items()
    (table,) = [one.dataset for one in found.inputs.dataset_inputs]
    assert (table.name, table.digest) == ("features", "version 7")
    assert json.loads(table.source) == {"path": "warehouse/features", "delta_table_version": 7}
    assert {one.path for one in store.client.list_artifacts(found.info.run_id)} == {"card.md", "model"}
    assert found.info.status == "FINISHED"


def test_a_model_that_is_judged_again_has_one_run_and_one_version(store: tracking.Store, tmp_path: Path) -> None:
    one = contender(tmp_path, "again", shift=0.3)
    first = log(store, one)
    second = log(store, one, seconds=3.5)
    assert first.info.run_id == second.info.run_id
    assert second.data.metrics["train_seconds"] == 3.5
    versions = store.client.search_model_versions("name = 'tiny'")
    assert sum(version.tags[tracking.DIGEST] == one.digest for version in versions) == 1


def test_the_champion_is_an_alias_that_moves_and_its_pyfunc_says_our_p(
    store: tracking.Store, tmp_path: Path
) -> None:
    models = [contender(tmp_path, "first", slope=0.5), contender(tmp_path, "second", slope=0.7)]
    for one in models:
        assert not store.crown(one, "tiny")
        log(store, one)
    data = pd.DataFrame({"ad": [*VALUES[:50], None, "unknown"], "price": 1.0, "more": "x"})
    for one in models:
        assert store.crown(one, "tiny")
        version = store.client.get_model_version_by_alias("tiny", "champion")
        assert version.tags[tracking.DIGEST] == one.digest
        loaded = mlflow.pyfunc.load_model(version.source)
        ours = scorer.load(Path(one.artifact)).score({"ad": pa.array(data["ad"], from_pandas=True)}).p
        assert 0 < ours.min() < ours.max() < 1
        np.testing.assert_allclose(loaded.predict(data), ours, rtol=0, atol=1e-6)
        with pytest.raises(mlflow.exceptions.MlflowException, match="ad"):
            loaded.predict(data[["price"]])


@pytest.mark.parametrize("days", [1, 0], ids=["the day after", "the same day"])
def test_a_champion_that_is_calibrated_again_is_a_new_version_that_says_our_p(
    store: tracking.Store, tmp_path: Path, days: int
) -> None:
    one = contender(tmp_path, f"stays-{days}", slope=0.4 + days / 10)
    data = pd.DataFrame({"ad": VALUES[:50]})
    said, versions = [], []
    for ds, slope in ((DS, 0.9), (DS + timedelta(days=days), 0.6)):
        calibrate(one, Calibrator("platt", slope=slope, shift=-0.2))
        assert not store.crown(one, "tiny"), "what is registered says another p"
        for _ in range(2):
            log(store, one, ds)
        assert store.crown(one, "tiny")
        versions.append(store.client.get_model_version_by_alias("tiny", "champion"))
        said.append(scorer.load(Path(one.artifact)).score({"ad": pa.array(data["ad"])}).p)
    assert np.abs(said[0] - said[1]).max() > 0.01
    for version, ours in zip(versions, said, strict=True):
        np.testing.assert_allclose(mlflow.pyfunc.load_model(version.source).predict(data), ours, rtol=0, atol=1e-6)
    found = store.client.search_model_versions("name = 'tiny'")
    own = [version.version for version in found if version.tags[tracking.DIGEST] == one.digest]
    assert sorted(own) == sorted(version.version for version in versions), "one for each calibration"


def test_a_champion_whose_day_was_trained_again_keeps_its_calibration(tmp_path: Path) -> None:
    one = contender(tmp_path, "twice")
    own, beside = Path(one.artifact), Path(one.artifact).parent
    (beside / "calibration.json").rename(beside / f"calibration-{own.name}.json")
    (beside / "calibration.json").write_text('{"artifact": "another"}', encoding="utf-8")
    tracking.save(own, tmp_path / "saved")
    data = pd.DataFrame({"ad": VALUES[:50]})
    ours = scorer.load(own).score({"ad": pa.array(data["ad"])}).p
    np.testing.assert_allclose(mlflow.pyfunc.load_model(str(tmp_path / "saved")).predict(data), ours, atol=1e-6)
    assert (ours != scorer.load(own, calibration=scorer.UNCALIBRATED).score({"ad": pa.array(data["ad"])}).p).any()


def test_a_model_is_stored_without_a_pickle(tmp_path: Path) -> None:
    tracking.save(Path(contender(tmp_path, "plain").artifact), tmp_path / "saved")
    names = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert ".pkl" not in names
    assert (tmp_path / "saved" / "MLmodel").is_file()


def run_at(folder: Path, uri: str, models: tuple[str, ...] = ("lr",)) -> Run:
    """The end of an `evaluate` that has judged a model, with its table `models`."""
    asked = {"tracking_uri": uri, "artifacts": str(folder / "artifacts")}
    cfg = Config.model_validate({"dataset": DATASET.model_dump(), "warehouse": str(folder), "mlflow": asked})
    tables = Tables.without_spark(str(folder), run_id="r")
    tables.write("models", [save_model(str(folder), "lr")], replace={"ds": DS, "name": "lr"})
    run = prepared(tables, EVALUATE, cfg, [DS], models)
    run.result |= {"models": [FIGURES | {"model_id": f"lr-{DS}-00000000"}], "report": None}
    return run


def lost(run: Run, log: Callable[[Run], None]) -> str:
    """The warning of a run whose job goes on."""
    before = dict(run.result)
    log(run)
    said: str = run.result.pop("mlflow")
    assert run.result == before
    assert f"mlflow at {run.cfg.mlflow and run.cfg.mlflow.tracking_uri} failed" in said
    assert "run the job again" in said
    return said


@pytest.mark.parametrize("log", [tracking.judged, tracking.decided, tracking.reported])
def test_a_server_that_refuses_is_told_of_in_seconds_and_fails_no_job(
    tmp_path: Path, log: Callable[[Run], None]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # (and nobody listens)
        began = time.monotonic()
        said = lost(run_at(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}"), log)
    assert "refused" in said
    assert time.monotonic() - began < 20


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        said = lost(run_at(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"), tracking.judged)
    assert "timed out" in said.lower()
    assert 3 <= time.monotonic() - began < 20, "three tries of a second, and the pauses between them"


@pytest.mark.usefixtures("store")
def test_unless_the_environment_says_otherwise_that_takes_a_minute_and_its_pauses() -> None:
    seconds, retries = (int(os.environ[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("TIMEOUT", "MAX_RETRIES"))
    assert seconds * (retries + 1) == 60


class _Dying(BaseHTTPRequestHandler):
    """Knows its experiment, and breaks off whatever comes then."""

    def do_GET(self) -> None:
        body = json.dumps({"experiment": {"experiment_id": "1", "name": "clickmill"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.asked_for.append(self.path)  # type: ignore[attr-defined]
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        pass


def test_a_server_that_dies_midway_is_told_of_and_fails_no_job(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Dying) as server:
        server.asked_for = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lost(run_at(tmp_path, f"http://127.0.0.1:{server.server_address[1]}"), tracking.judged)
        server.shutdown()
        assert server.asked_for[0].endswith("runs/search"), "it had gone as far as that"  # type: ignore[attr-defined]


def test_an_error_of_the_tables_is_none_of_mlflows(tmp_path: Path) -> None:
    with pytest.raises(MissingTableError, match="no model called absent"):
        tracking.judged(run_at(tmp_path, f"sqlite:///{tmp_path}/store.db", models=("absent",)))


def test_a_run_that_was_lost_is_logged_by_doing_it_again(tmp_path: Path) -> None:
    run = run_at(tmp_path, f"sqlite:///{tmp_path}/store.db")
    tracking.judged(run)
    assert "mlflow" not in run.result
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/store.db")
    experiment = client.get_experiment_by_name("clickmill").experiment_id
    assert [found.info.run_name for found in client.search_runs([experiment])] == [f"lr-{DS}-00000000"]


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mlflow\.tracking_uri"):
        load(["datasets/simulated.yaml"], ["mlflow.tracking_uri=https://me:word@host"])


def test_unless_asked_mlflow_is_not_imported() -> None:
    assert load(["datasets/simulated.yaml"], []).mlflow is None
    assert Config.model_fields["mlflow"].default is None
    code = "import sys; import clickmill.jobs.pipeline; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
