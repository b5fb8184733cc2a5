"""A whole pipeline with MLflow beside it: its models, its champion and its report are there, once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stored

pytest.importorskip("mlflow", reason="mlflow is not installed (make mlflow)")
pytestmark = pytest.mark.slow


def pipeline(folder: Path, uri: str | None = None) -> dict[str, Any]:
    uri = uri or f"sqlite:///{folder}/store.db"
    settings = (
        f"warehouse={folder}/ware house",
        "simulate.rows_per_day=2000",
        "gate.calibration_band=[0.1, 10]",
        f"mlflow={{tracking_uri: '{uri}', artifacts: '{folder}/artifacts', model: clicks}}",
    )
    sets = [word for one in settings for word in ("--set", one)]
    command = [sys.executable, "-m", "clickmill.jobs.pipeline", "--conf", "datasets/simulated.yaml", "--json"]
    command += ["--ds", "2026-01-10", "--models", "lr,lr_nocross", *sets]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_models_champion_and_report_are_in_mlflow_also_after_a_second_run(tmp_path: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/store.db")
    for _ in range(2):
        verdict = pipeline(tmp_path)
        experiment = client.get_experiment_by_name("clickmill")
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        assert runs.keys() == {model["model_id"] for model in verdict["models"]}
        assert len(client.search_runs([experiment.experiment_id])) == len(runs) == 2
        for model in verdict["models"]:
            run = runs[model["model_id"]]
            ends = {run.data.metrics[f"ne{end}"] for end in ("", ".low", ".high")}
            assert ends == set(model["metrics"]["ne"].values())
            names = {Path(one.path).name for one in client.list_artifacts(run.info.run_id)}
            assert names == {"card.md", "model", Path(verdict["report"]).name}
            inputs = {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
            assert {name for name, _ in inputs} >= {"sample", "features"}
        assert len(client.search_model_versions("name = 'clicks'")) == 2
        champion = client.get_model_version_by_alias("clicks", "champion")
        assert client.get_run(champion.run_id).info.run_name == verdict["decision"]["champion"]
    _says_what_evaluate_said(tmp_path, champion, verdict["decision"]["champion"])
    _goes_through_without_a_server(tmp_path, verdict)


def _goes_through_without_a_server(folder: Path, there: dict[str, Any]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # (and nobody listens)
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        verdict = pipeline(folder, uri)
    assert f"mlflow at {uri} failed" in verdict["mlflow"]
    assert "mlflow" not in there
    assert verdict["decision"]["champion"] == there["decision"]["champion"]
    assert Path(verdict["report"]).is_file()
    assert {run["status"] for run in stored.rows(f"{folder}/ware house", "runs")} == {"running", "done"}


def _says_what_evaluate_said(folder: Path, version: Any, model_id: str) -> None:
    import mlflow

    warehouse = f"{folder}/ware house"
    log = stored.table(warehouse, "click_log").to_pandas().set_index("event_id")
    said = stored.table(warehouse, "predictions").to_pandas().query("model_id == @model_id").set_index("event_id")
    assert len(said) > 1000
    loaded = mlflow.pyfunc.load_model(version.source)
    rows = pd.DataFrame(log.loc[said.index, loaded.metadata.get_input_schema().input_names()])
    np.testing.assert_allclose(loaded.predict(rows), said["p"], rtol=0, atol=1e-6)
