"""The counting of validation rows, without Spark."""

from __future__ import annotations

from pathlib import Path

import judged_day
import numpy as np
import pyarrow as pa
import pytest

from clickmill.calibrate import worker
from clickmill.calibrate.histogram import BINS, REACH
from clickmill.calibration import logit
from clickmill.errors import KeepRateError
from clickmill.hashing import keyed_uniform
from clickmill.scoring import Contender


def contender(tmp_path: Path, **wrong: float) -> Contender:
    row = judged_day.save_model(str(tmp_path), "lr", **wrong)
    return Contender(**{key: row[key] for key in Contender.__dataclass_fields__ if key in row})


def batches(table: pa.Table, rows: int) -> list[pa.RecordBatch]:
    return table.combine_chunks().to_batches(max_chunksize=rows)


def test_an_empty_partition_counts_nothing(tmp_path: Path) -> None:
    (cells,) = worker.count(iter([]), contenders=[contender(tmp_path)], folds=5, seed=42)
    assert cells.num_rows == 0
    assert cells.schema == worker.CELLS


def test_rows_are_counted_by_fold_and_by_logit_of_p(tmp_path: Path) -> None:
    log = judged_day.features(judged_day.days(1), 2000)
    one = contender(tmp_path)
    (cells,) = worker.count(iter(batches(log, 300)), contenders=[one], folds=5, seed=42)
    histogram = worker.histogram_of(pa.Table.from_batches([cells]), 5)
    fold = np.floor(keyed_uniform("fold", 42, log.column("event_id").combine_chunks()) * 5)
    label = log.column("label").to_numpy()
    for number in range(5):
        assert histogram.rows[number].sum() == (fold == number).sum()
        assert histogram.clicks[number].sum() == label[fold == number].sum()
    _, _, z = histogram.bins()
    width = 2 * REACH / BINS
    truth = logit(np.unique(log.column("c_p_true").to_numpy()))  # the model says the truth once corrected
    assert z.min() == pytest.approx(truth.min(), abs=width)
    assert z.max() == pytest.approx(truth.max(), abs=width)


def test_a_model_without_a_keep_rate_does_not_score(tmp_path: Path) -> None:
    one = contender(tmp_path)
    with pytest.raises(KeepRateError, match="does not say at which keep rate"):
        Contender(one.model_id, one.name, one.kind, one.artifact, one.digest, "prior", None)


def test_a_model_trained_with_weights_is_not_corrected(tmp_path: Path) -> None:
    row = judged_day.save_model(str(tmp_path), "lr", correction="weight")
    one = Contender(**{key: row[key] for key in Contender.__dataclass_fields__ if key in row})
    p = np.array([0.1, 0.5])
    assert one.prior_corrected(p).tolist() == p.tolist()
