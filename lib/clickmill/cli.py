"""The `clickmill` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import ast
import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

import clickmill
from clickmill import cli_models, jobs
from clickmill.errors import EXIT_DONE, ClickmillError, UsageError
from clickmill.job import DAY, Arguments, called, command, day_of, execute, job_help, names_of

HELP = """From a raw click log to a calibrated, judged click model, on Spark.

Examples:

clickmill doctor

clickmill run pipeline --conf conf/datasets/simulated.yaml --ds 2026-01-10

clickmill score --model warehouse/simulated/_models/lr-2026-01-10-1a2b3c4d < log.tsv
"""


PLAIN: dict[str, Any] = {
    "add_completion": False,
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}
app = typer.Typer(help=HELP, **PLAIN)
run_app = typer.Typer(help="Run one job.", **PLAIN)
config_app = typer.Typer(help="Show the config, or its schema.", **PLAIN)
app.add_typer(run_app, name="run")
app.add_typer(config_app, name="config")
app.add_typer(cli_models.app, name="models")

Conf = Annotated[list[str] | None, typer.Option("--conf", help="A config file; may be repeated, later wins.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(clickmill.__version__)
        raise typer.Exit(EXIT_DONE)


@config_app.command("show")
def config_show(conf: Conf = None, set_: Sets = None, as_json: AsJson = False) -> None:
    """The resolved config, every key: clickmill config show --conf conf/datasets/simulated.yaml"""
    from clickmill.config_files import load

    values = load(conf or (), set_ or ()).model_dump(mode="json")
    print(json.dumps(values, indent=2) if as_json else yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


@config_app.command("schema")
def config_schema() -> None:
    """The JSON Schema of a whole config, for editors."""
    from clickmill.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))


@app.command("hash")
def hash_(
    values: Annotated[list[str], typer.Argument(metavar="SLOT=VALUE ...")],
    cross: Annotated[list[str] | None, typer.Option(help="Slots joined by × or *; may be repeated.")] = None,
    bits: Annotated[int, typer.Option(min=1, max=32, help="Bits of the index.")] = 22,
    as_json: AsJson = False,
) -> None:
    """Hashes as training does, for teams that serve in other languages: clickmill hash C1=a C2=b --cross C1×C2"""
    rows = _hashes(values, cross or [], bits)
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']}\t{row['value']}\t{row['hash']}\t{row['index']}")


def _hashes(values: list[str], crosses: list[str], bits: int) -> list[dict[str, Any]]:
    from clickmill import hashing

    given = dict(_pair(item) for item in values)
    hashed = {slot: hashing.hash_slot(slot, [value]) for slot, value in given.items()}
    texts = dict(given)
    for cross in crosses:
        parts = cross.replace("*", "×").split("×")
        unknown = [part for part in parts if part not in given]
        if unknown or len(parts) < 2:
            raise UsageError(
                f"--cross {cross}: {unknown or parts} stand alone; give SLOT=VALUE for each of its parts"
            )
        name = "×".join(parts)
        hashed[name] = hashing.hash_cross(name, [(part, hashed[part]) for part in parts])
        texts[name] = "×".join(given[part] for part in parts)
    return [
        {"name": name, "value": texts[name], "hash": int(h[0]), "index": int(hashing.to_index(h, bits)[0])}
        for name, h in hashed.items()
    ]


def _pair(item: str) -> tuple[str, str]:
    slot, sign, value = item.partition("=")
    if not sign or not slot:
        raise UsageError(f"{item!r}: write SLOT=VALUE")
    return slot, value


@app.command("score")
def score(
    model: Annotated[Path, typer.Option(help="A model's folder: <artifacts>/<model_id>, or one artifact in it.")],
    calibration: Annotated[
        str | None, typer.Option(help="A calibration file, or none; the one beside the artifact unless given.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="tsv, csv or jsonl; the data set's own unless given.")
    ] = None,
    output: Annotated[str, typer.Option(help="tsv, csv or jsonl.")] = "tsv",
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="Columns that the data set does not name are no error.")
    ] = False,
) -> None:
    """p for the raw rows on standard input, without Spark: clickmill score --model DIR < log.tsv > p.tsv

    Which columns JSON lines have is judged by their first 4 MiB: later, a key that is absent is a missing value.
    """
    from clickmill.score import local

    local.run(
        model,
        sys.stdin.buffer,
        sys.stdout.buffer,
        sys.stderr,
        calibration=calibration,
        format=form,
        output=output,
        ignore_extra=ignore_extra,
    )


@app.command("reproduce")
def reproduce(
    run_id: Annotated[str, typer.Argument(help="A run of the warehouse's table `runs`, or of a --json verdict.")],
    conf: Conf = None,
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Run a job again from its stored config on the table versions that it read, and compare what it writes.

    clickmill reproduce 20260110T060102-5c1d09aa --conf conf/datasets/simulated.yaml
    """
    from clickmill import reproduce as again
    from clickmill.config_files import load
    from clickmill.job import new_run_id
    from clickmill.progress import Progress
    from clickmill.session import get_spark
    from clickmill.tables import Tables

    cfg = load(conf or (), set_ or ())
    spark = get_spark(cfg.spark, app="clickmill reproduce")
    tables = Tables(spark, cfg.warehouse_path, run_id=new_run_id())
    findings = again.reproduce(tables, run_id, progress=Progress(quiet=as_json))
    same = all(one.same for one in findings)
    if as_json:
        told = [{"what": one.what, "same": one.same, "detail": one.detail} for one in findings]
        print(json.dumps({"run_id": run_id, "same": same, "findings": told}, default=str))
    else:
        for one in findings:
            print(one.sentence)
    again.require_same(findings)


@app.command("compare")
def compare(
    predictions: Annotated[
        str, typer.Option(help="Its p at full traffic: event_id, label, p as CSV, or Parquet (a file or folder).")
    ],
    conf: Conf = None,
    set_: Sets = None,
    ds: Annotated[str | None, typer.Option(help=f"The day whose test time is judged, {DAY}.")] = None,
    models: Annotated[
        str | None, typer.Option(help="Our models to compare with; all judged that day, and the champion.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the other system; its file's name unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge another system beside our models: clickmill compare --predictions p.csv --conf FILE --ds DAY

    Nothing is written. Rows of event_ids that the day's test time does not have are counted and left out.
    """
    from clickmill import compare as comparison

    names = names_of(models)
    arguments = Arguments(
        tuple(conf or ()), tuple(set_ or ()), day_of(ds), models=names, dry_run=True, json=as_json
    )
    raise typer.Exit(execute(comparison.compare(predictions, name=name, models=names), arguments))


@app.command("doctor")
def doctor(
    conf: Conf = None,
    set_: Sets = None,
    master: Annotated[
        str | None, typer.Option(help="Check Spark there too: spark://host:7077, yarn, local[4].")
    ] = None,
    launchers: Annotated[
        bool, typer.Option("--launchers", help="Have each launcher start two ranks that train a tiny network.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine: Python, Java, the Delta jars, write access, memory, slots, deep learning.

    With --master a session is started there, and its executors are asked: slots for training, Python and packages,
    the warehouse, clocks, memory. --conf says for which warehouse and models.
    """
    from clickmill import doctor as checks

    if master is not None and not master.strip():
        raise UsageError("--master is empty: name one, or leave it out")
    if not conf and not set_ and master is None and not launchers:
        raise typer.Exit(checks.main(json=as_json))
    from clickmill.config_files import load

    there = [f"spark.master={master}"] if master is not None else []
    cfg = load(conf or ("datasets/simulated.yaml",), [*(set_ or ()), *there])
    here = partial(checks.main, json=as_json, warehouse=cfg.warehouse_path, master=cfg.spark.master or "local[*]")
    if master is None and not launchers:
        raise typer.Exit(here())
    from clickmill.probe import driver as probe

    further = partial(probe.check, cfg, master or probe.NEAR, launching=launchers)
    raise typer.Exit(here(further=further))


def _add_jobs() -> None:
    """A command for each file in jobs/; the job itself is imported when it is run, its help is read as text."""
    for path in sorted(Path(jobs.__path__[0]).glob("[a-z]*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        run_app.command(name=path.stem, help=job_help(path.stem, doc))(command(partial(called, path.stem)))


_add_jobs()


def main() -> None:
    """The entry point: a named error ends with its message and its exit code, and --json with an object all the
    same."""
    try:
        app()
    except ClickmillError as error:
        if "--json" in sys.argv:
            told = {"name": type(error).__name__, "message": str(error)}
            print(json.dumps({"exit_code": error.exit_code, "error": told}))
        print(f"clickmill: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
