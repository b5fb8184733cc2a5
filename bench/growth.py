"""Breadth-first against leaf-first trees, encodings against hashes as numbers, linear, trees → linear: a study.

Run: .venv/bin/python bench/growth.py [--data FOLDER] [--rows-per-day 30000] [--logs simulated,avazu] [--write]

Each log goes once through the pipeline with five models, at w = 0.3 (the simulated one at its own 0.05); NE
with 95% intervals and paired differences are the judge's. `--write` leaves the page in docs/studies/growth.md.
FOLDER is as in bench/real_logs.py; a log whose file is not there is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from deltalake import DeltaTable
from real_logs import shown

from clickmill.models import artifact
from clickmill.models.trees_logreg import TreesLogregModel
from clickmill.models.xgboost import XgboostModel

PAGE = Path(__file__).resolve().parents[1] / "docs" / "studies" / "growth.md"


class Log(NamedTuple):
    file: str | None
    """Under the data's folder; None: simulated."""
    ds: str
    history: str
    leaves: int
    """At most, of each tree: 2^depth."""
    sets: tuple[str, ...] = ()
    note: str = ""
    days: int | None = None
    """That the log has, where the models would look back to more."""


LOGS = {
    "simulated": Log(None, "2026-01-14", "5d", 8),
    "criteo": Log(
        "criteo_kaggle_head10k/train.tsv",
        "2014-05-10",
        "3d",
        8,
        (
            "dataset.event_time.rows_per_day=1000",
            "models.lr.l2=[3e-4, 1e-3, 3e-3, 1e-2]",
        ),
        "ten days of 1,000 lines, 1,000 of them test time: too few to tell much apart",
    ),
    "avazu": Log(
        "avazu_43k/avazu.csv",
        "2014-10-22",
        "12h",
        16,
        ("encodings.period=hour", "models.lr.l2=[3e-4, 1e-3, 3e-3, 1e-2]"),
        "counted by the hour; the first twelve hours of train time look back to less than twelve",
        days=2,
    ),
    "criteo_attribution": Log(
        "criteo_attribution_165k/attribution.csv",
        "2017-06-30",
        "5d",
        16,
        (),
        "the first five days of train time look back to less than five",
        days=30,
    ),
}


def models(log: Log) -> dict[str, dict[str, Any]]:
    """The models beside `lr`, which the log's own config has."""
    depth = log.leaves.bit_length() - 1
    grown = {"history": log.history, "rounds": 400, "eta": 0.1, "min_child_weight": 5}
    breadth = {**grown, "max_depth": depth}
    leaf = {**grown, "grow_policy": "lossguide", "max_leaves": log.leaves, "max_depth": 0}
    linear = {"bits": 20, "l2": [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]}
    return {
        "breadth": {"kind": "xgboost", **breadth},
        "leaf": {"kind": "xgboost", **leaf},
        "hashes": {"kind": "xgboost", "values": "hashes", **breadth},
        "trees_lr": {"kind": "trees_logreg", "trees": {**breadth, "rounds": 100}, "linear": linear},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--rows-per-day", type=int, default=30_000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    parts = [one_log(name, asked) for name in asked.logs.split(",")]
    page = "\n".join([INTRODUCTION, *parts])
    print(page)
    if asked.write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")


def one_log(name: str, asked: argparse.Namespace) -> str:
    """The section of a log."""
    log = LOGS[name]
    if log.file is not None and not (asked.data / log.file).exists():
        return f"## {name}\n\nNot run: {log.file} was not there.\n"
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "models.yaml")
        conf.write_text(json.dumps({"encodings": {"crosses": "all"}, "models": models(log)}), encoding="utf-8")
        sets = [f"warehouse={folder}/w", *log.sets]
        if log.file is None:
            sets += [f"simulate.rows_per_day={asked.rows_per_day}", f"simulate.users={asked.rows_per_day}"]
        else:
            sets += [f"dataset.source.path={asked.data / log.file}", "sampling.keep_rate=0.3"]
        names = ("lr", *models(log))
        command = ["clickmill", "run", "pipeline", "--conf", f"datasets/{name}.yaml", "--conf", str(conf)]
        for item in sets:
            command += ["--set", item]
        command += ["--ds", log.ds, "--models", ",".join(names), "--json"]
        command += [] if log.days is None else ["--days", str(log.days)]
        command[0] = str(Path(sys.executable).parent / "clickmill")
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        verdict = json.loads(done.stdout)
        return section(name, log, verdict, Path(folder, "w"))


def section(name: str, log: Log, verdict: dict[str, Any], warehouse: Path) -> str:
    judged = {model["name"]: model for model in verdict["models"]}
    some = judged["breadth"]["metrics"]
    head = f"{some['n']['value']:,.0f} test rows, {some['clicks']['value']:,.0f} clicks"
    lines = [f"## {name}", "", head + (f"; {log.note}" if log.note else "") + ".", ""]
    lines += ["| model | NE | calibration ratio | trees | leaves | deepest | seconds |", "|-|-|-|-|-|-|-|"]
    rows = DeltaTable(f"{warehouse}/models").to_pyarrow_table().to_pylist()
    folders = {row["model_id"]: row["artifact"] for row in rows if row["ds"] == date.fromisoformat(log.ds)}
    for own, model in judged.items():
        shape = shape_of(folders[model["model_id"]])
        ne, ratio = (shown(model["metrics"][metric], 4) for metric in ("ne", "calibration_ratio"))
        lines.append(f"| {own} | {ne} | {ratio} | {shape} | {model['seconds']:.1f} |")
    lines += ["", "| NE of | less that of | difference |", "|-|-|-|"]
    ids = {model["model_id"]: own for own, model in judged.items()}
    found = DeltaTable(f"{warehouse}/comparisons").to_pyarrow_table().to_pylist()
    known = {
        (ids.get(row["model_id"]), ids.get(row["other_id"])): row
        for row in found
        if (row["slice"], row["metric"]) == ("all", "ne")
    }
    for pair in (
        ("leaf", "breadth"),
        ("breadth", "hashes"),
        ("breadth", "lr"),
        ("trees_lr", "lr"),
        ("trees_lr", "breadth"),
    ):
        row = known[pair]
        lines.append(
            f"| {pair[0]} | {pair[1]} | {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] |"
        )
    return "\n".join([*lines, ""])


def shape_of(folder: str) -> str:
    """Trees, leaves of all of them, depth of the deepest; nothing of a linear model."""
    model = artifact.load(folder)
    trees = model.trees if isinstance(model, TreesLogregModel) else model
    if not isinstance(trees, XgboostModel):
        return "– | – | –"
    dump = trees.booster.get_dump()
    leaves = [line for tree in dump for line in tree.splitlines() if "leaf=" in line]
    deepest = max(len(re.match(r"\t*", line)[0]) for line in leaves)  # type: ignore[index]
    return f"{len(dump)} | {len(leaves)} | {deepest}"


INTRODUCTION = """# How trees grow, and what they eat

Made by `python bench/growth.py --write`: real runs of the pipeline, judged by its own judge; 95% intervals from
200 paired bootstrap replicates. All models of a log have the same sample, split and test rows.

- `breadth`: trees grown level by level to a depth (`grow_policy: depthwise`), on numbers and on encodings of
  values and crosses.
- `leaf`: the same, but the leaf of most gain is split next (`lossguide`), to the same greatest number of
  leaves, of any depth.
- `hashes`: as `breadth`, but values are eaten as numbers, the lowest 24 bits of their hash.
- `lr`: the logistic regression of the log's config; `trees_lr`: one on leaves and hashed values
  (`trees_logreg`).

Early stopping by validation time decides how many trees there are (400 at most, 100 under `trees_lr`). A
difference below 0 says that the first model is better; an interval that holds 0 proves nothing.
"""


if __name__ == "__main__":
    main()
