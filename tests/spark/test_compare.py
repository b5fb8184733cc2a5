"""`clickmill compare` on Spark: another system's p, judged by the same judge on the same rows as our models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import judged_day
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import stored
import yaml
from judged_day import DS, save_model
from test_evaluate import FIGURES, PLATT, SLICES, prepare
from typer.testing import CliRunner

from clickmill import cli, errors
from clickmill.compare import compare
from clickmill.job import Arguments, execute
from clickmill.scoring import Contender

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickmill.evaluate.outside import Told
    from clickmill.tables import Tables

TEST_DAYS = judged_day.days(2)
LOG = judged_day.features(judged_day.days(4), 1000)
JUDGE = {"slices": SLICES[1:2], "replicates": 60, "min_clicks": 20}


def of_test_time(log: pa.Table = LOG) -> pa.Table:
    """What another system would hand in: its p is the true one."""
    own = log.filter(pc.is_in(log["ds"], pa.array(TEST_DAYS)))
    return own.select(["event_id", "label"]).append_column("p", own["c_p_true"])


def conf(tables: Tables, folder: Path) -> str:
    place = folder / "conf.yaml"
    known = {
        "dataset": judged_day.DATASET.model_dump(mode="json", exclude_unset=True),
        "warehouse": tables.warehouse,
        "models": {name: {"kind": "logreg", "bits": 22} for name in ("right", "off", "never")},
        "split": {"train": "1d", "validation": "1d", "test": "2d"},
        "judge": JUDGE,
    }
    place.write_text(yaml.safe_dump(known), encoding="utf-8")
    return str(place)


def compared(tables: Tables, folder: Path, file: Path, *more: str) -> dict[str, Any]:
    """The verdict of the command line; what it printed is that and nothing else."""
    given = [
        "compare",
        "--predictions",
        str(file),
        "--conf",
        conf(tables, folder),
        "--ds",
        str(DS),
        "--json",
        *more,
    ]
    done = CliRunner().invoke(cli.app, given)
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert verdict["exit_code"] == done.exit_code
    return verdict


def versions(tables: Tables) -> dict[str, int]:
    return {
        place.name: stored.version(tables.warehouse, place.name)
        for place in Path(tables.warehouse).glob("[a-z]*/")
    }


def p_of(model: dict[str, Any]) -> pa.Table:
    """What one of our models says of test time, as another system would hand it in."""
    own = LOG.filter(pc.is_in(LOG["ds"], pa.array(TEST_DAYS)))
    contender = Contender.of(model)
    said = [contender.prior_corrected(contender.p_sampled(batch)) for batch in own.to_batches()]
    return own.select(["event_id", "label"]).append_column("p", pa.array(PLATT.apply(np.concatenate(said))))


def test_the_judge_says_the_same_of_a_p_from_outside_and_writes_nothing(tables: Tables, tmp_path: Path) -> None:
    right, off = save_model(tables.warehouse, "right"), save_model(tables.warehouse, "off", slope=-0.3, shift=-3.0)
    never = save_model(tables.warehouse, "never")
    prepare(tables, LOG, right, off)
    tables.write("models", [right, off, never], replace={"ds": DS})
    keys = {"ds": DS, "run_id": "r", "stage": "calibrated", "slice": "all", "metric": "n", "traffic": "full"}
    judged = [keys | {"model_id": model["model_id"]} for model in (right, off)]
    tables.write("metrics", judged, replace={"ds": DS})
    before = versions(tables)
    theirs = LOG.filter(pc.equal(LOG["ds"], judged_day.days(4)[0])).select(["event_id", "label"])
    elsewhere = theirs.append_column("p", pa.array([2.0] * len(theirs)))  # not looked at
    file = tmp_path / "vendor.v2.csv"
    csv.write_csv(pa.concat_tables([p_of(off), elsewhere]), file)

    verdict = compared(tables, tmp_path, file)
    assert verdict["exit_code"] == 0
    assert (verdict["traffic"], verdict["predictions"]) == ("full", str(file))
    assert verdict["counts"] == {"rows_in": 2000, "other_day": 1000}
    models = {model["name"]: model for model in verdict["models"]}
    assert verdict["models"][0]["name"] == "right", "the best comes first"
    assert set(models) == {"right", "off", "vendor"}, "of ours those that were judged that day"
    assert models["vendor"]["kind"] == "outside"
    assert models["vendor"]["metrics_uncalibrated"]["ne"]["value"] == models["vendor"]["metrics"]["ne"]["value"]
    said = {"right": p_of(right), "off": p_of(off), "vendor": p_of(off)}
    for name, own in said.items():
        for metric, exact in FIGURES.items():
            value = exact(own["label"].to_numpy(), own["p"].to_numpy())
            assert models[name]["metrics"][metric]["value"] == pytest.approx(value, abs=1e-6), (name, metric)
    for metric, found in models["vendor"]["metrics"].items():
        near = {end: pytest.approx(value, abs=1e-5) for end, value in models["off"]["metrics"][metric].items()}
        assert found == near, metric

    rows = {(row["other_id"], row["slice"]): row for row in verdict["differences"]}
    same = rows[off["model_id"], "all"]
    assert (same["difference"], same["low"], same["high"]) == pytest.approx((0, 0, 0), abs=1e-12)
    worse = rows[right["model_id"], "all"]
    assert 0 < worse["low"] < worse["difference"] < worse["high"]
    assert rows[right["model_id"], "3<=price<6"]["verdict"] == "worse"
    assert versions(tables) == before
    assert "runs" not in before

    for more, code, error in (
        (["--models", "never"], 3, "MissingTableError"),  # it was not calibrated
        (["--name", "off"], 2, "UsageError"),
    ):
        verdict = compared(tables, tmp_path, file, *more)
        assert (verdict["exit_code"], verdict["error"]["name"]) == (code, error)
    assert "--name off: one of our models is called so" in verdict["error"]["message"]
    assert versions(tables) == before

    right["stretches"] = json.dumps({"train": ["2026-01-07T00:00:00", "2026-01-09T01:00:00"]})
    tables.write("models", [right, off], replace={"ds": DS})
    verdict = compared(tables, tmp_path, file, "--models", "right")
    assert (verdict["exit_code"], verdict["error"]["name"]) == (3, "OverlapError")


def test_a_team_without_models_sees_its_own_p_on_the_terminal(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged_day.write_features(tables, LOG.slice(2000))
    folder = tmp_path / "now"
    folder.mkdir()
    pq.write_table(of_test_time().slice(0, 700), folder / "a.parquet")
    pq.write_table(of_test_time().slice(700), folder / "b.parquet")
    arguments = Arguments(conf=(conf(tables, tmp_path),), ds=DS, dry_run=True)
    assert execute(compare(str(folder), name=None, models=("right",)), arguments) == 3, "there is no such model"
    assert execute(compare(str(folder), name=None, models=()), arguments) == 0
    out = capsys.readouterr().out
    assert "tiny · 2026-01-10 · test time, 2,000 rows" in out
    (line,) = [line.split() for line in out.splitlines() if line.split()[:1] == ["now"]]
    assert len(line) == 7
    assert 0.7 < float(line[2]) < 1
    assert list(versions(tables)) == ["features"]


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("rows") / "features.parquet"
    log = LOG.filter(pc.is_in(LOG["ds"], pa.array(TEST_DAYS))).slice(0, 100)
    pq.write_table(log, place)
    return spark.read.parquet(str(place))


def beside_rows(rows: Any, file: Path) -> Told:
    from clickmill.evaluate.outside import beside, predictions
    from clickmill.evaluate.passes import Traffic

    return beside(Traffic.of("full", rows), predictions(rows.sparkSession, str(file)), "p.csv")


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (
            lambda lines: lines[:1] + lines[4:] + ["e1,1,7"],
            "MissingEventsError",
            r"lacks 3 of the 100 rows of test time, such as event_id 'e2000'; it has 1 rows of other",
        ),
        (
            lambda lines: lines + lines[5:7] + lines[6:7],
            "RepeatedEventsError",
            r"2 event_ids are there more than once, such as 'e2004', 2 times",
        ),
        (
            lambda lines: _with_p(lines, "NaN", "1.0001", "-0.5", "", "much"),
            "InvalidProbabilityError",
            r"5 rows have no probability as p, such as 'NaN' for event_id 'e2000'",
        ),
        (
            lambda lines: _with_p(lines[:3], "1e-3", "") + lines[3:],
            "InvalidProbabilityError",
            r"1 rows have no probability as p, such as None for event_id 'e2001'",
        ),
        (
            lambda lines: [
                lines[0],
                *(f"{e},{1 - int(y)},{p}" for e, y, p in (line.split(",") for line in lines[1:3])),
                "e2002,,0.1",
                *lines[4:],
            ],
            "OtherLabelsError",
            r"3 labels are not the log's, such as '[01]' for event_id 'e2000', whose label is [01]",
        ),
        (
            lambda lines: [line.rpartition(",")[0] for line in lines],
            "MissingColumnsError",
            r"missing columns p; found event_id, label",
        ),
    ],
    ids=["missing", "repeated", "not p", "null", "labels", "columns"],
)
def test_a_bad_file_is_named(rows: Any, tmp_path: Path, edit: Any, error: str, said: str) -> None:
    own = of_test_time().slice(0, 100)
    lines = ["event_id,label,p", *(",".join(map(str, row.values())) for row in own.to_pylist())]
    file = tmp_path / "p.csv"
    file.write_text("\n".join(edit(lines)) + "\n", encoding="utf-8")
    kind = getattr(errors, error)
    assert kind.exit_code == errors.EXIT_INPUT
    with pytest.raises(kind, match=said):
        beside_rows(rows, file)


def test_what_is_no_file_of_predictions_is_named(rows: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.NoRowsError, match=r"nothing\.csv: cannot be read as csv: .*PATH_NOT_FOUND"):
        beside_rows(rows, tmp_path / "nothing.csv")
    (tmp_path / "p.parquet").write_text("event_id,label,p\n", encoding="utf-8")
    with pytest.raises(errors.NoRowsError, match=r"p\.parquet: cannot be read as parquet: .*p\.parquet"):
        beside_rows(rows, tmp_path / "p.parquet")
    for name in ("_p.csv", ".p.parquet", "a:b.csv"):
        (tmp_path / name).write_text("event_id,label,p\n", encoding="utf-8")
        with pytest.raises(errors.NoRowsError, match=r"rename it"):
            beside_rows(rows, tmp_path / name)


def test_of_a_delta_table_only_the_newest_version_is_compared(rows: Any, tmp_path: Path) -> None:
    from deltalake import write_deltalake

    own = of_test_time()
    write_deltalake(
        str(tmp_path / "p"),
        own.set_column(own.schema.get_field_index("p"), "p", pa.nulls(len(own)).cast(pa.float64())),
    )
    write_deltalake(str(tmp_path / "p"), own, mode="overwrite")
    told = beside_rows(rows, tmp_path / "p")
    assert (told.traffic.frame().count(), told.elsewhere) == (rows.count(), len(own) - rows.count())


@pytest.mark.parametrize("name", ["p[1]{a,b}*?.csv", "p[1]", "p{2}.parquet"])
def test_a_name_that_spark_would_take_for_a_pattern_is_a_name(rows: Any, tmp_path: Path, name: str) -> None:
    from deltalake import write_deltalake

    own, file = of_test_time(), tmp_path / name
    if name.endswith(".csv"):
        csv.write_csv(own, file)
    elif name.endswith(".parquet"):
        pq.write_table(own, file)
    else:
        write_deltalake(str(tmp_path / "p"), own)
        (tmp_path / "p").rename(file)
    told = beside_rows(rows, file)
    assert (told.traffic.frame().count(), told.elsewhere) == (rows.count(), len(own) - rows.count())


def _with_p(lines: list[str], *p: str) -> list[str]:
    changed = [f"{line.rpartition(',')[0]},{value}" for line, value in zip(lines[1:], p, strict=False)]
    return [lines[0], *changed, *lines[1 + len(p) :]]
