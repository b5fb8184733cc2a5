"""A small day to calibrate and judge: features whose truth is known, and models that are wrong in known ways."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.calibration import expit
from clickmill.dataset import Dataset, Source
from clickmill.hashing import hash_slot
from clickmill.models import artifact
from clickmill.models.card import Card
from clickmill.specs import Columns, LogregSpec

if TYPE_CHECKING:
    from clickmill.tables import Tables

DS = date(2026, 1, 10)
VALUES = [f"v{i}" for i in range(400)]
LOGITS = np.random.default_rng(1).normal(-3.0, 1.0, len(VALUES))
KEEP_RATE = 0.1
DATASET = Dataset.model_validate(
    {
        "name": "tiny",
        "source": Source(path="nowhere", format="parquet").model_dump(),
        "label": "click",
        "event_time": {"kind": "column", "column": "time"},
        "slots": ["ad"],
        "numbers": ["price"],
        "carry": ["user"],
    }
)


def features(days: tuple[date, ...], rows_a_day: int, *, seed: int = 0) -> pa.Table:
    """Rows whose chance of a click is that of their ad; `c_p_true` says it."""
    rng = np.random.default_rng(seed)
    n = rows_a_day * len(days)
    ad = rng.integers(0, len(VALUES), n)
    truth = expit(LOGITS[ad])
    day = np.repeat(np.array(days, "datetime64[D]"), rows_a_day)
    moment = day.astype("datetime64[us]") + rng.integers(0, 86_400_000_000, n).astype("timedelta64[us]")
    hashes = hash_slot("ad", VALUES)
    return pa.table(
        {
            "event_id": [f"e{i}" for i in range(n)],
            "event_time": pa.array(moment, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")),
            "label": (rng.random(n) < truth).astype(np.int8),
            "s_ad": pa.array(hashes[ad], pa.int32()),
            "n_price": (ad % 10).astype(np.float32),
            "c_user": pa.array([f"u{user}" for user in (np.arange(n) % 150).tolist()]),
            "c_p_true": truth,
            "ds": pa.array(day, pa.date32()),
        }
    )


def days(count: int) -> tuple[date, ...]:
    """So many days that end with DS."""
    return tuple(DS - timedelta(days=back) for back in reversed(range(count)))


def write_features(tables: Tables, log: pa.Table) -> None:
    """Writes the log as the days of `features`, from a file (a table given to Spark in memory is slow)."""
    place = f"{tables.warehouse}/log.parquet"
    pq.write_table(log, place)
    tables.write("features", tables.spark.read.parquet(place), replace={"ds": sorted(set(log["ds"].to_pylist()))})


def save_model(
    root: str,
    name: str,
    *,
    keep_rate: float = KEEP_RATE,
    slope: float = 1.0,
    shift: float = 0.0,
    correction: str = "prior",
    ds: date = DS,
) -> dict[str, Any]:
    """The true model as one trained at `keep_rate` would say it, distorted; returns its row of `models`."""
    weights = slope * LOGITS + shift - (np.log(keep_rate) if correction == "prior" else 0.0)
    spec = LogregSpec(kind="logreg", bits=32, columns=Columns(numbers=()))
    card = Card(
        model_id=f"{name}-{ds}-00000000",
        name=name,
        kind="logreg",
        keep_rate=keep_rate,
        correction=correction,  # type: ignore[arg-type]
        spec=spec.model_dump(mode="json"),
        dataset=DATASET.model_dump(mode="json"),
        edges=[],
        seed=42,
        stretches={},
        tables={},
        training={},
        created_by="test",
    )
    index = hash_slot("ad", VALUES).view(np.uint32)
    order = np.argsort(index)
    arrays = {
        "index": index[order],
        "weight": weights[order],
        "unseen": np.zeros(1),
        "intercept": np.zeros(1),
    }
    saved = artifact.save(f"{root}/_models", card, arrays)
    return {
        "model_id": card.model_id,
        "name": name,
        "kind": "logreg",
        "keep_rate": keep_rate,
        "correction": correction,
        "artifact": saved.path,
        "digest": saved.digest,
        "seconds": 1.5,
        "run_id": "r",
        "ds": ds,
    }
