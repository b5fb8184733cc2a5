"""Raw columns → hashed columns, and counting them, without Spark."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from functools import partial

import mmh3
import numpy as np
import pyarrow as pa
import pytest

from clickmill.config import Features
from clickmill.dataset import Dataset
from clickmill.features import audit, worker
from clickmill.features.worker import FeatureSpec

DAY = date(2026, 1, 1)
SPEC = FeatureSpec(
    slots=("site", "ad"),
    numbers=("price",),
    crosses=(("site", "ad"), ("ad", "price", "site")),
    edges=((0.0, 1.0, 10.0),),
)
CARRIED = {"c_user": "user", "c_p_true": "p_true"}
SITES = ["a", None, "", "ü🙂", "a"]
ADS = ["x", "y", "z=1", "x", "x"]
PRICES = [0.5, None, float("nan"), 10.0, -3.0]


def log(n: int = 5) -> pa.RecordBatch:
    columns = {
        "event_id": pa.array([f"e{k}" for k in range(5)]),
        "event_time": pa.array([datetime(2026, 1, 1, k, tzinfo=UTC) for k in range(5)]),
        "label": pa.array([0, 1, 0, 0, 1], pa.int8()),
        "ds": pa.array([DAY] * 5),
        "site": pa.array(SITES),
        "ad": pa.array(ADS),
        "price": pa.array(PRICES, pa.float64()),
        "user": pa.array([f"u{k}" for k in range(5)]),
        "p_true": pa.array(np.linspace(0.1, 0.5, 5)),
    }
    return pa.RecordBatch.from_pydict(columns).slice(0, n)


def featurize(*batches: pa.RecordBatch) -> list[pa.RecordBatch]:
    return list(worker.featurize(iter(batches), spec=SPEC, carried=CARRIED))


def h(slot: str, value: str | None) -> int:
    return mmh3.hash(f"{slot}={value or ''}", 42)


def crossed(name: str, *parts: int) -> int:
    return mmh3.hash(b"".join(np.int32(part).tobytes() for part in parts), 42)


# --- featurize --------------------------------------------------------------------------------


def test_an_empty_partition_gives_no_batches():
    assert featurize() == []


def test_a_batch_without_rows_keeps_its_columns():
    (out,) = featurize(log(0))
    assert out.num_rows == 0
    assert out.schema == featurize(log())[0].schema


def test_every_hash_is_what_the_contract_says():
    (out,) = featurize(log())
    site, ad = [h("site", value) for value in SITES], [h("ad", value) for value in ADS]
    price = [h("price", value) for value in ("b1", None, None, "b3", "b0")]
    assert out["s_site"].to_pylist() == site
    assert out["s_ad"].to_pylist() == ad
    assert out["s_price"].to_pylist() == price
    assert out["x_site_ad"].to_pylist() == [
        h("site×ad", None) if not value else crossed("site×ad", a, b)
        for value, a, b in zip(SITES, site, ad, strict=True)
    ]
    missing = h("ad×price×site", None)
    assert out["x_ad_price_site"].to_pylist() == [
        crossed("ad×price×site", ad[0], price[0], site[0]),
        missing,
        missing,
        crossed("ad×price×site", ad[3], price[3], site[3]),
        crossed("ad×price×site", ad[4], price[4], site[4]),
    ]


def test_columns_stand_in_order_with_their_types():
    (out,) = featurize(log())
    hashed = ["s_site", "s_ad", "s_price", "x_site_ad", "x_ad_price_site"]
    assert list(SPEC.hashed) == hashed
    assert out.schema.names == ["event_id", "event_time", "label", *hashed, "n_price", "c_user", "c_p_true", "ds"]
    assert {str(out.schema.field(name).type) for name in hashed} == {"int32"}
    assert out.schema.field("n_price").type == pa.float32()


def test_a_missing_number_is_null_also_where_it_was_nan():
    (out,) = featurize(log())
    assert out["n_price"].to_pylist() == [0.5, None, None, 10.0, -3.0]


def test_carried_columns_pass_through_and_change_no_feature():
    (out,) = featurize(log())
    assert out["c_user"].to_pylist() == [f"u{k}" for k in range(5)]
    permuted = log().set_column(8, "p_true", log()["p_true"].take(pa.array([4, 2, 0, 1, 3])))
    (other,) = featurize(permuted)
    assert other["c_p_true"] != out["c_p_true"]
    assert other.drop_columns(["c_p_true"]) == out.drop_columns(["c_p_true"])


def test_how_rows_are_cut_into_batches_changes_nothing():
    whole = pa.Table.from_batches(featurize(log()))
    cut = pa.Table.from_batches(featurize(log().slice(0, 2), log().slice(2, 0), log().slice(2)))
    assert cut.combine_chunks() == whole


def test_the_spec_takes_a_numbers_own_edges():
    source = {"path": "x", "format": "parquet"}
    dataset = Dataset.model_validate(
        {
            "name": "d",
            "source": source,
            "label": "y",
            "event_time": {"kind": "column", "column": "t"},
            "slots": ["site"],
            "numbers": ["I1", "I2"],
            "crosses": [["site", "I2"]],
        }
    )
    spec = FeatureSpec.of(dataset, Features(edges=(1.0, 2.0), number_edges={"I2": (5.0,)}))
    assert spec == FeatureSpec(("site",), ("I1", "I2"), (("site", "I2"),), ((1.0, 2.0), (5.0,)))


# --- counting ---------------------------------------------------------------------------------


def hashes(day: date, **columns: list[int | None]) -> pa.RecordBatch:
    n = len(next(iter(columns.values())))
    arrays = {name: pa.array(values, pa.int32()) for name, values in columns.items()}
    return pa.RecordBatch.from_pydict({"ds": pa.array([day] * n), **arrays})


def counted(batches: list[pa.RecordBatch]) -> Counter[tuple[str, date, int]]:
    total: Counter[tuple[str, date, int]] = Counter()
    for batch in worker.count_values(iter(batches)):
        assert batch.schema == audit.COUNTS
        for row in batch.to_pylist():
            for value, count in np.frombuffer(row["pairs"], np.int32).reshape(-1, 2).tolist():
                assert value & (audit.SHARDS - 1) == row["shard"]
                total[(row["slot"], row["ds"], value)] += count
    return total


def test_counting_nothing_gives_nothing():
    assert list(worker.count_values(iter([]))) == []


@pytest.mark.parametrize("flush", [1, 7, 10**6])
def test_counts_are_those_of_a_plain_counter(flush, monkeypatch):
    monkeypatch.setattr(worker, "FLUSH_ROWS", flush)
    random = np.random.default_rng(1)
    days = [DAY, date(2026, 1, 2)]
    batches, expected = [], Counter[tuple[str, date, int]]()
    for k in range(6):
        values = {name: random.integers(-9, 9, 5).tolist() for name in ("s_a", "x_a_b")}
        batches.append(hashes(days[k % 2], **values))
        expected.update((name, days[k % 2], value) for name, some in values.items() for value in some)
    assert counted(batches) == expected


def test_a_column_that_older_days_lack_is_counted_on_the_others():
    batches = [hashes(DAY, s_a=[1, 1], s_new=[None, None]), hashes(date(2026, 1, 2), s_a=[2, 2], s_new=[5, None])]
    assert counted(batches) == {
        ("s_a", DAY, 1): 2,
        ("s_a", date(2026, 1, 2), 2): 2,
        ("s_new", date(2026, 1, 2), 5): 1,
    }


def test_the_worker_is_a_plain_function_that_can_be_shipped():
    import pickle

    pickle.dumps(partial(worker.featurize, spec=SPEC, carried=CARRIED))
