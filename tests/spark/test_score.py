"""Scoring in Spark gives what scoring without Spark gives."""

from __future__ import annotations

import gzip
import io
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from score_models import dataset, lines, rows, save_model

from clickmill.config import Config
from clickmill.errors import MissingColumnsError, MissingTableError, NoRowsError, SchemaError, UsageError
from clickmill.score import local
from clickmill.score.driver import score, target

BAD = "too\tfew\n-\ts1\ta1\tcheap\tx\n"


def without_spark(model: Path, text: str) -> np.ndarray:
    sink = io.BytesIO()
    local.run(model, io.BytesIO(text.encode()), sink, io.StringIO())
    return np.array([float(line or "nan") for line in sink.getvalue().decode().splitlines()[1:]])


def test_text_in_many_splits_and_files_scores_as_without_spark(tables, tmp_path):
    source = {**dataset().source.model_dump(), "split_bytes": 300}
    model = save_model(tmp_path / "models", data=dataset(source=source))
    text = lines(200)
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.tsv").write_text(text)
    with gzip.open(folder / "b.tsv.gz", "wt") as file:
        file.write(lines(50, label=True) + "too\tfew\n0\t-\ts1\ta1\tcheap\tx\n")
    found = score(tables, model=model, path=str(folder)).toPandas()
    assert len(found) == 252
    good = found[found.reason.isnull()]
    wanted = np.concatenate([without_spark(model, text), without_spark(model, lines(50, label=True))])
    np.testing.assert_allclose(np.sort(good.p), np.sort(wanted), rtol=0, atol=1e-12)
    refused = found[found.reason.notnull()]
    assert sorted(refused.reason) == ["bad_number:price", "wrong_number_of_fields"]
    assert refused.p.isnull().all()
    assert "click" not in found.columns  # one of the files has no label


def test_rows_of_a_table_keep_their_columns_and_score_as_without_spark(tables, tmp_path):
    model = save_model(tmp_path / "models", data=dataset(source={"path": "x", "format": "parquet"}))
    some = rows(120)
    columns = {
        "key": list(range(120)),
        "site": [site or None for site, *_ in some],
        "ad": [ad for _, ad, _ in some],
        "price": [float(price) if price else None for *_, price in some],
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    place = str(tmp_path / "log.parquet")
    with pytest.raises(MissingColumnsError, match=r"columns \['key'\] are too many.*score.ignore_extra=true"):
        score(tables, model=model, path=place)
    found = score(tables, model=model, path=place, ignore_extra=True).orderBy("key").toPandas()
    assert list(found.columns) == [*columns, "p_sampled", "p", "reason"]
    text = "site\tad\tprice\n" + "".join("\t".join(row) + "\n" for row in some)
    np.testing.assert_allclose(found.p, without_spark(model, text), rtol=0, atol=1e-12)
    assert (found.p_sampled > found.p).all()


def test_columns_that_are_missing_or_cannot_be_hashed_are_named(tables, tmp_path):
    model = save_model(tmp_path / "models", data=dataset(source={"path": "x", "format": "parquet"}))
    place = str(tmp_path / "log.parquet")
    pq.write_table(pa.table({"site": ["s1"], "price": [1.0]}), place)
    with pytest.raises(MissingColumnsError, match=r"missing columns \['ad'\]"):
        score(tables, model=model, path=place)
    pq.write_table(pa.table({"site": ["s1"], "price": [1.0], "ad": [["a", "b"]]}), place)
    with pytest.raises(SchemaError, match="'ad' is array<string>"):
        score(tables, model=model, path=place)
    pq.write_table(pa.table({"site": ["s1"], "price": [1.0], "ad": ["a"], "p": [0.5]}), place)
    with pytest.raises(MissingColumnsError, match=r"columns \['p'\] are too many"):
        score(tables, model=model, path=place)


def test_text_with_missing_columns_or_nothing_at_all_is_refused(tables, tmp_path):
    model = save_model(tmp_path / "models")
    (tmp_path / "log.tsv").write_text("-\ts\n")
    with pytest.raises(MissingColumnsError, match="missing are"):
        score(tables, model=model, path=str(tmp_path / "log.tsv"))
    (tmp_path / "log.tsv").write_text("")
    with pytest.raises(NoRowsError):
        score(tables, model=model, path=str(tmp_path / "log.tsv"))
    with pytest.raises(NoRowsError):
        score(tables, model=model, path=str(tmp_path / "nothing.tsv"))


def test_keys_of_json_lines_that_are_missing_or_too_many_are_named(tables, tmp_path):
    model = save_model(tmp_path / "models", data=dataset(source={"path": "x", "format": "jsonl"}))
    log = tmp_path / "log.jsonl"
    log.write_text('{"sight": "s1", "ad": "a"}\n{"price": 1}\n')
    with pytest.raises(MissingColumnsError, match=r"log\.jsonl: missing columns \['site'\]"):
        score(tables, model=model, path=str(log))
    log.write_text('{"site": "s1", "ad": "a", "price": 1, "colour": 1}\n')
    with pytest.raises(MissingColumnsError, match=r"columns \['colour'\] are too many"):
        score(tables, model=model, path=str(log))
    assert score(tables, model=model, path=str(log), ignore_extra=True).count() == 1


def config(warehouse: str, **score_section: str) -> Config:
    return Config.model_validate(
        {"dataset": dataset().model_dump(), "warehouse": warehouse, "score": score_section}
    )


def test_the_job_scores_with_the_one_model_of_the_day_and_writes_its_folder(tables, warehouse, tmp_path):
    model, ds = save_model(tmp_path / "models"), date(2026, 1, 10)
    (artifact,) = (path for path in model.iterdir() if path.is_dir())
    row = {
        "model_id": model.name,
        "name": "lr",
        "kind": "logreg",
        "artifact": str(artifact),
        "digest": artifact.name,
    }
    tables.write("models", [{**row, "ds": ds}], replace={"ds": ds, "name": "lr"})
    (tmp_path / "log.tsv").write_text(lines(30) + BAD)
    cfg = config(warehouse, input=str(tmp_path / "log.tsv"))
    aim = target(tables, cfg, ds=ds, names=("lr",))
    assert aim.output == f"{warehouse}/_scores/{ds}/{model.name}"
    scored = score(tables, model=aim.model, path=aim.input)
    assert aim.write(scored, dry_run=True) == (32, 2)
    assert not Path(aim.output).exists()
    for _ in range(2):  # a second run replaces the first
        assert aim.write(scored, dry_run=False) == (32, 2)
    p = pq.read_table(aim.output, columns=["p"]).column("p").drop_null().to_numpy()
    np.testing.assert_allclose(np.sort(p), np.sort(without_spark(model, lines(30))), rtol=0, atol=1e-12)
    with pytest.raises(UsageError, match="takes one model, not lr, lr_nocross"):
        target(tables, cfg, ds=ds, names=("lr", "lr_nocross"))
    with pytest.raises(MissingTableError, match="no model called 'other'"):
        target(tables, cfg, ds=ds, names=("other",))
    named = config(warehouse, model=str(model), output=str(tmp_path / "out"))
    assert target(tables, named, ds=ds, names=()).model == model
