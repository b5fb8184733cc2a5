"""`clickmill models`: what the tables know of the trained models."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any

import typer
import yaml

from clickmill.job import DAY, day_of

Conf = Annotated[list[str] | None, typer.Option("--conf", help="A config file; it names the warehouse.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Day = Annotated[str | None, typer.Option("--ds", help=f"The day, {DAY}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Id = Annotated[str, typer.Argument(help="A model's id, or its beginning.")]

app = typer.Typer(
    help="Look at trained models: clickmill models list --conf conf/datasets/simulated.yaml",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_(conf: Conf = None, set_: Sets = None, ds: Day = None, as_json: AsJson = False) -> None:
    """All models, or those of a day, as judged on their own day: clickmill models list --conf FILE"""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from clickmill import registry

    rows = registry.listed(_tables(conf, set_), day_of(ds))
    if as_json:
        _print({"models": rows})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("", "model", "NE", "calibration\nratio", "train\ns"):
        table.add_column(head, overflow="fold")
    for row in rows:
        seconds, again = row["seconds"], row["counted_again"]
        stale = f"\nstale: {again[0]}{' and later' if again[1:] else ''} was counted again" if again else ""
        table.add_row(
            "*" if row["champion"] else "",
            Text(f"{row['model_id']}\n{row['kind']}, keep rate {row['keep_rate'] or 'unknown'}{stale}"),
            _figure("ne", row["ne"]),
            _figure("calibration_ratio", row["calibration_ratio"]),
            "" if seconds is None else f"{seconds:.1f}",
        )
    Console().print(table if rows else "no model was trained yet")
    if any(row["champion"] for row in rows):
        print("* the champion")


@app.command("show")
def show(model_id: Id, conf: Conf = None, set_: Sets = None, as_json: AsJson = False) -> None:
    """One model: clickmill models show lr-2026-01-10 --conf conf/datasets/simulated.yaml"""
    from clickmill import registry

    _tell(registry.shown(_tables(conf, set_), model_id), as_json)


@app.command("diff")
def diff(first: Id, second: Id, conf: Conf = None, set_: Sets = None, as_json: AsJson = False) -> None:
    """What differs between two models, and their paired difference in NE: clickmill models diff A B --conf FILE"""
    from clickmill import registry

    found = registry.compared(_tables(conf, set_), first, second)
    if as_json:
        _print(found)
        return
    for key, (one, other) in found["differences"].items():
        print(f"{key}: {json.dumps(one)} → {json.dumps(other)}")
    ne = found["ne"]
    if ne.get("difference") is None:
        print(f"NE: {ne['reason']}")
    else:
        ends = f", 95% interval [{ne['low']:+.4f}, {ne['high']:+.4f}]" if ne["low"] is not None else ""
        print(f"NE of the first less that of the second on {ne['ds']}: {ne['difference']:+.4f}{ends}, paired")


@app.command("champion")
def champion(conf: Conf = None, set_: Sets = None, ds: Day = None, as_json: AsJson = False) -> None:
    """The champion, today or as of --ds, and why: clickmill models champion --conf FILE"""
    from clickmill import registry

    found = registry.reigning(_tables(conf, set_), day_of(ds) or date.max)
    if as_json or found is not None:
        _tell(found or {"model_id": None}, as_json)
    else:
        print("there is no champion yet: nothing was promoted")


def _tables(conf: list[str] | None, sets: list[str] | None) -> Any:
    from clickmill import registry
    from clickmill.config_files import load

    return registry.open_tables(load(conf or (), sets or ()))


def _figure(name: str, found: dict[str, float | None] | None) -> str:
    from clickmill.report import text
    from clickmill.report.data import Figure

    if found is None or found["value"] is None:
        return ""
    return text.with_interval(name, Figure(found["value"], None, found["low"], found["high"]))


def _tell(found: Any, as_json: bool) -> None:
    if as_json:
        _print(found)
        return
    from clickmill.report.text import plain

    values = json.loads(json.dumps(found, default=str))
    for line in yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110).splitlines():
        print(plain(line, limit=len(line)))


def _print(found: Any) -> None:
    print(json.dumps(found, default=str))
