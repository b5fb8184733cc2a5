"""Names of a catalogue: which texts are some, and how they are written in a statement."""

from __future__ import annotations

from datetime import date

import pytest

from clickmill import names
from clickmill.config import Config
from clickmill.config_files import load
from clickmill.errors import ConfigError

DATASET = {
    "name": "mine",
    "label": "click",
    "event_time": {"kind": "column", "column": "at"},
    "slots": ["site"],
    "source": {"path": "{warehouse}/raw_log", "format": "delta"},
}
SCHEMAS = [
    # as a person writes it; as SQL does; each part in backquotes
    ("main.clicks", "main.clicks", "`main`.`clicks`"),
    ("my-cat.select", "`my-cat`.select", "`my-cat`.`select`"),
    ("main.2024", "main.`2024`", "`main`.`2024`"),
    ("`a.b`.clicks", "`a.b`.clicks", "`a.b`.`clicks`"),
    ("`odd``one`.`c d/e`", "`odd``one`.`c d/e`", "`odd``one`.`c d/e`"),
]


@pytest.mark.parametrize(("given", "written", "quoted"), SCHEMAS)
def test_a_schema_is_written_as_sql_wants_it(given: str, written: str, quoted: str) -> None:
    assert names.is_schema(given)
    assert names.written(given) == written
    assert names.quoted(given) == names.quoted(written) == quoted
    assert names.written(written) == written


@pytest.mark.parametrize(
    "folder", ["w", "./a.b", "a/b.c", "a.b.c", "s3://bucket/a.b", "`a.b", "a`.b", "``.b", ".b", "a.", "a b.c"]
)
def test_a_folder_is_no_schema(folder: str) -> None:
    assert not names.is_schema(folder)


@pytest.mark.parametrize("name", ["s.t", "c.s.t", "`my-cat`.s.t", "`a``b`.`c.d`.t"])
def test_tables_of_a_catalogue(name: str) -> None:
    assert names.is_table(name)


@pytest.mark.parametrize("path", ["t", "clicks-2026.delta", "a.b.c.d", "a/b.c", "`a.b", "a.1"])
def test_paths_that_are_no_table_s_name(path: str) -> None:
    assert not names.is_table(path)


@pytest.mark.parametrize(("given", "written"), [pair[:2] for pair in SCHEMAS])
def test_a_config_takes_a_schema_for_a_warehouse_and_finds_the_log_in_it(given: str, written: str) -> None:
    cfg = Config.model_validate({"warehouse": given, "dataset": DATASET})
    assert cfg.warehouse_is_catalog
    assert cfg.warehouse_path == written
    assert cfg.source_path == f"{written}.raw_log"
    assert names.is_table(cfg.source_path)


@pytest.mark.parametrize("given", [pair[0] for pair in SCHEMAS] + ["main.`c: d`", "`a #b`.c"])
def test_set_takes_a_schema_as_a_config_file_does(given: str) -> None:
    cfg = load(["datasets/simulated.yaml"], [f"warehouse={given}"])
    assert cfg.warehouse == given
    assert cfg.warehouse_is_catalog


def test_set_takes_a_table_in_backquotes() -> None:
    sets = ["dataset.source.path=`my cat`.raw.log", "dataset.source.format=delta"]
    assert load(["datasets/simulated.yaml"], sets).source_path == "`my cat`.raw.log"


def test_a_backquote_that_begins_no_name_is_told_of() -> None:
    with pytest.raises(ConfigError, match="warehouse=`my cat: the value is not valid YAML"):
        load(["datasets/simulated.yaml"], ["warehouse=`my cat"])


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("/Volumes/main/`my schema`/files/models", "/Volumes/main/my schema/files/models"),
        ("/Volumes/`a``b`/`c`/`d e`/`kept`", "/Volumes/a`b/c/d e/`kept`"),
        ("/Volumes/main/clicks/files/models", "/Volumes/main/clicks/files/models"),
        ("/elsewhere/`kept`/models", "/elsewhere/`kept`/models"),
    ],
)
def test_folders_of_a_volume_have_no_backquotes(given: str, folder: str) -> None:
    cfg = load(
        ["datasets/simulated.yaml"], ["warehouse=main.clicks", f"artifacts={given}", f"report={given}/r.html"]
    )
    assert cfg.artifact_root == folder
    assert cfg.report_path(date(2026, 1, 10)) == f"{folder}/r.html"
