"""The job `ingest` on Spark and Delta: accounting, refusals, reruns, equal rows, sources, and the real logs."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import running
import stored

from clickmill.config import Config
from clickmill.config_files import load
from clickmill.errors import InputError, MissingColumnsError, NoRowsError, RejectLimitError

if TYPE_CHECKING:
    from clickmill.job import Run
    from clickmill.tables import Tables

FIRST, SECOND, THIRD = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)


def config(tables: Tables, path: Path | str, **changes: Any) -> Config:
    source = {"path": str(path), "format": "csv", "header": True, **changes.pop("source", {})}
    dataset: dict[str, Any] = {
        "name": "mine",
        "label": "click",
        "event_time": {"kind": "column", "column": "at"},
        "slots": ["site"],
        "numbers": ["price"],
        "source": source,
    }
    ingest = {"max_reject_share": changes.pop("max_reject_share", 0.5)}
    return Config.model_validate({"dataset": dataset | changes, "warehouse": tables.warehouse, "ingest": ingest})


def ingest(tables: Tables, cfg: Config, *days: date) -> Run:
    from clickmill.jobs.ingest import JOB

    return running.run(tables, JOB, cfg, days)


def rows(tables: Tables, name: str) -> list[dict[str, Any]]:
    return stored.rows(tables.warehouse, name)


def adds_up(counts: Mapping[str, int]) -> bool:
    return counts["rows_in"] == counts["rows_out"] + counts["rejected"] + counts["other_day"]


def write(path: Path, *lines: str, header: str = "at,click,site,price") -> Path:
    path.write_text("\n".join([header, *lines]), encoding="utf-8")
    return path


def test_every_line_is_written_rejected_or_of_another_day(tables: Tables, tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        "2026-01-01 05:00,1,é,1.5",
        "2026-01-01 06:00,0,,",
        "2026-01-02,1,a,1",
        "2026-01-03,1,a,1",
        "2026-01-01,2,a,1",
        "2026-01-01,1",
    )
    run = ingest(tables, config(tables, path, source={"split_bytes": 40}), FIRST, SECOND)
    assert run.counts == {"rows_in": 6, "rows_out": 3, "rejected": 2, "other_day": 1}
    log = {row["event_time"].isoformat(): row for row in rows(tables, "click_log")}
    assert sorted(log) == ["2026-01-01T05:00:00+00:00", "2026-01-01T06:00:00+00:00", "2026-01-02T00:00:00+00:00"]
    first = log["2026-01-01T05:00:00+00:00"]
    assert (first["site"], first["price"], first["label"], first["ds"]) == ("é", 1.5, 1, FIRST)
    assert [(r["line"], r["reason"], r["text"], r["run_id"], r["ds"]) for r in rows(tables, "rejects")] == [
        (6, "bad_label", "2026-01-01,2,a,1", tables.run_id, SECOND),
        (7, "wrong_number_of_fields", "2026-01-01,1", tables.run_id, SECOND),
    ]
    assert {r["source"] for r in rows(tables, "rejects")} == {str(path)}


def test_a_rerun_leaves_both_tables_as_they_were(tables: Tables, tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "2026-01-01,1,a,1", "2026-01-01,1,a,1", "2026-01-02,1,a,1", "x,1,a,1")
    cfg = config(tables, path)
    ingest(tables, cfg, FIRST)
    ingest(tables, cfg, SECOND)
    before = rows(tables, "click_log"), rows(tables, "rejects")
    assert (len(before[0]), len(before[1])) == (3, 2)
    ingest(tables, cfg, FIRST)
    ingest(tables, cfg, SECOND)
    assert (rows(tables, "click_log"), rows(tables, "rejects")) == before
    ingest(tables, cfg, FIRST, SECOND)
    assert rows(tables, "click_log") == before[0]
    assert [r["ds"] for r in rows(tables, "rejects")] == [SECOND]


def test_files_of_a_day_keep_their_rejects_however_many_days_run_at_once(tables: Tables, tmp_path: Path) -> None:
    for day in (FIRST, SECOND):
        write(tmp_path / f"log-{day}.csv", f"{day},1,a,1", f"{day},x,a,1")
    cfg = config(tables, tmp_path / "log-{ds}.csv")
    ingest(tables, cfg, FIRST, SECOND)
    before = rows(tables, "click_log"), rows(tables, "rejects")
    assert [r["ds"] for r in before[1]] == [FIRST, SECOND]
    ingest(tables, cfg, FIRST)
    assert (rows(tables, "click_log"), rows(tables, "rejects")) == before


def test_above_the_limit_rejects_are_written_and_click_log_is_not_touched(tables: Tables, tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv", "2026-01-01,1,a,1")
    ingest(tables, config(tables, good), FIRST)
    before = rows(tables, "click_log")
    version = tables.newest("click_log")
    bad = ["x,1,a,1"] * 4 + ["2026-01-01,2,a,1"] * 3 + ["2026-01-01,1,a,?"] * 2 + ["1", "2026-01-01,1,a,1"]
    path = write(tmp_path / "bad.csv", *bad)
    message = (
        r"bad\.csv: 10 of 11 lines \(90\.91%\) were rejected.*allows 90\.00%; commonest reasons: "
        r"bad_time 4, bad_label 3, bad_number:price 2, wrong_number_of_fields 1;"
    )
    with pytest.raises(RejectLimitError, match=message):
        ingest(tables, config(tables, path, max_reject_share=0.9), FIRST)
    assert rows(tables, "click_log") == before
    assert tables.newest("click_log") == version
    assert len(rows(tables, "rejects")) == 10
    ingest(tables, config(tables, path, max_reject_share=10 / 11), FIRST)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("at,click,site,price\n", "empty"),
        (
            "at,click,site,price\n2026-01-01,1,a,1\n2026-01-03,1,a,1\n",
            "no rows for 2026-01-02; the log has rows from 2026-01-01 to 2026-01-03",
        ),
    ],
)
def test_an_empty_log_or_a_day_without_rows_writes_no_day(
    tables: Tables, tmp_path: Path, text: str, message: str
) -> None:
    ingest(tables, config(tables, write(tmp_path / "good.csv", "2026-01-01,1,a,1")), FIRST)
    before = rows(tables, "click_log")
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(NoRowsError, match=message):
        ingest(tables, config(tables, tmp_path / "log.csv"), FIRST, SECOND, THIRD)
    assert rows(tables, "click_log") == before


def test_a_missing_file_or_column_is_named_before_anything_is_written(tables: Tables, tmp_path: Path) -> None:
    with pytest.raises(NoRowsError, match=r"nowhere\.csv: there is no such file"):
        ingest(tables, config(tables, tmp_path / "nowhere.csv"), FIRST)
    path = write(tmp_path / "log.csv", "2026-01-01,1,a,1", header="at,click,sight,price")
    with pytest.raises(MissingColumnsError, match=r"log\.csv: missing columns \['site'\]; found \['at', 'click'"):
        ingest(tables, config(tables, path), FIRST)
    path = write(tmp_path / "log.csv", "2026-01-01,1,a,1,1", header="at,click,site,price,site")
    with pytest.raises(MissingColumnsError, match=r"\['site'\] stand twice"):
        ingest(tables, config(tables, path), FIRST)
    assert not tables.exists("click_log")


def test_a_file_of_another_format_is_wrong_input_by_its_name(tables: Tables, tmp_path: Path) -> None:
    from clickmill.job import named

    good = tables.spark.createDataFrame(
        [(datetime(2026, 1, 1), 1, "a", 1.0)] * 9, "at timestamp, click int, site string, price double"
    )
    good.coalesce(1).write.parquet(str(tmp_path / "logs"))
    (tmp_path / "logs" / "part-zz bad.parquet").write_text("no Parquet at all, but of a fair length")
    for path in (tmp_path / "logs", tmp_path / "logs" / "part-zz bad.parquet"):
        with pytest.raises(Exception, match="FAILED_READ_FILE") as raised:
            ingest(tables, config(tables, path, source={"format": "parquet", "header": False}), FIRST)
        error = named(raised.value)
        assert isinstance(error, InputError)
        assert "part-zz bad.parquet: damaged, or not of the format" in str(error)
    binary = tmp_path / "log.csv"
    binary.write_bytes(b"PAR1" + b"x,\x01" * 5000)
    with pytest.raises(MissingColumnsError, match=r"missing columns .* \(5001 in all\)$") as told:
        ingest(tables, config(tables, binary), FIRST)
    assert len(str(told.value)) < 2000
    assert not tables.exists("click_log")


def test_times_in_nanoseconds_are_wrong_input_with_the_remedy(tables: Tables, tmp_path: Path) -> None:
    """What pandas writes unless it is told otherwise; Spark reads none."""
    at = pa.array([datetime(2026, 1, 1, 5)], pa.timestamp("ns"))
    pq.write_table(pa.table({"at": at, "click": [1], "site": ["a"], "price": [1.5]}), tmp_path / "log.parquet")
    cfg = config(tables, tmp_path / "log.parquet", source={"format": "parquet", "header": False})
    with pytest.raises(NoRowsError, match=r"NANOS.*coerce_timestamps='us'"):
        ingest(tables, cfg, FIRST)


def test_a_number_that_is_a_time_is_rejected_by_name(tables: Tables, tmp_path: Path) -> None:
    at = pa.array([datetime(2026, 1, 1, 5)], pa.timestamp("us"))
    pq.write_table(pa.table({"at": at, "click": [1], "site": ["a"], "price": at}), tmp_path / "log.parquet")
    cfg = config(tables, tmp_path / "log.parquet", source={"format": "parquet", "header": False})
    with pytest.raises(RejectLimitError, match=r"commonest reasons: bad_number:price 1;"):
        ingest(tables, cfg, FIRST)


def test_equal_rows_are_told_apart_by_their_place(tables: Tables, tmp_path: Path) -> None:
    same = "2026-01-01,1,a,1,7,8"
    path = write(
        tmp_path / "log.csv",
        same,
        "2026-01-01,0,b,1,7,8",
        same,
        same,
        "2026-01-02,1,a,1,7,8",
        header="at,click,site,high,low,occurrence",
    )
    counts = ingest(
        tables,
        config(tables, path, slots=["site"], numbers=["high", "low", "occurrence"], source={"split_bytes": 20}),
        FIRST,
        SECOND,
    ).counts
    assert adds_up(counts)
    assert {(row["high"], row["low"], row["occurrence"]) for row in rows(tables, "click_log")} == {(1, 7, 8)}
    ids = [row["event_id"] for row in rows(tables, "click_log")]
    assert len(set(ids)) == len(ids) == 5
    hashes = [event_id.split("-")[0] for event_id in ids]
    (equal,) = {h for h in hashes if hashes.count(h) > 1}
    assert sorted(i for i in ids if i.startswith(equal)) == [f"{equal}-{n}" for n in range(3)]
    assert sorted(i.split("-")[1] for i in ids if not i.startswith(equal)) == ["0", "0"]


def test_equal_rows_of_a_log_without_time_are_numbered_in_its_order(tables: Tables, tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", *["1,a,1"] * 40, header="click,site,price")
    order = {"kind": "row_order", "rows_per_day": 40, "first_day": FIRST}
    ingest(tables, config(tables, path, event_time=order, source={"split_bytes": 35}), FIRST)
    log = sorted(rows(tables, "click_log"), key=lambda row: row["event_time"])
    assert [row["event_id"].split("-")[1] for row in log] == [str(n) for n in range(40)]


def test_a_key_that_comes_again_on_its_day_is_rejected(tables: Tables, tmp_path: Path) -> None:
    header = "at,click,site,price,key"
    lines = [
        "2026-01-01,1,a,1,k",
        "2026-01-02,0,b,1,k",
        "2026-01-01,0,c,1,k",
        "2026-01-01,0,d,1,l",
        "2026-01-01,1,e,1,k",
    ]
    cfg = config(
        tables, write(tmp_path / "log.csv", *lines, header=header), event_id="key", source={"split_bytes": 30}
    )
    counts = ingest(tables, cfg, FIRST, SECOND).counts
    assert counts == {"rows_in": 5, "rows_out": 3, "rejected": 2, "other_day": 0}
    assert sorted((row["event_id"], row["site"]) for row in rows(tables, "click_log")) == [
        ("k", "a"),
        ("k", "b"),
        ("l", "d"),
    ]
    assert [(row["line"], row["reason"], row["text"]) for row in rows(tables, "rejects")] == [
        (4, "duplicate_event_id", lines[2]),
        (6, "duplicate_event_id", lines[4]),
    ]


@pytest.mark.parametrize("format", ["parquet", "delta"])
def test_tables_are_read_as_text_is(tables: Tables, tmp_path: Path, format: str) -> None:
    frame = tables.spark.createDataFrame(
        [
            (datetime(2026, 1, 1, 5), 1, "a", 1.5, [1], FIRST, "k"),
            (datetime(2026, 1, 1, 5), 1, "a", 1.5, [1], FIRST, "k"),
            (datetime(2026, 1, 2, 5), 0, "", None, [2], SECOND, "k"),
            (datetime(2026, 1, 1, 5), 7, "bad", 1.0, [3], FIRST, "l"),
            (datetime(2026, 1, 3, 5), 1, "a", 1.0, None, THIRD, "k"),
        ],
        "at timestamp, click int, site string, price double, nested array<int>, day date, key string",
    )
    path = str(tmp_path / "raw log")
    frame.write.format(format).partitionBy("day").save(path)
    source = {"format": format, "header": False}
    counts = ingest(tables, config(tables, path, source=source), FIRST, SECOND).counts
    assert counts == {"rows_in": 5, "rows_out": 3, "rejected": 1, "other_day": 1}
    log = rows(tables, "click_log")
    assert sorted((row["ds"], row["site"], row["price"], row["event_id"][-2:]) for row in log if row["site"]) == [
        (FIRST, "a", 1.5, "-0"),
        (FIRST, "a", 1.5, "-1"),
    ]
    (rejected,) = rows(tables, "rejects")
    assert (rejected["source"], rejected["line"], rejected["reason"]) == (path, None, "bad_label")
    assert '"nested": "[3]"' in rejected["text"]

    by_day = ingest(tables, config(tables, path, source=source | {"day_column": "day"}), FIRST, SECOND).counts
    assert by_day == {"rows_in": 4, "rows_out": 3, "rejected": 1, "other_day": 0}
    folders = config(tables, f"{path}/day={{ds}}", source={"format": "parquet", "header": False})
    if format == "parquet":
        assert ingest(tables, folders, FIRST, SECOND).counts == by_day
        assert rows(tables, "rejects")[0]["ds"] == FIRST
    keyed = ingest(tables, config(tables, path, source=source, event_id="key"), FIRST, SECOND).counts
    assert keyed == {"rows_in": 5, "rows_out": 2, "rejected": 2, "other_day": 1}
    assert sorted(r["reason"] for r in rows(tables, "rejects")) == ["bad_label", "duplicate_event_id"]


def test_an_empty_zipped_file_beside_others_is_no_mistake(tables: Tables, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder / "a.csv", "2026-01-01,1,a,1")
    (folder / "b.csv.gz").write_bytes(gzip.compress(b""))
    (folder / "c.csv").touch()
    assert ingest(tables, config(tables, folder), FIRST).counts["rows_out"] == 1


def test_gzip_and_json_lines(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"at": "2026-01-01", "click": 1, "site": 7}\n{"at": 1}\n'))
    cfg = config(tables, path, source={"format": "jsonl", "header": False})
    with pytest.raises(MissingColumnsError, match=r"missing columns \['price'\]: no line has a key of this name"):
        ingest(tables, cfg, FIRST)
    path.write_bytes(gzip.compress(b'{"at": "2026-01-01", "click": 1, "site": 7}\n{"at": 1, "price": null}\n'))
    assert ingest(tables, cfg, FIRST).counts == {"rows_in": 2, "rows_out": 1, "rejected": 1, "other_day": 0}


# --- the real logs ----------------------------------------------------------------------------


def real(tables: Tables, name: str, path: Path, *sets: str) -> Config:
    file = f"conf/datasets/{name}.yaml"
    return load([file], [f"warehouse={tables.warehouse}", f"dataset.source.path={path}", *sets])


def test_the_criteo_sample(tables: Tables, real_logs: Path) -> None:
    path = real_logs / "criteo_kaggle_head10k" / "train.tsv"
    cfg = real(tables, "criteo", path, "dataset.event_time.rows_per_day=1000", "dataset.source.split_bytes=500000")
    days = tuple(date(2014, 5, day) for day in range(1, 11))
    assert ingest(tables, cfg, *days).counts == {
        "rows_in": 10_000,
        "rows_out": 10_000,
        "rejected": 0,
        "other_day": 0,
    }
    log = stored.table(tables.warehouse, "click_log")
    assert Counter(log["ds"].to_pylist()) == dict.fromkeys(days, 1000)
    figures = {
        "clicks": pc.sum(log["label"]).as_py(),
        "low": pc.min(log["I2"]).as_py(),
        "ids": pc.count_distinct(log["event_id"]).as_py(),
        "missing": log["C26"].null_count,
    }
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert figures == {
        "clicks": sum(line[0] == "1" for line in lines),
        "low": min(float(line[2]) for line in lines if line[2]),
        "ids": 10_000,
        "missing": sum(line[39] == "" for line in lines),
    }


def test_the_avazu_sample(tables: Tables, real_logs: Path) -> None:
    path = real_logs / "avazu_43k" / "avazu.csv"
    cfg = real(tables, "avazu", path)
    days = (date(2014, 10, 21), date(2014, 10, 22))
    assert ingest(tables, cfg, *days).counts == {
        "rows_in": 43_299,
        "rows_out": 43_299,
        "rejected": 0,
        "other_day": 0,
    }
    from clickmill.split import stretches

    parts = stretches(cfg.split, tables.last_time("click_log", days[-1]))
    assert parts.test.start == datetime(2014, 10, 22, 9)
    assert parts.train.start == datetime(2014, 10, 21)
    log = stored.table(tables.warehouse, "click_log")
    inside = log.filter(pc.greater_equal(log["event_time"].cast(pa.timestamp("us")), pa.scalar(parts.test.start)))
    assert (inside.num_rows, round(pc.mean(inside["label"]).as_py(), 3)) == (7071, 0.146)


def test_the_attribution_sample(tables: Tables, real_logs: Path) -> None:
    path = real_logs / "criteo_attribution_165k" / "attribution.csv"
    cfg = real(tables, "criteo_attribution", path)
    days = tuple(date(2017, 6, day) for day in range(1, 31))
    counts = ingest(tables, cfg, *days).counts
    assert counts == {"rows_in": 165_152, "rows_out": 165_152, "rejected": 0, "other_day": 0}
    by_day = Counter(stored.table(tables.warehouse, "click_log")["ds"].to_pylist())
    assert sorted(by_day) == list(days)
    assert min(by_day.values()) > 5300
    again = ingest(tables, cfg, days[3]).counts
    assert again["rows_out"] == 5609
    assert adds_up(again)


def test_the_full_attribution_form(tables: Tables, tmp_path: Path) -> None:
    before = ["timestamp", "uid", "campaign", "conversion", "conversion_timestamp", "conversion_id", "attribution"]
    after = ["click", "click_pos", "click_nb", "cost", "cpo", "time_since_last_click"]
    names = [*before, *after, *(f"cat{n}" for n in range(1, 10))]
    values = dict.fromkeys(names, "1") | {"time_since_last_click": "-1"}
    lines = [values | {"timestamp": second} for second in ("0", "86399", "86400", "86401")]
    path = tmp_path / "criteo_attribution_dataset.tsv.gz"
    text = "\n".join(
        "\t".join(line[name] for name in names) for line in [dict(zip(names, names, strict=True)), *lines]
    )
    path.write_bytes(gzip.compress(text.encode()))
    cfg = real(tables, "criteo_attribution_full", path)
    days = (date(2017, 6, 1), date(2017, 6, 2))
    assert ingest(tables, cfg, *days).counts["rows_out"] == 4
    log = rows(tables, "click_log")
    assert {(row["label"], row["label_conversion"], row["uid"], row["time_since_last_click"]) for row in log} == {
        (1, 1, "1", -1.0)
    }


@pytest.mark.slow
def test_the_1tb_form_reads_a_file_a_day(tables: Tables, tmp_path: Path) -> None:
    for day in (FIRST, SECOND):
        lines = [f"{n % 2}\t" + "\t".join(["3"] * 13 + ["ab"] * 26) for n in range(24)]
        (tmp_path / f"{day}.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    cfg = real(tables, "criteo_1tb", tmp_path / "{ds}*")
    assert ingest(tables, cfg, FIRST, SECOND).counts["rows_out"] == 48
    hours = sorted(row["event_time"].hour for row in rows(tables, "click_log") if row["ds"] == FIRST)
    assert hours == list(range(24))
