"""The whole chain on three real click logs, beside scikit-learn on the same hashed rows and split.

    python bench/real_logs.py [--data FOLDER] [--keep-rates 1,0.3] [--json]

FOLDER holds `criteo_kaggle_head10k/train.tsv`, `avazu_43k/avazu.csv` and
`criteo_attribution_165k/attribution.csv`. Time-forward split and l2 as in the data sets' configs:
l2 is chosen on validation time only, by both sides, from the same values. scikit-learn gets the
`features` rows (w = 1) of the same table version, indexed by the same bits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from clickmill import hashing, metrics, reader
from clickmill.config import Config
from clickmill.config_files import load
from clickmill.models import artifact
from clickmill.specs import LogregSpec
from clickmill.split import Stretch

# The configs' l2 are for whole logs; these samples have 5,000 and 30,000 rows to train on.
SMALL = [f"models.{name}.l2=[3e-4, 1e-3, 3e-3, 1e-2]" for name in ("lr", "lr_nocross")]
LOGS = {
    # The first 10,000 lines of the Kaggle form, as ten days of 1,000.
    "criteo": ("criteo_kaggle_head10k/train.tsv", "2014-05-10", ["dataset.event_time.rows_per_day=1000", *SMALL]),
    "avazu": ("avazu_43k/avazu.csv", "2014-10-22", SMALL),
    "criteo_attribution": ("criteo_attribution_165k/attribution.csv", "2017-06-30", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--keep-rates", default="1,0.3")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [row for log in args.logs.split(",") for row in one_log(args.data, log, args.keep_rates.split(","))]
    if args.json:
        print(json.dumps(rows, default=str))
        return
    print("| log | model | w | NE | NE before recalibration | calibration, p_sampled | after | scikit-learn NE |")
    print("|-|-|-|-|-|-|-|-|")
    for row in rows:
        head = f"| {row['log']} | {row['model']} | {row['keep_rate']:g} | {shown(row['ne'], 4)} |"
        before = f"{row['ne_prior']:.4f} | {row['ratio_before']:.3f}"
        print(f"{head} {before} | {shown(row['ratio'], 3)} | {row['sklearn_ne']:.4f} |")
    print("\n| log | model | w | slice | clicks | NE | calibration |")
    print("|-|-|-|-|-|-|-|")
    for row in rows:
        for one in row["slices"]:
            head = f"| {row['log']} | {row['model']} | {row['keep_rate']:g} | {one['slice']} | {one['clicks']:,} |"
            print(f"{head} {shown(one['ne'], 4)} | {shown(one['ratio'], 3)} |")
    for row in rows:
        if row["sentences"]:
            print(f"\n{row['log']}, w = {row['keep_rate']:g}:")
            print(*(f"- {sentence}" for sentence in row["sentences"]), sep="\n")


def shown(figure: dict[str, Any], digits: int) -> str:
    """A figure with its interval."""
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.{digits}f}"
    return f"{figure['value']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def one_log(data: Path, log: str, keep_rates: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each model and keep rate."""
    file, ds, own = LOGS[log]
    with tempfile.TemporaryDirectory() as warehouse:
        peers: dict[str, float] = {}
        for keep_rate in keep_rates:
            sets = [
                f"warehouse={warehouse}",
                f"dataset.source.path={data / file}",
                f"sampling.keep_rate={keep_rate}",
                *own,
            ]
            verdict = pipeline(log, ds, sets)
            cfg = load([f"datasets/{log}.yaml"], sets)
            for place, model in enumerate(verdict["models"]):
                name = model["name"]
                if "@" in model["model_id"]:  # the champion of the keep rate before
                    continue
                if name not in peers:
                    peers[name] = peer(cfg, model["model_id"], verdict["tables"]["features"])
                yield {
                    "log": log,
                    "model": name,
                    "keep_rate": float(keep_rate),
                    "ne": model["metrics"]["ne"],
                    "ne_prior": prior_ne(cfg, ds, model["model_id"]),
                    "ratio_before": model["metrics_uncalibrated"]["calibration_ratio"]["value"],
                    "ratio": model["metrics"]["calibration_ratio"],
                    "slices": slices(cfg, ds, model["model_id"]),
                    "sentences": [] if place else verdict["decision"]["sentences"],
                    "sklearn_ne": peers[name],
                }


def pipeline(log: str, ds: str, sets: list[str]) -> dict[str, Any]:
    """Runs the pipeline as a user would; its one JSON object."""
    command = ["clickmill", "run", "pipeline", "--conf", f"datasets/{log}.yaml", "--ds", ds, "--json"]
    for item in sets:
        command += ["--set", item]
    done = subprocess.run([sys.executable, "-m", "clickmill.cli", *command[1:]], stdout=subprocess.PIPE, text=True)
    verdict: dict[str, Any] = json.loads(done.stdout)
    if done.returncode:
        raise SystemExit(f"{log}: the pipeline ended with {done.returncode}: {verdict['error']}")
    return verdict


def figures(cfg: Config, ds: str, model_id: str) -> list[dict[str, Any]]:
    """The model's rows of `metrics`."""
    table = pa.table(DeltaTable(f"{cfg.warehouse_path}/metrics").to_pyarrow_table()).to_pylist()
    return [row for row in table if str(row["ds"]) == ds and row["model_id"] == model_id]


def prior_ne(cfg: Config, ds: str, model_id: str) -> float:
    """NE after the prior correction, before the calibrator."""
    fits = {"stage": "prior", "slice": "all", "metric": "ne"}
    (row,) = [one for one in figures(cfg, ds, model_id) if all(one[key] == value for key, value in fits.items())]
    return float(row["value"])


def slices(cfg: Config, ds: str, model_id: str) -> list[dict[str, Any]]:
    """NE and calibration ratio of p by slice, but for those of days."""
    rows = [row for row in figures(cfg, ds, model_id) if row["stage"] == "calibrated"]
    found = {(row["slice"], row["metric"]): row for row in rows}
    names = sorted({name for name, _ in found if name != "all" and not name.startswith("day=")})
    return [
        {
            "slice": name,
            "clicks": found[name, "ne"]["clicks"],
            "ne": found[name, "ne"],
            "ratio": found[name, "calibration_ratio"],
        }
        for name in names
    ]


def peer(cfg: Config, model_id: str, version: int) -> float:
    """NE on test time of scikit-learn's LogisticRegression, l2 chosen on validation time."""
    model = artifact.load(newest(cfg, model_id))
    spec = LogregSpec.model_validate(model.card.spec)
    parts = {}
    for name, (start, end) in model.card.stretches.items():
        stretch = Stretch(datetime.fromisoformat(start), datetime.fromisoformat(end))
        parts[name] = matrix(cfg, version, stretch, model.columns, spec.bits)
    # Indices that no training row has weigh 0 at the optimum: without them scikit-learn is done in a fiftieth.
    active = np.flatnonzero(parts["train"][0].getnnz(axis=0))
    parts = {name: (x[:, active], y) for name, (x, y) in parts.items()}
    x, y = parts["train"]
    strengths = spec.l2 if isinstance(spec.l2, tuple) else (spec.l2,)
    fits = [
        LogisticRegression(C=1 / (len(y) * l2), solver="lbfgs", tol=1e-6, max_iter=2000).fit(x, y)
        for l2 in strengths
    ]
    v, u = parts["validation"]
    best = min(fits, key=lambda fit: metrics.log_loss(u, fit.predict_proba(v)[:, 1]))
    t, z = parts["test"]
    return metrics.normalized_entropy(z, best.predict_proba(t)[:, 1])


def newest(cfg: Config, model_id: str) -> str:
    """The folder of the model's newest artifact."""
    folders = [f for f in Path(cfg.artifact_root, model_id).iterdir() if (f / "model.json").is_file()]
    return str(max(folders, key=lambda f: f.stat().st_mtime))


def matrix(cfg: Config, version: int, stretch: Stretch, columns: tuple[str, ...], bits: int) -> tuple[Any, Any]:
    """The rows of a stretch as a sparse matrix of counts, and their labels."""
    (shard,) = reader.plan(f"{cfg.warehouse_path}/features", version=version, days=stretch.days, shards=1)
    batches = list(reader.read(shard, columns=["label", *columns], stretch=stretch))
    label = np.concatenate([b.column(0).to_numpy() for b in batches])
    hashed = np.concatenate([np.column_stack([c.to_numpy() for c in b.columns[1:]]) for b in batches])
    index = hashing.to_index(hashed.ravel().astype(np.int32), bits)
    rows = np.repeat(np.arange(len(label)), len(columns))
    x = csr_matrix((np.ones(len(index)), (rows, index)), shape=(len(label), 2**bits))
    x.sum_duplicates()
    return x, label


if __name__ == "__main__":
    main()
