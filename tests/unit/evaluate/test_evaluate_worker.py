"""The judge's passes over batches, without Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import judged_day
import numpy as np
import pyarrow as pa
import pytest

from clickmill import metrics
from clickmill.calibration import Calibrator
from clickmill.errors import InvalidProbabilityError
from clickmill.evaluate import worker
from clickmill.evaluate.cells import refinement
from clickmill.evaluate.resampling import rank_edges
from clickmill.evaluate.slices import ByDay, Everything, Slices
from clickmill.evaluate.tally import SUMS, Tally
from clickmill.evaluate.worker import Entry, Plan
from clickmill.scoring import Contender
from clickmill.units import Units


def entry(tmp_path: Path, name: str = "lr", shift: float = 0.0) -> Entry:
    row = judged_day.save_model(str(tmp_path), name, shift=shift)
    contender = Contender(**{key: row[key] for key in Contender.__dataclass_fields__ if key in row})
    return Entry(contender, Calibrator("platt", slope=0.9, shift=0.1), "c1")


def plan(*entries: Entry, keep: float = 1.0, replicates: int = 20) -> Plan:
    slices = Slices((Everything(), ByDay(judged_day.days(2))))
    return Plan(entries, slices, Units(42), replicates, keep, 42)


def of_kind(found: list[pa.RecordBatch], *kinds: str) -> list[pa.RecordBatch]:
    """Parcels of these kinds; a worker yields one a batch."""
    return [parcel for parcel in found if parcel.column("kind")[0].as_py() in kinds]


def sums_of(found: list[pa.RecordBatch]) -> dict[tuple[str, str], Any]:
    return worker.added(row for parcel in of_kind(found, *worker.KINDS) for row in parcel.to_pylist())


def rows_of(found: list[pa.RecordBatch], model_id: str, kind: str = "kept") -> pa.Table:
    told = worker.unpacked(iter(of_kind(found, kind)))
    return pa.Table.from_batches([rows for name, rows in told if name == model_id])


def batches(rows: int) -> list[pa.RecordBatch]:
    return judged_day.features(judged_day.days(2), 1000).combine_chunks().to_batches(max_chunksize=rows)


def test_an_empty_partition_yields_nothing(tmp_path: Path) -> None:
    assert list(worker.score(iter([]), plan=plan(entry(tmp_path)))) == []
    assert list(worker.add_up(iter([]))) == []


def test_ranges_without_cells_send_nothing(tmp_path: Path) -> None:
    one = entry(tmp_path)
    out = list(worker.score(iter(batches(5000)), plan=plan(one)))
    name = one.contender.model_id
    found = refinement(sums_of(out)["tally", name].cells)
    assert found is not None
    cuts = {name: (one, found[1])}
    assert list(worker.refine(iter([]), cuts=cuts, places=3)) == []
    few, many = (
        list(worker.refine(iter(of_kind(out, "scored")), cuts=cuts, places=places)) for places in (1, 100_000)
    )
    assert 1 == len(few) < len(many) <= len(sums_of(few)["fine", name].key)
    assert np.array_equal(sums_of(many)["fine", name].key, sums_of(few)["fine", name].key)


def test_cells_are_refined_from_the_rows_of_their_own_model(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    out = list(worker.score(iter(batches(300)), plan=plan(*both)))
    cuts, ids = {}, [one.contender.model_id for one in both]
    sums = sums_of(out)
    tallies = [sums["tally", name] for name in ids]
    for one, tally in zip(both, tallies, strict=True):
        found = refinement(tally.cells)
        assert found is not None
        cuts[one.contender.model_id] = (one, found[1])
    parts = list(worker.refine(iter(of_kind(out, "scored")), cuts=cuts, places=5))
    fine = sums_of(parts)
    lone = [sums_of([part]) for part in parts]
    for name, tally in zip(ids, tallies, strict=True):
        found = refinement(tally.cells)
        assert found is not None
        cells = fine["fine", name]
        ranges = [one["fine", name].key for one in lone if ("fine", name) in one]
        assert np.array_equal(np.concatenate(ranges), cells.key), "each place holds a range of keys alone"
        cut = tally.cells.take(found[0])
        assert cells.clicks.sum() == cut.clicks.sum()
        assert cells.others.sum() == cut.others.sum()
        np.testing.assert_allclose(cells.sums.sum(axis=0), cut.sums.sum(axis=0), rtol=1e-12)
        assert np.all(np.diff(cells.low) > 0)


def test_every_row_is_scored_by_every_model_and_tallied(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    out = list(worker.score(iter(batches(300)), plan=plan(*both)))
    assert all(batch.schema == worker.PARCELS for batch in out)
    log = pa.Table.from_batches(batches(5000))
    first, second = (rows_of(out, one.contender.model_id) for one in both)
    assert second.num_rows == log.num_rows
    scored = rows_of(out, both[0].contender.model_id, "scored")
    assert scored.column("p_sampled").equals(first.column("p_sampled"))
    assert scored.column("label").equals(log.column("label"))
    assert first.column("event_id").to_pylist() == log.column("event_id").to_pylist()
    truth = log.column("c_p_true").to_numpy()
    prior = both[0].contender.prior_corrected(first.column("p_sampled").to_numpy())
    np.testing.assert_allclose(prior, truth, rtol=1e-12)
    np.testing.assert_allclose(first.column("p").to_numpy(), both[0].calibrator.apply(truth), rtol=1e-12)
    stored = worker.predictions(
        iter(of_kind(out, "kept")),
        calibrations={one.contender.model_id: f"c-{one.contender.name}" for one in both},
        ds=judged_day.DS,
    )
    whole = pa.Table.from_batches(stored)
    assert whole.num_rows == 4000
    assert set(whole.column("calibration_id").to_pylist()) == {"c-lr", "c-off"}
    sums = sums_of(out)
    for one in both:
        tally: Tally = sums["tally", one.contender.model_id]
        assert tally.sums[:, 0, SUMS.index("rows")].tolist() == [2000, 1000, 1000]
    assert sums["resampled", ""].rows == 2000


def test_what_partitions_add_up_to_does_not_hang_on_how_rows_are_cut(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    found = []
    for size in (300, 5000):
        parts = [list(worker.score(iter([one]), plan=plan(*both))) for one in batches(size)]
        held = [parcel for part in parts for parcel in of_kind(part, *worker.KINDS)]
        found.append(sums_of(list(worker.add_up(iter(held)))))
    one, other = found
    assert one.keys() == other.keys()
    assert one["resampled", ""].digest == other["resampled", ""].digest
    np.testing.assert_allclose(
        one["resampled", ""].replicates.sums, other["resampled", ""].replicates.sums, rtol=1e-12, atol=1e-9
    )
    for kind, name in one:
        if kind == "tally":
            np.testing.assert_allclose(one[kind, name].sums, other[kind, name].sums, rtol=1e-12)


def test_other_rows_or_labels_have_another_digest(tmp_path: Path) -> None:
    (batch,) = batches(5000)
    whole = plan(entry(tmp_path))

    def digest(rows: pa.RecordBatch) -> str:
        return str(sums_of(list(worker.score(iter([rows]), plan=whole)))["resampled", ""].digest)

    place = batch.schema.get_field_index("label")
    flipped = batch.column("label").to_numpy().copy()
    flipped[7] = 1 - flipped[7]
    turned = batch.set_column(place, batch.schema.field(place), pa.array(flipped))
    shuffled = batch.take(pa.array(np.random.default_rng(0).permutation(batch.num_rows)))
    assert digest(shuffled) == digest(batch)
    assert len({digest(batch), digest(turned), digest(batch.slice(1))}) == 3


def test_the_resampled_ranking_gives_auc_and_bins(tmp_path: Path) -> None:
    one = entry(tmp_path)
    out = list(worker.score(iter(batches(700)), plan=plan(one, replicates=50)))
    name = one.contender.model_id
    edges = {name: rank_edges(sums_of(out)["tally", name].cells)}
    ranked = worker.rank(iter(of_kind(out, "scored")), edges=edges, replicates=50)
    (found,) = sums_of(list(ranked)).values()
    table = rows_of(out, name, "scored")
    p, label = table.column("p_sampled").to_numpy(), table.column("label").to_numpy()
    binned, draws = found.aucs()
    assert binned == pytest.approx(metrics.roc_auc(label, p), abs=1e-3)
    assert draws.mean() == pytest.approx(binned, abs=3 * draws.std() / 50**0.5)
    assert found.click_rates(20).shape[1] == 50


def test_a_share_of_the_predictions_is_the_same_rows_for_every_model_and_any_batches(tmp_path: Path) -> None:
    both = [entry(tmp_path), entry(tmp_path, "off", shift=0.5)]
    kept = []
    for size in (300, 5000):
        out = list(worker.score(iter(batches(size)), plan=plan(*both, keep=0.3)))
        kept += [rows_of(out, one.contender.model_id).column("event_id").to_pylist() for one in both]
    assert 0.2 < len(kept[0]) / 2000 < 0.4
    assert all(other == kept[0] for other in kept)
    assert of_kind(list(worker.score(iter(batches(300)), plan=plan(*both, keep=0.0))), "kept") == []


def test_a_model_that_says_nan_is_named(tmp_path: Path) -> None:
    one = entry(tmp_path)
    with pytest.raises(InvalidProbabilityError, match=one.contender.model_id):
        one.judged(np.zeros(2, np.int8), np.ones(2), np.array([0.5, np.nan]))
