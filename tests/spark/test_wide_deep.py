"""train_wide_deep on Spark and Delta: the same network by every launcher; judged, scored, and gone on from."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import counted_days
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running
from counted_days import DAYS, LOG
from judged_day import VALUES

from clickmill.config import Config, Gate
from clickmill.errors import (
    ConfigError,
    GateRefusedError,
    MissingTableError,
    NotEnoughMemoryError,
    NotEnoughRowGroupsError,
    NotEnoughSlotsError,
    PlatformError,
)
from clickmill.hashing import hash_number, hash_slot
from clickmill.models import artifact
from clickmill.score import local
from clickmill.score.driver import score
from clickmill.split import stretches
from clickmill.train import gpu
from clickmill.train.wide_deep import driver
from clickmill.train.wide_deep.driver import FOLDER, train

if TYPE_CHECKING:
    from clickmill.tables import Tables

pytest.importorskip("torch", reason="networks need `make deep`")

BUCKET = pa.array(hash_number("price", LOG["n_price"].to_numpy().astype(np.float64), ()), pa.int32())
WHOLE_LOG = LOG.append_column("s_price", BUCKET)
HERE = {"launcher": "local", "ranks": 1}
HOROVOD = {"launcher": "horovod", "ranks": 2}


def config(tables: Tables, **spec: Any) -> Config:
    known = {
        "kind": "wide_deep",
        "wide_bits": 12,
        "embedding": {"dim": 8},
        "hidden": [16],
        "batch_rows": 128,
        "epochs": 2,
        "threads": 1,
    }
    return counted_days.config(tables, train="2d", deep=known | HERE | spec)


@pytest.fixture
def made(tables: Tables) -> Tables:
    return counted_days.prepared(tables, WHOLE_LOG)


def trained(tables: Tables, **spec: Any) -> dict[str, Any]:
    cfg = config(tables, **spec)
    return train(tables, cfg, name="deep", ds=DAYS[3], stretches=stretches(cfg.split, datetime(2026, 1, 10, 23)))


def test_by_spark_s_tasks_by_torchrun_and_by_one_process_it_learns_and_is_scored_the_same(
    made: Tables, tmp_path: Path
) -> None:
    pytest.importorskip("horovod", reason="Horovod needs `make deep`")
    one, two, three = (trained(made, **way) for way in (HERE, HOROVOD, HOROVOD | {"launcher": "torchrun"}))
    for row, ranks in ((one, 1), (two, 2), (three, 2)):
        figures = json.loads(row["training"])
        assert (row["status"], row["kind"], row["keep_rate"]) == ("trained", "wide_deep", 0.5)
        assert json.loads(row["versions"]).keys() == {"sample", "features"}
        assert (figures["ranks"], figures["validation_rows"]) == (ranks, 6000)
        assert figures["validation_ne"] < 0.97
    assert not list(Path(made.warehouse, "_models", FOLDER).iterdir())
    rows = LOG.slice(0, 300)
    ads = dict(zip(hash_slot("ad", VALUES).tolist(), VALUES, strict=True))
    raw = pa.table({"ad": [ads[hashed] for hashed in rows["s_ad"].to_pylist()], "price": rows["n_price"]})
    pq.write_table(raw, tmp_path / "log.parquet")
    text = "ad\tprice\n" + "".join(f"{ad}\t{price}\n" for ad, price in zip(*raw.to_pydict().values(), strict=True))
    found = []
    for row in (two, three):
        folder = Path(row["artifact"]).parent
        cut = score(made, model=folder, path=str(tmp_path / "log.parquet"), calibration="none").toPandas()
        sink = io.BytesIO()
        local.run(folder, io.BytesIO(text.encode()), sink, io.StringIO(), calibration="none", format="tsv")
        alone = np.array(sink.getvalue().split()[1:], np.float64)
        np.testing.assert_allclose(cut.p, alone, rtol=0, atol=1e-6)
        found.append(alone)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
    model = artifact.load(two["artifact"])
    batches = WHOLE_LOG.slice(0, 300).combine_chunks().to_batches()
    p_sampled = 1 / (1 + np.exp(-np.concatenate([model.margins(batch) for batch in batches])))
    np.testing.assert_allclose(found[0], p_sampled / (p_sampled + (1 - p_sampled) / 0.5), rtol=0, atol=1e-6)


def test_it_is_calibrated_judged_and_up_for_promotion_as_any_other_model(made: Tables) -> None:
    from clickmill.jobs import calibrate, evaluate, promote, train_wide_deep
    from clickmill.tables import Tables as Fresh

    gate = Gate(calibration_band=(0.5, 2.0))  # (so few clicks prove no better)
    cfg = config(made).model_copy(update={"gate": gate})
    for job in (train_wide_deep.JOB, calibrate.JOB, evaluate.JOB, promote.JOB):
        tables = Fresh(made.spark, made.warehouse, run_id=job.name)
        try:
            done = running.run(tables, job, cfg, DAYS, models=("deep",))
        except GateRefusedError:
            pytest.fail("refused")
    (row,) = Fresh(made.spark, made.warehouse, run_id="then").rows("models")
    assert done.result["decision"]["promoted"]
    again = Fresh(made.spark, made.warehouse, run_id="again")
    started = json.loads(trained(again, warm_start="champion")["training"])
    assert started["warm_start"]["reason"] == "there is no champion as of 2026-01-09"
    assert row["name"] == "deep"


def test_a_warm_start_goes_on_over_the_newest_day(made: Tables) -> None:
    from clickmill.tables import Tables as Fresh

    row = trained(made)
    made.write("models", [row], replace={"ds": DAYS[3], "name": "deep"})
    tables = Fresh(made.spark, made.warehouse, run_id="later")
    more = trained(tables, warm_start=row["model_id"], replay=0.0)
    before, figures = (json.loads(one["training"]) for one in (row, more))
    assert figures["warm_start"]["model_id"] == row["model_id"]
    assert figures["rows"] < 0.6 * before["rows"]
    assert figures["epochs"] == 1
    # Where nothing is learned, what it began with is left.
    still = {"learning_rate": 1e-9, "ftrl": {"alpha": 1e-9}}
    same = json.loads(trained(tables, warm_start=row["model_id"], replay=0.0, **still)["training"])
    assert same["validation_ne"] == pytest.approx(before["validation_ne"], abs=1e-4)
    with pytest.raises(ConfigError, match="hidden"):
        trained(tables, warm_start=row["model_id"], hidden=[8])
    with pytest.raises(ConfigError, match="other columns, dims, bits"):
        trained(tables, warm_start=row["model_id"], wide_bits=13)
    with pytest.raises(MissingTableError, match="no model 'nobody'"):
        trained(tables, warm_start="nobody")


def test_one_process_trains_to_the_same_bits_again(made: Tables) -> None:
    assert trained(made)["digest"] == trained(made)["digest"]


def test_what_cannot_be_trained_is_said_before(made: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec, kind, says in (
        (
            {"launcher": "torchrun", "ranks": 40},
            NotEnoughRowGroupsError,
            "models.deep: 40 ranks and .* row groups",
        ),
        ({"launcher": "horovod", "ranks": 5}, NotEnoughSlotsError, "5 ranks need 5 slots"),
        ({"embedding": {"bits": {"ad": 26}}, "memory_mb": 64}, NotEnoughMemoryError, r"no table above 1\d bits"),
    ):
        with pytest.raises(kind, match=says) as told:
            trained(made, **spec)
        assert told.value.exit_code == 2
    monkeypatch.setattr(gpu, "DRIVER", "libnothing.so")
    with pytest.raises(PlatformError, match="device cuda: there is no NVIDIA driver"):
        trained(made, device="cuda")
    monkeypatch.setattr(driver.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PlatformError, match="torch is missing; run `make deep`"):
        trained(made)
    assert not Path(made.warehouse, "_models").exists()


def test_a_dry_run_and_the_overfit_check_keep_nothing(made: Tables) -> None:
    cfg = config(made)
    found = stretches(cfg.split, datetime(2026, 1, 10, 23))
    row = train(made, cfg, name="deep", ds=DAYS[3], stretches=found, dry_run=True)
    assert (row["artifact"], row["digest"]) == ("", "")
    learned = driver.check(made, cfg, name="deep", ds=DAYS[3], stretches=found)
    assert learned["last"] < 0.05 * learned["first"]
    assert [path.name for path in Path(made.warehouse, "_models").iterdir()] == [FOLDER]
    assert not list(Path(made.warehouse, "_models", FOLDER).iterdir())
