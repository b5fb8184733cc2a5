"""The judge's passes over batches, without Spark."""

from __future__ import annotations

from pathlib import Path

import judged_day
import numpy as np
import pyarrow as pa
import pytest

from clickmill.calibration import Calibrator
from clickmill.errors import InvalidProbabilityError
from clickmill.evaluate import worker
from clickmill.evaluate.cells import refinement
from clickmill.evaluate.tally import EVERYTHING, SUMS, Tally
from clickmill.evaluate.worker import Entry
from clickmill.scoring import Contender


def entry(tmp_path: Path, name: str = "lr", shift: float = 0.0) -> Entry:
    row = judged_day.save_model(str(tmp_path), name, shift=shift)
    contender = Contender(**{key: row[key] for key in Contender.__dataclass_fields__ if key in row})
    return Entry(contender, Calibrator("platt", slope=0.9, shift=0.1), "c1")


def batches(rows: int) -> list[pa.RecordBatch]:
    return judged_day.features(judged_day.days(2), 1000).combine_chunks().to_batches(max_chunksize=rows)


def test_an_empty_partition_yields_nothing(tmp_path: Path) -> None:
    assert list(worker.score(iter([]), entries=[entry(tmp_path)], keep=1.0, seed=42)) == []


def test_an_empty_partition_refines_to_no_cells(tmp_path: Path) -> None:
    one = entry(tmp_path)
    (tally,) = list(worker.score(iter(batches(5000)), entries=[one], keep=1.0, seed=42))[-1:]
    found = refinement(Tally.from_bytes(tally.column("tally")[0].as_py()).cells)
    assert found is not None
    (cells,) = worker.refine(iter([]), cuts={one.contender.model_id: (one, found[1])})
    assert cells.num_rows == 0
    assert cells.schema == worker.FINE


def test_cells_are_refined_from_the_rows_of_their_own_model(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    out = list(worker.score(iter(batches(300)), entries=both, keep=1.0, seed=42))
    tallies = [Tally.from_bytes(batch.column("tally")[0].as_py()) for batch in out[-2:]]
    cuts, ids = {}, [one.contender.model_id for one in both]
    for one, tally in zip(both, tallies, strict=True):
        found = refinement(tally.cells)
        assert found is not None
        cuts[one.contender.model_id] = (one, found[1])
    fine = pa.Table.from_batches(worker.refine(iter(out[:-2]), cuts=cuts))
    for name, tally in zip(ids, tallies, strict=True):
        found = refinement(tally.cells)
        assert found is not None
        cells = worker.fine_cells(fine, name)
        cut = tally.cells.take(found[0])
        assert cells.clicks.sum() == cut.clicks.sum()
        assert cells.others.sum() == cut.others.sum()
        np.testing.assert_allclose(cells.sums.sum(axis=0), cut.sums.sum(axis=0), rtol=1e-12)
        assert np.all(np.diff(cells.low) > 0)


def test_every_row_is_scored_by_every_model_and_tallied(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    out = list(worker.score(iter(batches(300)), entries=both, keep=1.0, seed=42))
    assert all(batch.schema == worker.SCORED for batch in out)
    rows = pa.Table.from_batches(out)
    scored = rows.filter(pa.compute.is_null(rows.column("tally")))
    assert scored.num_rows == 4000
    assert pa.compute.all(scored.column("stored")).as_py()
    log = pa.Table.from_batches(batches(5000))
    first = scored.filter(pa.compute.equal(scored.column("model_id"), both[0].contender.model_id))
    assert first.column("event_id").to_pylist() == log.column("event_id").to_pylist()
    truth = log.column("c_p_true").to_numpy()
    prior = both[0].contender.prior_corrected(first.column("p_sampled").to_numpy())
    np.testing.assert_allclose(prior, truth, rtol=1e-12)
    np.testing.assert_allclose(first.column("p").to_numpy(), both[0].calibrator.apply(truth), rtol=1e-12)
    tallies = [Tally.from_bytes(batch.column("tally")[0].as_py()) for batch in out[-2:]]
    for tally in tallies:
        assert set(tally.sums) == {EVERYTHING, "day=2026-01-09", "day=2026-01-10"}
        assert tally.sums[EVERYTHING][0][SUMS.index("rows")] == 2000


def test_a_share_of_the_predictions_is_the_same_rows_for_every_model_and_any_batches(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    kept = []
    for size in (300, 5000):
        rows = pa.Table.from_batches(worker.score(iter(batches(size)), entries=both, keep=0.3, seed=42))
        for one in both:
            own = rows.filter(pa.compute.equal(rows.column("model_id"), one.contender.model_id))
            kept.append(own.filter(own.column("stored")).column("event_id").to_pylist())
    assert 0.2 < len(kept[0]) / 2000 < 0.4
    assert all(other == kept[0] for other in kept)
    none = pa.Table.from_batches(worker.score(iter(batches(300)), entries=both, keep=0.0, seed=42))
    assert not pa.compute.any(none.column("stored")).as_py()


def test_a_model_that_says_nan_is_named(tmp_path: Path) -> None:
    one = entry(tmp_path)
    with pytest.raises(InvalidProbabilityError, match=one.contender.model_id):
        one.judged(np.zeros(2, np.int8), np.ones(2), np.array([0.5, np.nan]))
