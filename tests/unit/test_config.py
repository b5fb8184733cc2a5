"""Config files: layers, and mistakes told by file, key, value and the nearest known key."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from zipfile import ZipFile

import pytest

import clickmill
from clickmill.config import Config
from clickmill.config_files import brought, load
from clickmill.errors import ConfigError

GOOD = """
warehouse: warehouse/mine
dataset:
  name: mine
  source: {path: log.tsv, format: tsv, columns: [click, a, b, n]}
  label: click
  event_time: {kind: row_order, rows_per_day: 100, first_day: 2026-01-01}
  slots: [a, b]
  numbers: [n]
  crosses: [[a, b]]
models:
  lr: {kind: logreg, bits: 20}
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return str(path)


def test_later_layers_win_and_the_rest_stays(mine: str, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("models: {lr: {l2: 1e-3}}\nsplit: {train: 36h}\n", encoding="utf-8")
    cfg = load([mine, str(more)], ["sampling.keep_rate=0.3", "models.lr.bits=24"])
    assert cfg.models["lr"].l2 == 1e-3
    assert cfg.models["lr"].bits == 24
    assert (cfg.split.train, cfg.split.test) == ("36h", "1d")
    assert cfg.sampling.keep_rate == 0.3


def test_a_model_is_taken_away_by_null(mine: str) -> None:
    assert load([mine], ["models.lr=null"]).models == {}


def test_every_default_in_base_yaml_is_the_default_of_the_class(mine: str) -> None:
    """base.yaml is what people read: it may not say something else than the code does without it."""
    cfg, bare = load([mine]), Config.model_validate({"warehouse": "w", "dataset": load([mine]).dataset})
    for name in ("ingest", "sampling", "split", "calibration", "predictions", "simulate"):
        assert getattr(cfg, name) == getattr(bare, name), name


BAD = {
    "unknown key": ("models.lr.bitz=22", "models.lr.bitz: unknown key, found 22; did you mean 'bits'"),
    "unknown section": ("splitt.train=3d", "splitt: unknown key, found .* did you mean 'split'"),
    "out of range": ("models.lr.bits=40", "models.lr.bits: found 40: .*less than or equal to 32"),
    "keep rate of zero": ("sampling.keep_rate=0", "sampling.keep_rate: found 0: .*greater than 0"),
    "wrong type": ("sampling.seed=often", "sampling.seed: found 'often': .*integer"),
    "length of time": ("split.train=3w", "split.train: found '3w': .*7d or 36h"),
    "length without unit": ("split.train=7", "split.train: found 7: .*7d or 36h"),
    "no time at all": ("split.test=0d", "split.test: found '0d': .*1h or more"),
    "endless time": ("split.gap=999999d", "split.gap: found '999999d': .*3660d"),
    "time past all counting": ("split.train=99999999999d", "split.train: found '99999999999d': .*7d or 36h"),
    "cross of nothing": ("dataset.crosses=[[a, bb]]", r"crosses: cross \['a', 'bb'\] names \['bb'\].*mean 'b'"),
    "slots that differ by case only": ("dataset.slots=[a, A]", "dataset.slots: .*ignoring case"),
    "carried column that differs by case only": (
        "dataset.carry=[A]",
        r"dataset.carry: names must differ, ignoring case: \['A', 'a'\]",
    ),
    "labels that differ by case only": (
        "dataset.labels={Conv: x, conv: y}",
        r"dataset.labels: names must differ, ignoring case",
    ),
    "label among the slots": ("dataset.slots=[a, b, click]", r"dataset.slots: \['click'\] are labels"),
    "bad name": ("dataset.slots=['a-b']", "dataset.slots: 'a-b' is not a name"),
    "label that the file has not": ("dataset.label=clic", "dataset.label: 'clic' is not among .*mean 'click'"),
    "slot that the file has not": ("dataset.carry=[user]", "dataset.carry: 'user' is not among source.columns"),
    "model's column": (
        "models.lr.columns.slots=[zz]",
        r"models.lr.columns.slots: the data set's slots have no 'zz'; it has \['a', 'b'\]",
    ),
    "model's cross": (
        "models.lr.columns.crosses=[[b, a]]",
        r"models.lr.columns.crosses: the data set's crosses have no \('b', 'a'\)",
    ),
    "model's name": ("models.l-r={kind: logreg}", "models.l-r: model name 'l-r'"),
    "kind of time": (
        "dataset.event_time.kind=colum",
        "'colum', allowed .* row_order; did you mean 'column'",
    ),
    "no way to calibrate": ("calibration.methods=[]", "calibration.methods: found .*at least 1"),
    "unknown way to calibrate": ("calibration.methods=[plat]", "found 'plat': .*did you mean 'platt'"),
    "falling edges": ("features.edges=[3, 2]", "bucket edges must rise"),
    "falling edges of one number": ("features.number_edges={n: [3, 1]}", "features.number_edges.n: .*must rise"),
    "edges of no number": (
        "features.number_edges={nope: [1, 3]}",
        "features.number_edges.nope: 'nope' is no number of the data set",
    ),
    "an edge that is no number": ("features.edges=[.nan, 1]", "features.edges.*finite"),
    "endless l2": ("models.lr.l2=.inf", "models.lr.l2.*finite"),
    "names of zones": (
        "dataset.event_time={kind: column, column: t, format: '%Y %Z'}",
        "event_time.*%Z is not supported",
    ),
    "audit of falling bits": ("features.audit_bits=[28, 18]", "features.audit_bits: .*two rising numbers"),
    "audit of too few bits": ("features.audit_bits=[1, 18]", "features.audit_bits: .*two rising numbers"),
    "audit of too many bits": ("features.audit_bits=[18, 33]", "features.audit_bits: .*to 32"),
    "all predictions as a share": ("predictions.keep=1.0", r"predictions.keep: .*a share in \(0, 1\)"),
    "no predictions as a share": ("predictions.keep=0", r"predictions.keep: .*a share in \(0, 1\)"),
    "unknown kind of model": ("models.lr.kind=forest", "models.lr.kind: found 'forest'"),
    "literal secret": ("spark.settings={spark.hadoop.fs.s3a.secret.key: hunter2}", "looks like a secret"),
    "slice of no column": (
        "judge.slices=[{kind: values, column: usr}]",
        "judge.slices: 'usr' is not among dataset.carry, which is empty",
    ),
    "slice of no number": (
        "judge.slices=[{kind: buckets, column: a, edges: [1]}]",
        "judge.slices: 'a' is not among dataset.numbers, n",
    ),
    "unit of no column": ("judge.unit=user", "judge.unit: 'user' is not among dataset.carry"),
    "slice without its edges": ("judge.slices=[{kind: buckets, column: n}]", "judge.slices.0: .*edges are needed"),
    "band beside 1": ("gate.calibration_band=[1.1, 1.2]", "gate.calibration_band: .*around 1"),
    "bits of no slot": (
        "models.deep={kind: wide_deep, embedding: {bits: {aa: 12}}}",
        "models.deep.embedding.bits: 'aa' is no slot of the data set; its slots are a, b",
    ),
    "dims of a number": (
        "models.deep={kind: wide_deep, embedding: {dims: {n: 8}}}",
        "models.deep.embedding.dims: 'n' is no slot",
    ),
    "a table shared by no slot": (
        "models.deep={kind: wide_deep, embedding: {share: [[a, c]]}}",
        "models.deep.embedding.share: 'c' is no slot",
    ),
    "a shared table of two widths": (
        "models.deep={kind: wide_deep, embedding: {share: [[a, b]], dims: {a: 8}}}",
        r"models.deep.embedding.dims: a, b share a table \(embedding.share\): give them the same",
    ),
    "a shared table of two sizes": (
        "models.deep={kind: wide_deep, embedding: {share: [[a, b]], bits: {a: 8, b: 9}}}",
        r"models.deep.embedding.bits: a, b share a table",
    ),
    "a layer of no width": (
        "models.deep={kind: wide_deep, hidden: [8, 0]}",
        r"models.deep.hidden: \(8, 0\): a layer's width lies from 1 to 16384",
    ),
    "hosts without slots": (
        "models.deep={kind: wide_deep, launcher: horovod, hosts: near}",
        "models.deep.hosts: 'near': write hosts and their slots",
    ),
    "a warm start that forgets": (
        "models.deep={kind: wide_deep, warm_start: champion, ftrl: {beta: 0, l2: 0}}",
        "models.deep.ftrl: a warm start goes on from no weight",
    ),
    "no value": ("sampling.seed", "write --set section.key=value"),
}


@pytest.mark.parametrize(("setting", "says"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_told_by_key_value_and_what_is_allowed(mine: str, setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        load([mine], [setting])
    assert str(told.value).startswith(f"--set {setting.partition('=')[0]}: ")
    assert "hunter2" not in str(told.value)
    assert told.value.exit_code == 2


def test_a_mistake_is_laid_to_the_layer_that_made_it(tmp_path: Path, mine: str) -> None:
    """Later layers that touch the same section, or replace what an earlier one said, change nothing of that."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("dataset: {crosses: [[a, zz]]}\nmodels: {lr: {columns: {slots: [zz]}}}\n", encoding="utf-8")
    later = ["dataset.name=other", "models.lr.bits=24", "models.lr.columns.numbers=all"]
    with pytest.raises(ConfigError, match=r"bad\.yaml: dataset\.crosses: "):
        load([mine, str(bad)], later)
    with pytest.raises(ConfigError, match=r"bad\.yaml: models\.lr\.columns\.slots: "):
        load([mine, str(bad)], [*later, "dataset.crosses=[]"])
    with pytest.raises(ConfigError, match=r"^--set dataset\.event_time: dataset\.event_time.*rows_per_day"):
        load([mine], ["dataset.event_time={kind: row_order, column: n}"])


def test_a_key_that_stands_twice_is_told(tmp_path: Path, mine: str) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text("sampling: {keep_rate: 0.1}\nsplit: {test: 2d}\nsampling: {seed: 1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"twice\.yaml: not valid YAML: sampling stands twice"):
        load([mine, str(twice)])


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, mine: str) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("sampling: {keep_rates: 0.1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml: sampling\.keep_rates: unknown key.*'keep_rate'"):
        load([mine, str(bad)])


def test_a_file_that_is_not_there_or_no_yaml_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file; did you mean 'env/local\.yaml'"):
        load(["env/locall.yaml"])
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not valid YAML"):
        load([str(broken)])
    broken.write_text("- a", encoding="utf-8")
    with pytest.raises(ConfigError, match="found a list"):
        load([str(broken)])


def test_without_a_data_set_the_message_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match="no data set is named"):
        load([])


@pytest.mark.parametrize("file", [name for name in brought() if name.startswith("datasets/")])
@pytest.mark.parametrize("env", ["local", "cluster", "databricks"])
def test_every_config_that_clickmill_brings_is_valid(file: str, env: str) -> None:
    assert load([file, f"conf/env/{env}.yaml"]).dataset.slots


def test_a_package_in_a_zip_file_brings_them_too(tmp_path: Path) -> None:
    """As under spark-submit's --py-files, which puts the archive before what is installed."""
    folder = Path(clickmill.__file__).parent
    with ZipFile(tmp_path / "clickmill.zip", "w") as archive:
        for place in (
            folder,
            *(folder / name for name in ("conf", "conf/datasets", "conf/env", "train", "models")),
        ):
            for path in [*place.glob("*.py"), *place.glob("*.yaml")]:
                archive.write(path, Path("clickmill", path.relative_to(folder)))
    code = """
        from clickmill import config_files
        assert "clickmill.zip" in config_files.__file__
        assert config_files.load(["datasets/simulated.yaml", "env/cluster.yaml"]).spark.master is None
        print(*config_files.brought())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "clickmill.zip")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == brought(), done.stderr


def test_a_secret_setting_is_redacted_wherever_it_is_stored(mine: str) -> None:
    cfg = load([mine], ["spark.settings={spark.my.password: '${MY_PASSWORD}', spark.x: y}"])
    assert cfg.spark.redacted()["spark.my.password"] == "(redacted)"
    assert cfg.spark.redacted()["spark.x"] == "y"


def test_a_warehouse_where_delta_would_look_in_another_folder_is_refused(mine: str) -> None:
    with pytest.raises(ConfigError, match=r"warehouse: .*/w%41: .*name another folder"):
        _ = load([mine], ["warehouse=./w%41"]).warehouse_path
    assert load([mine], ["warehouse=s3://bucket/a%20b"]).warehouse_path == "s3://bucket/a%20b"
    assert load([mine], ["warehouse=/w é#x"]).warehouse_path == "/w é#x"


def test_a_digest_hangs_on_its_parts_only(mine: str) -> None:
    one, other = load([mine]), load([mine], ["sampling.keep_rate=0.5"])
    assert one.digest("dataset.slots", "features") == other.digest("dataset.slots", "features")
    assert one.digest("sampling") != other.digest("sampling")
    assert one.digest() != other.digest()


def test_two_samples_never_share_a_name(mine: str) -> None:
    settings = ["0.05", "0.1234567", "0.12345671", "1", "0.00001"]
    names = [load([mine], [f"sampling.keep_rate={rate}"]).sampling.sample_id for rate in settings]
    assert len(set(names)) == len(names)
    assert names[0] == "w0.05-s42"
    assert names[3] == "w1-s42"
