"""The proofs that need many rows: what recalibration does to Σp / Σp_true, and models of any number of ranks.

Run with `pytest -m slow -s tests/jobs/test_at_scale.py` to see the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from small import SETS, run

from clickmill import reader
from clickmill.config import Config
from clickmill.config_files import load
from clickmill.errors import UnsupportedTableError
from clickmill.models import artifact
from clickmill.split import stretches
from clickmill.tables import Tables
from clickmill.train.logreg.driver import train

CLICKMILL = str(Path(sys.executable).parent / "clickmill")
KEEP_RATE = 0.05
DAYS = tuple(date(2026, 1, day) for day in (1, 2, 3))
"""One each to train on, to calibrate on and to judge by: whole days, because the hour is no feature."""
STATIONARY = f"""
simulate:
  rows_per_day: 860000     # 25,800 clicks a day: 2.58M rows in all
  ctr: 0.03
  drift: 0
sampling: {{keep_rate: {KEEP_RATE}}}
split: {{train: 1d, validation: 1d, test: 1d}}
models:
  lr: {{kind: logreg, bits: 22, l2: [1.0e-4, 2.5e-4, 1.0e-3]}}
  lr_nocross: {{kind: logreg, bits: 22, l2: [1.0e-4, 2.5e-4, 1.0e-3], columns: {{crosses: []}}}}
"""
Floats = NDArray[np.float64]


class Judged(NamedTuple):
    """One model on test time, row by row, beside the truth; and what our own judge says of it."""

    p_true: Floats
    label: Floats
    p_sampled: Floats
    p: Floats
    metrics: dict[tuple[str, str], float]
    """(stage, metric) → value."""

    @property
    def prior(self) -> Floats:
        """p by the formula of the contract alone, without a calibrator."""
        return self.p_sampled / (self.p_sampled + (1 - self.p_sampled) / KEEP_RATE)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `clickmill run pipeline` leaves of 2.58M rows without drift, as a user would run it."""
    folder = tmp_path_factory.mktemp("at_scale")
    (folder / "stationary.yaml").write_text(STATIONARY, encoding="utf-8")
    command = [CLICKMILL, "run", "pipeline", "--conf", "datasets/simulated.yaml", "--ds", str(DAYS[-1])]
    command += ["--conf", str(folder / "stationary.yaml"), "--set", f"warehouse={folder / 'warehouse'}"]
    command += ["--models", "lr,lr_nocross"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stderr, done.stdout, sep="\n")
    assert done.returncode == 0, done.stderr
    return folder / "warehouse"


@pytest.fixture(scope="module")
def judged(warehouse: Path) -> dict[str, Judged]:
    """By the model's name; joined here by event id, so that nothing of ours that sums is believed."""
    log = read(warehouse, "click_log", ["event_id", "p_true"], day=DAYS[-1])
    predictions = read(warehouse, "predictions", ["event_id", "label", "p_sampled", "p", "model_id"])
    models = {row["model_id"]: row["name"] for row in read(warehouse, "models", ["model_id", "name"]).to_pylist()}
    metrics = read(warehouse, "metrics", ["model_id", "stage", "slice", "metric", "value"]).to_pylist()
    found = {}
    for model_id, name in models.items():
        own = predictions.filter(pc.equal(predictions["model_id"], model_id))
        joined = own.join(log, "event_id", join_type="inner")
        assert len(joined) == len(own) == len(log)
        columns = [joined[column].to_numpy().astype(float) for column in ("p_true", "label", "p_sampled", "p")]
        told = {
            (row["stage"], row["metric"]): row["value"]
            for row in metrics
            if row["model_id"] == model_id and row["slice"] == "all"
        }
        found[name] = Judged(*columns, told)
    return found


def read(warehouse: Path, name: str, columns: list[str], *, day: date = DAYS[-1]) -> pa.Table:
    return DeltaTable(warehouse / name).to_pyarrow_table(columns=columns, filters=[("ds", "=", day)])


def sampled(p: Floats) -> Floats:
    """What p becomes when a KEEP_RATE share of the non-clicks is kept."""
    return p / (p + (1 - p) * KEEP_RATE)


def normalized_entropy(label: Floats, p: Floats) -> float:
    q = label.mean()
    loss = -np.mean(label * np.log(p) + (1 - label) * np.log1p(-p))
    return float(loss / -(q * np.log(q) + (1 - q) * np.log1p(-q)))


def as_sharp_as(p: Floats, p_true: Floats, *, groups: int = 2000) -> Floats:
    """For each row, in order of p, the mean p_true of the rows that a model gives about the same p."""
    parts = np.array_split(p_true[np.argsort(p, kind="stable")], groups)
    return np.concatenate([np.full(len(part), part.mean()) for part in parts])


@pytest.mark.slow
def test_there_are_clicks_enough(warehouse: Path) -> None:
    labels = {day: read(warehouse, "click_log", ["label"], day=day)["label"].to_numpy() for day in DAYS}
    clicks = {str(day): int(label.sum()) for day, label in labels.items()}
    print(f"rows {sum(map(len, labels.values()))}, clicks {clicks}")
    assert sum(map(len, labels.values())) >= 2_000_000
    assert min(clicks[str(day)] for day in DAYS[1:]) >= 25_000
    for label in labels.values():
        assert label.mean() == pytest.approx(0.03, rel=0.02)


@pytest.mark.slow
def test_after_correction_p_adds_up_to_the_truth(judged: dict[str, Judged]) -> None:
    for name, one in judged.items():
        prior, calibrated = one.prior.sum() / one.p_true.sum(), one.p.sum() / one.p_true.sum()
        print(f"{name}: Σp/Σp_true {prior:.4f} by the prior correction, {calibrated:.4f} calibrated")
        assert 0.98 <= calibrated <= 1.02
        assert one.metrics["prior", "calibration_to_truth"] == pytest.approx(prior, rel=1e-9)
        assert one.metrics["calibrated", "calibration_to_truth"] == pytest.approx(calibrated, rel=1e-9)
    assert 0.98 <= judged["lr"].prior.sum() / judged["lr"].p_true.sum() <= 1.02


@pytest.mark.slow
def test_before_correction_p_is_as_much_too_high_as_sampling_makes_it(judged: dict[str, Judged]) -> None:
    """Σp_s/Σp_true is the ratio of a model that knows p_true. p → p_s is concave: whoever knows less, and says
    the mean p_true of the rows that look alike, gets more (Jensen's inequality), here by a tenth. So each
    model is held to the truth seen through its own eyes.
    """
    off = {}
    for name, one in judged.items():
        found = one.p_sampled.sum() / one.p_true.sum()
        truth = sampled(one.p_true).sum() / one.p_true.sum()
        known = sampled(as_sharp_as(one.p_sampled, one.p_true)).sum() / one.p_true.sum()
        off[name] = found / truth
        print(f"{name}: Σp_sampled/Σp_true {found:.3f}; the truth's {truth:.3f}, seen as sharply {known:.3f}")
        print(
            f"{name}: {found / truth - 1:+.2%} off the truth's, {found / known - 1:+.2%} off that seen as sharply"
        )
        assert found == pytest.approx(known, rel=0.02)
        assert one.metrics["p_sampled", "calibration_to_truth"] == pytest.approx(found, rel=1e-9)
    assert 0.98 < off["lr"] < off["lr_nocross"], "who knows less is further from the truth's ratio"


@pytest.mark.slow
def test_crosses_help_and_nobody_beats_the_truth(judged: dict[str, Judged]) -> None:
    found = {name: normalized_entropy(one.label, one.p) for name, one in judged.items()}
    truth = normalized_entropy(judged["lr"].label, judged["lr"].p_true)
    print(f"NE of the truth {truth:.5f}, of the models {found}")
    assert truth < found["lr"] < found["lr_nocross"] < 1
    for name, one in judged.items():
        assert one.metrics["calibrated", "ne"] == pytest.approx(found[name], rel=1e-9)


SLOTS = ", ".join(f"C{number}" for number in range(1, 27))
RANKS = (
    *("simulate.rows_per_day=100000", "simulate.ctr=0.03", "split.train=1d", "sampling.keep_rate=0.3"),
    *(f"dataset.slots=[{SLOTS}]", "dataset.crosses=[[C1, C4], [C2, C5], [C4, C13], [C8, C19]]"),
    *("models.lr.l2=1e-4", "models.lr.bits=22", "models.lr.max_iterations=1000"),
)


@pytest.mark.slow
def test_models_of_1_2_and_4_ranks_and_other_partitionings_agree_on_100k_rows(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "ranks")
    for job in ("simulate", "ingest", "build_features", "downsample"):
        assert run(job, folder, *RANKS, ds=DAYS[-1], days=3)[0] == 0
    test = rows_of_test_time(Tables(spark, folder, run_id="look"))
    first = trained(spark, folder, test, ranks=2)
    again = {f"{ranks} ranks": trained(spark, folder, test, ranks=ranks) for ranks in (1, 4)}
    tables = Tables(spark, folder, run_id="shuffle")
    shuffled = tables.read("sample").repartition(7, "event_id")
    tables.write("sample", shuffled, replace={"ds": DAYS})
    again["other files and order"] = trained(spark, folder, test, ranks=2)
    monkeypatch.setattr(reader, "plan", _refuse)
    again["through Spark"] = trained(spark, folder, test, ranks=4)
    for name, (objective, p) in again.items():
        apart = float(np.abs(p - first[1]).max())
        print(f"{name}: max |Δp| {apart:.2e} on {len(p)} rows, objective {objective / first[0] - 1:+.1e}")
        assert objective == pytest.approx(first[0], rel=1e-8)
        assert apart <= 1e-4
    assert any((p != first[1]).any() for _, p in again.values()), "all equal to the bit: were they trained again?"


def trained(spark: SparkSession, folder: str, test: list[pa.RecordBatch], *, ranks: int) -> tuple[float, Floats]:
    """The objective reached, and p_sampled of the test rows."""
    cfg = ranks_config(folder, ranks)
    tables = Tables(spark, folder, run_id="ranks")
    split = stretches(cfg.split, tables.last_time("features", DAYS[-1]))
    row = train(tables, cfg, name="lr", ds=DAYS[-1], stretches=split)
    assert row["status"] == "trained"
    model = artifact.load(row["artifact"])
    margins = np.concatenate([model.margins(batch) for batch in test])
    return json.loads(row["training"])["objective"], 1 / (1 + np.exp(-margins))


def ranks_config(folder: str, ranks: int) -> Config:
    return load(("datasets/simulated.yaml",), (f"warehouse={folder}", *SETS, *RANKS, f"models.lr.ranks={ranks}"))


def rows_of_test_time(tables: Tables) -> list[pa.RecordBatch]:
    rows = tables.read("features", days=[DAYS[-1]]).toArrow()
    assert rows.num_rows == 100_000
    batches: list[pa.RecordBatch] = rows.to_batches()
    return batches


def _refuse(*_: Any, **__: Any) -> None:
    raise UnsupportedTableError("has deletion vectors")
