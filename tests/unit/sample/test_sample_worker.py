"""The keyed draw on batches, without Spark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from clickmill import sampling
from clickmill.sample import worker

N = 3000
IDS = [f"e{k}" for k in range(N)]
LABEL = (np.arange(N) % 20 == 0).astype(np.int8)
LOG = pa.RecordBatch.from_pydict({"event_id": IDS, "label": LABEL, "s_a": np.arange(N, dtype=np.int32)})


def kept(*batches: pa.RecordBatch, keep_rate: float = 0.1) -> list[pa.RecordBatch]:
    return list(worker.keep_batches(iter(batches), keep_rate=keep_rate, seed=42, sample_id="w0.1-s42"))


def test_an_empty_partition_gives_no_batches():
    assert kept() == []


def test_a_batch_of_which_nothing_is_kept_still_has_its_columns():
    others = LOG.filter(pa.array(~sampling.keep(IDS, LABEL, 0.1, 42)))
    (out,) = kept(others)
    assert out.num_rows == 0
    assert out.schema == kept(LOG)[0].schema


def test_kept_rows_are_whole_and_say_their_rate_weight_and_sample():
    (out,) = kept(LOG)
    mask = sampling.keep(IDS, LABEL, 0.1, 42)
    assert out.select(LOG.schema.names) == LOG.filter(pa.array(mask))
    assert set(out["keep_rate"].to_pylist()) == {0.1}
    assert set(out["sample_id"].to_pylist()) == {"w0.1-s42"}
    assert out["weight"].to_pylist() == [1.0 if label else 10.0 for label in out["label"].to_pylist()]
    assert 0 < out["label"].to_pylist().count(0) < 500


def test_rate_one_adds_columns_and_leaves_all_else_alone():
    (out,) = kept(LOG, keep_rate=1.0)
    assert out.select(LOG.schema.names) == LOG
    assert set(out["weight"].to_pylist()) == {1.0}


def test_how_rows_are_cut_into_batches_changes_nothing():
    cut = pa.Table.from_batches(kept(LOG.slice(0, 700), LOG.slice(700, 0), LOG.slice(700)))
    assert cut.combine_chunks() == pa.Table.from_batches(kept(LOG))
