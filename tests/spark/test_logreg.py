"""train_logreg on Spark and Delta: the same model through files, through Spark, and on one to four ranks."""

from __future__ import annotations

import itertools
import json
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from clickmill import reader
from clickmill.config import Config
from clickmill.errors import (
    ConfigError,
    MissingTableError,
    NoRowsError,
    NotEnoughSlotsError,
    UnsupportedTableError,
)
from clickmill.models import artifact
from clickmill.models.logreg import LogregModel
from clickmill.scoring import Contender
from clickmill.split import Stretch, Stretches
from clickmill.train import watch
from clickmill.train.logreg.driver import train
from clickmill.train.source import lacking

if TYPE_CHECKING:
    from clickmill.tables import Tables

DAYS = tuple(date(2026, 1, 1) + timedelta(days=i) for i in range(3))
MIDNIGHTS = [datetime(2026, 1, 1) + timedelta(days=i) for i in range(4)]
STRETCHES = Stretches(*(Stretch(a, b) for a, b in itertools.pairwise(MIDNIGHTS)))
DATASET = {
    "name": "d",
    "source": {"path": "x", "format": "parquet"},
    "label": "y",
    "event_time": {"kind": "column", "column": "t"},
    "slots": ["a", "b"],
    "crosses": [["a", "b"]],
}


def config(tables: Tables, **spec: Any) -> Config:
    known = {"kind": "logreg", "bits": 18, "l2": 1e-3, "ranks": 2, "tolerance": 1e-7}
    return Config.model_validate(
        {
            "dataset": DATASET,
            "warehouse": tables.warehouse,
            "sampling": {"keep_rate": 0.5},
            "models": {"lr": known | spec},
        }
    )


def write(tables: Tables, rows: int = 1500) -> pa.Table:
    """Three days of features, and the sample of the first; returns the features of the last."""
    rng = np.random.default_rng(0)
    hashes = {name: rng.integers(-(2**31), 2**31, size).astype(np.int32) for name, size in (("a", 20), ("b", 200))}
    parts = []
    for day, midnight in zip(DAYS, MIDNIGHTS, strict=False):
        a, b = rng.integers(0, 20, rows), rng.integers(0, 200, rows)
        logit = -1.5 + 0.15 * (a - 10) + 0.01 * (b - 100)
        label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
        parts.append(
            pa.table(
                {
                    "event_id": [f"{day}-{i:05d}" for i in range(rows)],
                    "event_time": pa.array([midnight + timedelta(seconds=40 * i) for i in range(rows)]).cast(
                        pa.timestamp("us", tz="UTC")
                    ),
                    "label": label,
                    "s_a": hashes["a"][a],
                    "s_b": hashes["b"][b],
                    "x_a_b": (hashes["a"][a] * 31 + hashes["b"][b]).astype(np.int32),
                    "ds": pa.array([day] * rows, pa.date32()),
                }
            )
        )
    tables.write("features", pa.concat_tables(parts), replace={"ds": DAYS})
    first = parts[0]
    y = first["label"].to_numpy()
    kept = first.filter(pa.array((y == 1) | (rng.random(rows) < 0.5)))
    count, y = kept.num_rows, kept["label"].to_numpy()
    kept = kept.append_column("keep_rate", pa.array(np.full(count, 0.5)))
    kept = kept.append_column("weight", pa.array(np.where(y == 1, 1.0, 2.0)))
    kept = kept.append_column("sample_id", pa.array(["w0.5-s42"] * count))
    tables.write("sample", tables.spark.createDataFrame(kept).repartition(5), replace={"ds": DAYS[0]})
    return parts[2]


def trained(tables: Tables, **spec: Any) -> tuple[dict[str, Any], LogregModel]:
    row = train(tables, config(tables, **spec), name="lr", ds=DAYS[2], stretches=STRETCHES)
    model = artifact.load(row["artifact"])
    assert isinstance(model, LogregModel)
    return row, model


def _refuse(*_: Any, **__: Any) -> None:
    raise UnsupportedTableError("has deletion vectors")


def p_of(model: LogregModel, table: pa.Table) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-model.margins(table.combine_chunks().to_batches()[0]))))


def test_the_same_model_on_one_two_and_four_ranks_and_through_spark(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = write(tables)
    row, model = trained(tables)
    figures = json.loads(row["training"])
    assert row["status"] == "trained"
    assert row["model_id"].startswith("lr-2026-01-03-")
    assert json.loads(row["versions"]) == {"sample": 1, "features": 1}
    assert figures["validation_rows"] == 1500
    assert figures["train_ne"] < figures["validation_ne"] < 1
    assert (model.card.keep_rate, model.card.seed) == (0.5, 42)
    again, _ = trained(tables)
    assert again["digest"] == row["digest"]
    found = [trained(tables, ranks=1), trained(tables, ranks=4)]
    monkeypatch.setattr(reader, "plan", _refuse)
    found.append(trained(tables))
    for other_row, other in found:
        told = json.loads(other_row["training"])
        assert told["rows"] == figures["rows"]
        assert told["objective"] == pytest.approx(figures["objective"], rel=1e-8)
        assert told["validation_ne"] == pytest.approx(figures["validation_ne"], abs=1e-5)
        assert np.abs(p_of(other, test) - p_of(model, test)).max() <= 1e-4


def test_a_warm_start_names_an_earlier_model(tables: Tables) -> None:
    write(tables)
    row, _ = trained(tables)
    tables.write("models", [row], replace={"ds": DAYS[2], "name": "lr"})
    with pytest.raises(MissingTableError, match="no model 'nobody'"):
        trained(tables, warm_start="nobody")
    with pytest.raises(ConfigError, match="18 bits, this model 19"):
        trained(tables, warm_start=row["model_id"], bits=19)
    warm, _ = trained(tables, warm_start=row["model_id"])
    figures = json.loads(warm["training"])
    assert figures["iterations"] <= 2 < json.loads(row["training"])["iterations"]
    assert figures["warm_start"] == {"model_id": row["model_id"], "digest": row["digest"], "reason": None}


def test_a_warm_start_from_the_champion(tables: Tables) -> None:
    from clickmill.tables import Tables

    write(tables)
    said: list[str] = []
    first = train(
        tables, config(tables, warm_start="champion"), name="lr", ds=DAYS[1], stretches=STRETCHES, say=said.append
    )
    assert said == ["lr: starts from the base rate: there is no champion as of 2026-01-01"]
    tables.write("models", [first], replace={"ds": DAYS[1], "name": "lr"})
    decision = {"ds": DAYS[1], "at": MIDNIGHTS[1], "run_id": "r", "promoted": True, "promotion": 1}
    tables.append("decisions", [decision | {"champion_model": Contender.of(first).to_json()}])
    now = Tables(tables.spark, tables.warehouse, run_id="the-next-run")
    warm, model = trained(now, warm_start="champion")
    figures = model.card.training
    assert figures["warm_start"] == {"model_id": first["model_id"], "digest": first["digest"], "reason": None}
    assert figures["iterations"] <= 2 < json.loads(first["training"])["iterations"]
    assert figures["objective"] == pytest.approx(json.loads(first["training"])["objective"], rel=1e-6)
    assert warm["digest"] == trained(now, warm_start="champion")[0]["digest"]


def test_iterations_are_said_while_the_ranks_are_at_work(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tables, rows=300)
    monkeypatch.setattr(watch, "QUIET_S", 0.0)
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    said: list[str] = []
    row = train(tables, config(tables), name="lr", ds=DAYS[2], stretches=STRETCHES, say=said.append)
    assert f"lr: l2 0.001: iteration {json.loads(row['training'])['iterations']}, " in said[-1]


def test_days_that_train_time_touches_and_nobody_made_are_told(tables: Tables) -> None:
    write(tables)
    assert lacking(tables, STRETCHES.train) == []
    begun = Stretch(MIDNIGHTS[0] - timedelta(hours=9), MIDNIGHTS[1])
    assert lacking(tables, begun) == [f"warning: train time is {begun}, and sample has no rows of 2025-12-31"]


def test_what_cannot_be_trained_is_refused_by_name(tables: Tables) -> None:
    write(tables, rows=200)
    with pytest.raises(NotEnoughSlotsError, match="9 ranks"):
        trained(tables, ranks=9)
    late = Stretches(*(Stretch(s.start + timedelta(days=9), s.end + timedelta(days=9)) for s in STRETCHES))
    with pytest.raises(NoRowsError, match="no rows"):
        train(tables, config(tables), name="lr", ds=DAYS[2], stretches=late)
