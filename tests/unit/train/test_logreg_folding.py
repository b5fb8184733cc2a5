"""Rare values: counted by whole hashes, folded into the slot's rare value, in training and in scoring alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from unit.train.logs import SLOTS, Held, card, log, stored, task
from unit.train.rings import on_ranks

from clickmill.errors import ArtifactError
from clickmill.hashing import hash_slot, rare_hash
from clickmill.models import artifact
from clickmill.models.logreg import key_bits
from clickmill.train.logreg import kernels, worker
from clickmill.train.logreg.problem import Problem
from clickmill.train.logreg.rows import cells, find_active, load
from clickmill.train.logreg.worker import Task, fit
from clickmill.train.ring import SoloRing

BITS = 18


def twins(slot: str, bits: int) -> tuple[int, int]:
    """Two hashes of values that the log does not have, of one index at `bits` bits."""
    found: dict[int, int] = {}
    for number in range(10_000, 10**6):
        hashed = int(hash_slot(slot, [str(number)])[0])
        other = found.setdefault(hashed & (2**bits - 1), hashed)
        if other != hashed:
            return other, hashed
    raise AssertionError("no two values collide")


def with_values(batch: pa.RecordBatch, slot: str, values: list[int]) -> pa.RecordBatch:
    """The batch, the slot's first hashes replaced by these."""
    column = batch.column(f"s_{slot}").to_numpy().copy()
    column[: len(values)] = values
    return batch.set_column(batch.schema.get_field_index(f"s_{slot}"), f"s_{slot}", pa.array(column))


def hashes_of(batch: pa.RecordBatch) -> list[list[int]]:
    """The rows' whole hashes, as Python's numbers."""
    return [list(row) for row in zip(*(batch.column(f"s_{slot}").to_pylist() for slot in SLOTS), strict=True)]


class Reference:
    """The model in plain Python: counts of whole hashes, then the index of each cell of a row."""

    def __init__(self, training: pa.RecordBatch, min_count: int) -> None:
        counts = Counter(value for row in hashes_of(training) for value in row)
        self.min_count = min_count
        self.kept = {value for value, times in counts.items() if times >= min_count}
        self.seen = {self.reduced(value) for value in counts}

    @staticmethod
    def reduced(value: int) -> int:
        return value & (2**BITS - 1)

    def index(self, slot: str, value: int) -> int | None:
        """None: a value that weighs nothing."""
        if self.min_count == 1:
            return self.reduced(value) if self.reduced(value) in self.seen else None
        return self.reduced(value if value in self.kept else int(rare_hash(slot)))

    def indices(self, batch: pa.RecordBatch) -> list[list[int | None]]:
        return [
            [self.index(slot, value) for slot, value in zip(SLOTS, row, strict=True)] for row in hashes_of(batch)
        ]

    def margins(self, batch: pa.RecordBatch, weights: dict[int, float], intercept: float) -> list[float]:
        out = []
        for row in self.indices(batch):
            total = intercept
            for index in row:
                total += 0.0 if index is None else weights[index]
            out.append(total)
        return out


def colliding_log(rows: int = 2000, *, seed: int = 0) -> pa.RecordBatch:
    """A log in which a frequent and a rare value (of slot d, twice) share an index."""
    frequent, rare = twins("d", BITS)
    return with_values(log(rows, seed=seed), "d", [frequent] * 50 + [rare] * 2)


@pytest.mark.parametrize("min_count", [1, 3])
def test_margins_in_training_are_those_of_the_artifact_to_the_bit(tmp_path: Path, min_count: int) -> None:
    batch, asked = colliding_log(), task(min_count=min_count)
    rows = load([batch], asked.columns, key_bits(asked.spec))
    active = find_active(rows, SoloRing(), slots=SLOTS, bits=BITS, min_count=min_count)
    reference = Reference(batch, min_count)
    expected = {index for row in reference.indices(batch) for index in row}
    rare = {reference.reduced(int(rare_hash(slot))) for slot in SLOTS}
    assert set(active.index.tolist()) == (expected if min_count == 1 else expected | rare)

    whole = np.append(np.random.default_rng(1).normal(size=len(active) + 1), 0.0)
    weights = dict(zip(active.index.tolist(), whole[active.position].tolist(), strict=True))
    model = stored(worker._fitted(whole, active, asked.spec, 1.0), asked, tmp_path)
    for scored in (batch, colliding_log(seed=8)):  # seed 8: values that training has never seen
        positions = active.relabel(cells(scored, asked.columns, key_bits(asked.spec)))
        trained = np.empty(scored.num_rows)
        kernels.margins(positions, whole, trained)
        np.testing.assert_array_equal(trained, model.margins(scored))
        assert trained.tolist() == reference.margins(scored, weights, float(whole[0]))


@pytest.mark.parametrize("min_count", [1, 3])
def test_what_was_fitted_is_what_the_artifact_says(tmp_path: Path, min_count: int) -> None:
    batch, other, asked = colliding_log(), colliding_log(seed=8), task(min_count=min_count)
    fitted = fit(Held([batch], [other]), SoloRing(), asked)
    model = stored(fitted, asked, tmp_path)
    for scored, figure in ((batch, "train_log_loss"), (other, "validation_log_loss")):
        margin, label = model.margins(scored), scored["label"].to_numpy()
        assert fitted.figures[figure] == pytest.approx(
            np.mean(np.logaddexp(0, margin) - label * margin), rel=1e-12
        )


def test_a_rare_value_is_rare_though_a_frequent_one_shares_its_index(tmp_path: Path) -> None:
    asked = task(min_count=3)
    frequent, rare = twins("d", BITS)
    batch = with_values(log(2000), "d", [frequent] * 50 + [rare] * 2)
    model = stored(fit(Held([batch]), SoloRing(), asked), asked, tmp_path)
    assert np.uint32(frequent & 0xFFFFFFFF) in model.keys
    assert np.uint32(rare & 0xFFFFFFFF) not in model.keys
    row = batch.slice(0, 1)
    said = [float(model.margins(with_values(row, "d", [value]))[0]) for value in (frequent, rare, 12345)]
    assert said[1] == said[2] != said[0]


def test_two_values_that_share_an_index_are_not_kept_by_their_common_count(tmp_path: Path) -> None:
    first, second = twins("d", BITS)
    batch = with_values(log(2000), "d", [first] * 2 + [second] * 2)
    model = stored(fit(Held([batch]), SoloRing(), task(min_count=3)), task(min_count=3), tmp_path)
    row = batch.slice(0, 1)
    said = {float(model.margins(with_values(row, "d", [value]))[0]) for value in (first, second, 12345)}
    assert len(said) == 1


def test_with_nothing_folded_a_value_never_seen_weighs_nothing(tmp_path: Path) -> None:
    batch, asked = log(2000), task()
    fitted = fit(Held([batch]), SoloRing(), asked)
    model = stored(fitted, asked, tmp_path)
    seen = {value & (2**BITS - 1) for row in hashes_of(batch) for value in row}
    unseen = [next(value for value in range(7, 2**BITS) if value not in seen)]
    row = batch.slice(0, 1)
    for slot in SLOTS:
        row = with_values(row, slot, unseen)
    assert model.margins(row).tolist() == [fitted.intercept]


def test_values_are_counted_over_all_ranks() -> None:
    batch, asked = colliding_log(), task(min_count=3)
    whole = fit(Held([batch]), SoloRing(), asked)
    for fitted in on_ranks(3, lambda ring: fit(Held([batch.slice(ring.rank * 700, 700)]), ring, asked)):
        np.testing.assert_array_equal(fitted.keys, whole.keys)
    one = Reference(batch, 3)
    assert {int(value) for value in whole.keys.view(np.int32)} == one.kept


@pytest.mark.parametrize("min_count", [1, 3])
def test_a_model_can_be_started_from_by_index(tmp_path: Path, min_count: int) -> None:
    batch, asked = colliding_log(), task(min_count=min_count)
    rows = load([batch], asked.columns, key_bits(asked.spec))
    active = find_active(rows, SoloRing(), slots=SLOTS, bits=BITS, min_count=min_count)
    problem = Problem(rows, np.ones(len(rows)), len(active), SoloRing())
    whole = np.append(np.random.default_rng(1).normal(size=len(active) + 1), 0.0)
    model = stored(worker._fitted(whole, active, asked.spec, 1.0), asked, tmp_path)
    warm = worker.WarmStart(*model.by_index(), model.intercept, 1.0)
    started = worker._start(problem, active, Task(asked.spec, asked.columns, SLOTS, warm), 1.0)
    np.testing.assert_array_equal(started, whole[:-1])


def test_an_artifact_that_folds_without_its_kept_values_is_refused(tmp_path: Path) -> None:
    asked = task(min_count=3)
    arrays: dict[str, Any] = worker.arrays_of(fit(Held([log(1000)]), SoloRing(), asked), asked.spec)
    arrays["index"] = arrays.pop("kept")
    with pytest.raises(ArtifactError, match="'kept'"):
        artifact.load(artifact.save(str(tmp_path), card(asked), arrays).path)
