"""Compiles all kernels ahead, on made-up rows: the half minute that the first job would otherwise take longer.

Set-up ends with `python -m clickmill.kernels`. numba keeps the machine code on disk, a copy for every
checkout, and compiles again what was edited.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clickmill.calibration import Calibrator
from clickmill.config_files import load
from clickmill.dataset import Dataset
from clickmill.encoding import Counts, History, periods_of
from clickmill.evaluate import worker as judge
from clickmill.evaluate.cells import refinement
from clickmill.evaluate.resampling import rank_edges
from clickmill.evaluate.slices import ByDay, Everything, Slices
from clickmill.evaluate.worker import Entry
from clickmill.features.worker import FeatureSpec, featurize
from clickmill.ingest import worker as ingest
from clickmill.lookup import Lookup
from clickmill.models.encoded import Encoder
from clickmill.models.logreg import column_slots, feature_columns, hashes
from clickmill.models.xgboost import Inputs
from clickmill.sample.worker import keep_batches
from clickmill.scoring import P_OUTSIDE, Outside
from clickmill.simulate.worker import FIRST_DAY, World, block_rows
from clickmill.specs import LogregSpec, XgboostSpec
from clickmill.train.logreg import worker as logreg
from clickmill.train.ring import SoloRing
from clickmill.train.xgboost import worker as trees
from clickmill.units import Units

ROWS = 2_000


@dataclass(frozen=True)
class _Rows:
    """The same rows for training and validation."""

    sample: pa.RecordBatch
    features: pa.RecordBatch

    def training(self) -> list[pa.RecordBatch]:
        return [self.sample]

    def validation(self) -> list[pa.RecordBatch]:
        return [self.features]


def compile_ahead() -> None:
    """Simulates, ingests, hashes, samples, trains, scores and judges a few rows, as the workers do."""
    dataset = load(["datasets/simulated.yaml"]).dataset
    raw = _as_sent(block_rows(World(7, 100, 0.02, 0.01, ROWS, intercept=-1.0), FIRST_DAY, 0))
    plan = ingest.Plan(dataset, (FIRST_DAY,), FIRST_DAY, "raw_log")
    list(ingest.keys(iter([raw]), plan=plan))
    (log,) = ingest.rows(iter([raw]), plan=plan, ordered=False)
    spec = FeatureSpec(dataset.slots, dataset.numbers, dataset.crosses, ((1.0, 10.0),) * len(dataset.numbers))
    (features,) = featurize(iter([_as_sent(log)]), spec=spec, carried={})
    (sample,) = keep_batches(iter([_as_sent(features)]), keep_rate=0.5, seed=1, sample_id="w0.5-s1")
    model = LogregSpec(kind="logreg", bits=18, max_iterations=3)
    columns = feature_columns(model, dataset)
    task = logreg.Task(model, columns, column_slots(columns, dataset))
    fitted = logreg.fit(_Rows(_as_sent(sample), _as_sent(features)), SoloRing(), task)
    out = np.zeros(ROWS)
    Lookup(fitted.keys, model.bits).add_weights(np.zeros(ROWS, np.int32), fitted.weight, 0.0, out)
    _grow(_as_sent(sample), _as_sent(features), dataset)
    _judge(_as_sent(features.append_column(P_OUTSIDE, pa.array(np.linspace(0.01, 0.3, ROWS)))))


def _grow(sample: pa.RecordBatch, features: pa.RecordBatch, dataset: Dataset) -> None:
    """A tree on one number and what was known of one slot's values."""
    column = f"s_{dataset.slots[0]}"
    micros = features.column("event_time").cast(pa.int64()).to_numpy()
    counts = Counts.of(hashes(features, column), periods_of(micros, "hour"), features.column("label").to_numpy())
    with tempfile.TemporaryDirectory() as folder:
        History.of(counts).save(Path(folder, column))
        encoder = Encoder((column,), "hour", window=2, strength=1.0, folder=folder)
        encoder.arrays(int(micros[0]))
        task = trees.Task(
            XgboostSpec(kind="xgboost", rounds=1), Inputs((f"n_{dataset.numbers[0]}",), encoder=encoder)
        )
        trees.fit(_Rows(sample, features), SoloRing(), task)


def _judge(rows: pa.RecordBatch) -> None:
    """All passes of the judge over rows that say p, corrected by nothing and by a calibrator."""
    for calibrator in (Calibrator(), Calibrator("platt", slope=0.9, shift=0.1)):
        entry = Entry(Outside.called("p"), calibrator, "c")
        plan = judge.Plan((entry,), Slices((Everything(), ByDay((FIRST_DAY,)))), Units(1), 8, 1.0, 1)
        found = list(judge.score(iter([rows]), plan=plan))
        scored = [_as_sent(parcel) for parcel in found if parcel.column("kind")[0].as_py() == "scored"]
        sums = [row for parcel in found[-2:] for row in parcel.to_pylist()]
        cells = judge.added(sums)["tally", "p"].cells
        cut = refinement(cells)
        assert cut is not None, "so few cells cannot hold rows so far apart"
        list(judge.refine(iter(scored), cuts={"p": (entry, cut[1])}, places=1))
        list(judge.rank(iter(scored), edges={"p": rank_edges(cells)}, replicates=8))


def _as_sent(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch as a worker gets it, in buffers that are not its own to write: another type to a kernel."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


if __name__ == "__main__":
    compile_ahead()
