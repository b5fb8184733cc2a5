"""The Databricks bundle: of the typed form, and every task is a command that our own command line takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

bundles = pytest.importorskip("databricks.bundles.jobs", reason="databricks-bundles is not installed")

ROOT = Path(__file__).parents[2]
BUNDLE: dict[str, Any] = yaml.safe_load((ROOT / "databricks.yml").read_text(encoding="utf-8"))
JOB = BUNDLE["resources"]["jobs"]["click_models_daily"]
AFTER = {
    "ingest": set(),
    "build_features": {"ingest"},
    "encode": {"build_features"},
    "downsample": {"build_features"},
    "train_logreg": {"downsample"},
    "train_xgboost": {"downsample", "encode"},
    "train_trees_logreg": {"downsample", "encode"},
    "calibrate": {"train_logreg", "train_xgboost", "train_trees_logreg"},
    "evaluate": {"calibrate"},
    "promote": {"evaluate"},
    "monitor": {"promote"},
}
"""Each task, and those whose tables it reads."""
REFERENCE = re.compile(r"\$\{var\.(\w+)\}")


def resolved(value: Any, target: str, given: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Variables as a target and `--var` have them, and values as they are for a run triggered on 2026-01-11."""
    if isinstance(value, dict):
        return {key: resolved(item, target, given) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, target, given) for item in value]
    if not isinstance(value, str):
        return value
    values = {name: one["default"] for name, one in BUNDLE["variables"].items()}
    values |= BUNDLE["targets"][target].get("variables", {}) | given
    while REFERENCE.search(value):
        value = REFERENCE.sub(lambda found: values[found[1]], value)
    (ds,) = (one["default"] for one in JOB["parameters"] if one["name"] == "ds")
    value = value.replace("{{job.parameters.ds}}", ds)
    return value.replace("{{job.trigger.time.iso_date}}", "2026-01-11")


def commands(target: str, given: Mapping[str, str] = MappingProxyType({})) -> dict[str, list[str]]:
    tasks = resolved(JOB["tasks"], target, given)
    return {task["task_key"]: task["python_wheel_task"]["parameters"] for task in tasks}


def taken(
    monkeypatch: pytest.MonkeyPatch, target: str, given: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """What our command line makes of each task's command."""
    from typer.testing import CliRunner

    from clickmill import cli, job

    found: dict[str, job.Arguments] = {}
    monkeypatch.setattr(job, "execute", lambda one, arguments: found.update({one.name: arguments}) or 0)
    for name, words in commands(target, given).items():
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, f"{name}: {done.output}"
        assert list(found)[-1] == name
    return found


@pytest.mark.parametrize("target", ["dev", "prod"])
def test_the_job_has_the_form_that_databricks_takes(target):
    job = bundles.Job.from_dict(resolved(JOB, target))
    keys = [task.task_key for task in job.tasks]
    assert len(keys) == len(set(keys))
    for place, task in enumerate(job.tasks):
        assert {before.task_key for before in task.depends_on} <= set(keys[:place])
        assert task.job_cluster_key == job.job_clusters[0].job_cluster_key
        assert task.python_wheel_task.package_name == "clickmill"


def test_a_task_comes_after_those_whose_tables_it_reads():
    found = {task["task_key"]: {one["task_key"] for one in task.get("depends_on", ())} for task in JOB["tasks"]}
    assert found == AFTER
    whatever = {task["task_key"] for task in JOB["tasks"] if task.get("run_if") == "ALL_DONE"}
    assert whatever == {"monitor"}, "a refused promotion is a failed task there"


def test_a_wrong_key_is_seen():
    with pytest.raises(ValueError, match="job_cluster"):
        bundles.Job.from_dict({**resolved(JOB, "dev"), "job_cluster": []})


def test_its_entry_point_is_the_packages_own():
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {task["python_wheel_task"]["entry_point"] for task in JOB["tasks"]} == set(scripts)


@pytest.mark.parametrize("target", ["dev", "prod"])
def test_every_task_is_a_command_of_ours_with_a_config_that_is_right(target, monkeypatch):
    from clickmill.config_files import load

    for arguments in taken(monkeypatch, target).values():
        cfg = load(arguments.conf, arguments.set)
        assert set(arguments.models) <= set(cfg.models)
        assert cfg.warehouse_is_catalog
        assert cfg.artifact_root.startswith("/Volumes/")
        assert cfg.spark.master is None


def test_a_run_is_for_the_day_that_was_over_when_it_was_triggered(monkeypatch):
    assert {arguments.ds for arguments in taken(monkeypatch, "prod").values()} == {date(2026, 1, 10)}


def test_names_in_backquotes_are_a_schema_of_tables_and_plain_folders(monkeypatch):
    from clickmill.config_files import load

    given = {"catalog": "`my cat`", "schema": "`a click`"}
    for arguments in taken(monkeypatch, "dev", given).values():
        cfg = load(arguments.conf, arguments.set)
        assert cfg.warehouse_path == "`my cat`.`a click`"
        assert cfg.artifact_root == "/Volumes/my cat/a click/files/models"


def test_every_model_of_the_kinds_that_have_tasks_may_be_named():
    from clickmill.config_files import load

    kinds = {name.removeprefix("train_") for name in commands("dev") if name.startswith("train_")}
    models = load(["datasets/simulated.yaml"]).models.values()
    assert kinds == {one.kind for one in models} - {"wide_deep"}


def test_every_job_of_a_day_has_its_task():
    own = {path.stem for path in (ROOT / "jobs").glob("[a-z]*.py")}
    by_hand = {"simulate", "score", "pipeline", "train_wide_deep"}
    assert set(commands("dev")) == own - by_hand


def test_the_warehouse_is_a_schema_of_unity_catalog():
    (warehouse,) = {words[words.index("--set") + 1] for words in commands("prod").values()}
    assert warehouse == "warehouse=main.clickmill_prod"


@pytest.mark.parametrize("document", ["README.md", "docs/databricks.md"])
def test_the_commands_that_documents_give_name_what_the_bundle_has(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    commands = re.findall(r"^databricks bundle (\w+)(.*)$", text, re.MULTILINE)
    assert {verb for verb, _ in commands} >= {"deploy", "run"}
    parameters = {one["name"] for one in JOB["parameters"]}
    for verb, rest in commands:
        assert set(re.findall(r"--target (\w+)", rest)) <= set(BUNDLE["targets"])
        assert set(re.findall(r"--var (\w+)=", rest)) <= set(BUNDLE["variables"])
        assert set(re.findall(r"--params (\w+)=", rest)) <= parameters
        if verb == "run":
            assert rest.split()[0] in BUNDLE["resources"]["jobs"]
