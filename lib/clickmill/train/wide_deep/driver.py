"""Trains a network from `sample` and saves it. The driver plans, starts the ranks and keeps what they made."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from clickmill import __version__
from clickmill.config import Config, digest
from clickmill.errors import ConfigError, NoRowsError, NotEnoughRowGroupsError, PlatformError
from clickmill.loader import Counted, counted
from clickmill.models.wide_deep import WideDeepModel, parts_in, put_whole
from clickmill.nets.layout import Layout, layout_of
from clickmill.session import is_local
from clickmill.specs import WideDeepSpec, chosen
from clickmill.split import Stretches
from clickmill.tables import Tables
from clickmill.train import driver, gpu, watch
from clickmill.train.outcome import Outcome, keep
from clickmill.train.watch import Say, named
from clickmill.train.wide_deep import distributor
from clickmill.train.wide_deep.bits import bits_of
from clickmill.train.wide_deep.launch import launch
from clickmill.train.wide_deep.memory import require_memory
from clickmill.train.wide_deep.task import NETWORK, RESULT, Task
from clickmill.train.wide_deep.warm import CHAMPION, Start, anew, newest, start_of

FOLDER = ".checkpoints"
"""Of the artifacts' root: tasks, checkpoints and results of trainings that are not kept yet."""
START = "start.safetensors"
STALE_S = 7 * 24 * 3600
VARYING = frozenset({"seconds", "rows_per_second", "resumed_from"})
"""Figures that a rerun need not repeat."""


@dataclass(frozen=True)
class Plan:
    """A training that can begin."""

    task: Task
    read: tuple[str, ...]
    """Tables."""
    warm: dict[str, Any] | None = None
    """What the card says of a warm start (the network itself lies in the task's folder, and not in memory)."""
    line: str | None = None
    """The same for a person."""


def train(
    tables: Tables,
    cfg: Config,
    *,
    name: str,
    ds: date,
    stretches: Stretches,
    dry_run: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Trains model `name` of the config and returns its row of `models`, its artifact saved.

    Reads the pinned versions of `sample` (train stretch), `features` (validation stretch) and `feature_audit`.
    Raises before anything is trained PlatformError (torch, Horovod or a GPU is missing), NotEnoughMemoryError,
    NotEnoughRowGroupsError, NotEnoughSlotsError, NoRowsError, MissingTableError, ConfigError for a warm start that
    does not fit, UnsupportedTableError for tables that Spark alone can read; then KeepRateError,
    DegenerateLabelsError, MissingColumnsError, NonFiniteLossError, RankError.
    `dry_run`: trains, saves nothing. `say` is told how far the training is.
    """
    begin = time.perf_counter()
    plan = planned(tables, cfg, name=name, ds=ds, stretches=stretches)
    tell = named(say, name)
    sweep(Path(cfg.artifact_root, FOLDER), but=Path(plan.task.folder))
    if plan.line is not None and tell is not None:
        tell(plan.line)
    figures = _launched(tables, plan.task, tell)
    if plan.warm is not None:
        figures["warm_start"] = plan.warm
    arrays, network = parts_in(Path(plan.task.folder, RESULT, NETWORK))
    outcome = Outcome(
        figures["keep_rate"],
        figures,
        arrays,
        "trained",
        further=network,
        tables=plan.read,
        layout=asdict(plan.task.layout),
        absent=VARYING,
    )
    seconds = time.perf_counter() - begin
    row = keep(tables, cfg, outcome, name=name, ds=ds, stretches=stretches, seconds=seconds, dry_run=dry_run)
    _remove(Path(plan.task.folder))
    return row


def check(tables: Tables, cfg: Config, *, name: str, ds: date, stretches: Stretches) -> dict[str, Any]:
    """Has model `name` learn a few rows by heart, and returns how that went. Raises PreflightError where it could
    not, or where no gradient reached a part of it; before that what `train` raises."""
    task = planned(tables, cfg, name=name, ds=ds, stretches=stretches).task
    task = replace(task, overfit_check=True, folder=f"{task.folder}-overfit")
    try:
        found: dict[str, Any] = _launched(tables, task, None)["overfit"]
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
    return found


def planned(tables: Tables, cfg: Config, *, name: str, ds: date, stretches: Stretches) -> Plan:
    """What the ranks are to do; raises as `train` does before they start."""
    where, spec = f"models.{name}", cfg.models[name]
    assert isinstance(spec, WideDeepSpec)
    _require(tables, spec)
    start = start_of(tables, spec, name=name, ds=ds, train=stretches.train)
    audit = tables.rows_if_any("feature_audit", days=stretches.train.days)
    start, layout = _laid_out(where, spec, cfg, audit, start)
    training, validation = _rows(tables, cfg, stretches)
    if start is not None and start.model is not None:
        training, spec = newest(training, spec), spec.model_copy(update={"epochs": 1})
    if not training:
        raise NoRowsError(f"{where}: the training stretch has no rows")
    if spec.ranks > len(training):
        raise NotEnoughRowGroupsError(
            f"{where}: {spec.ranks} ranks and {len(training)} row groups of sample to train on; set ranks to "
            f"{len(training)} or fewer"
        )
    require_memory(where, spec, layout, here=_here(tables, spec))
    place = _place(tables, cfg, name, ds, stretches, layout, start)
    task = Task(spec, layout, training, validation, str(place))
    if start is not None and start.model is not None:
        task = replace(task, start=_put(place, start.model), start_keep_rate=start.keep_rate)
    read = ("sample", "features", *(("feature_audit",) if audit else ()))
    return Plan(task, read) if start is None else Plan(task, read, start.figures, start.line)


def _require(tables: Tables, spec: WideDeepSpec) -> None:
    """Raises PlatformError where this machine lacks what the ranks need."""
    wanted = {"torch": "torch", "safetensors": "torch"}
    wanted |= {"horovod": "Horovod"} if spec.launcher == "horovod" else {}
    for module, called in wanted.items():
        if importlib.util.find_spec(module) is None:
            raise PlatformError(f"kind wide_deep, launcher {spec.launcher}: {called} is missing; run `make deep`")
    if spec.launcher == "horovod" and spec.hosts is None:
        driver.ranks_for(tables.spark, spec.ranks)
    if spec.launcher == "torch_distributor":
        distributor.require(tables.spark, spec)
    if spec.device == "cuda" and _here(tables, spec) and (found := gpu.present()) < spec.ranks:
        raise PlatformError(f"device cuda: {spec.ranks} ranks need a GPU each, and there are {found}; lower ranks")


def _here(tables: Tables, spec: WideDeepSpec) -> bool:
    """Whether the ranks run on this machine."""
    return spec.hosts is None and (spec.launcher in ("local", "torchrun") or is_local(tables.spark))


def _rows(tables: Tables, cfg: Config, stretches: Stretches) -> tuple[tuple[Counted, ...], tuple[Counted, ...]]:
    """The row groups of train and of validation time, at the pinned versions."""
    sampled = {"sample_id": cfg.sampling.sample_id}
    (training,) = tables.shards("sample", days=stretches.train.days, where=sampled, number=1)
    (validation,) = tables.shards("features", days=stretches.validation.days, number=1)
    return counted(training.pieces, stretches.train), counted(validation.pieces, stretches.validation)


def _laid_out(
    where: str, spec: WideDeepSpec, cfg: Config, audit: Sequence[Mapping[str, Any]], start: Start | None
) -> tuple[Start | None, Layout]:
    """A champion that lies otherwise is not gone on from."""
    try:
        return start, _layout(where, spec, cfg, audit, start)
    except ConfigError as error:
        if start is None or start.model is None or spec.warm_start != CHAMPION:
            raise
        start = anew(str(error))
        return start, _layout(where, spec, cfg, audit, start)


def _layout(
    where: str, spec: WideDeepSpec, cfg: Config, audit: Sequence[Mapping[str, Any]], start: Start | None
) -> Layout:
    """Where everything lies: as in the model that is gone on from (ConfigError where that cannot be), else by what
    the audit saw."""
    slots, given = chosen(spec.columns.slots, cfg.dataset.slots), spec.embedding.bits
    if start is None or start.model is None:
        return layout_of(spec, cfg.dataset, bits_of(spec.embedding, slots, audit))
    earlier = start.model.layout
    known = {column.removeprefix("s_"): bits for column, bits in zip(earlier.slots, earlier.bits, strict=True)}
    layout = layout_of(spec, cfg.dataset, dict.fromkeys(slots, 0) | known | given)
    if layout != earlier:
        said = f"{where}.warm_start: {start.model.card.model_id}"
        raise ConfigError(f"{said} has other columns, dims, bits or shared tables than this model")
    return layout


def _launched(tables: Tables, task: Task, say: Say | None) -> dict[str, Any]:
    with watch.listening(driver.host_of(tables.spark), say) as address:
        return launch(replace(task, address=address), spark=tables.spark)


def _place(
    tables: Tables,
    cfg: Config,
    name: str,
    ds: date,
    stretches: Stretches,
    layout: Layout,
    start: Start | None,
) -> Path:
    """The training's folder: one that reads as little as another version has another, and so goes on from nothing
    of it."""
    versions = {table: tables.version(table) for table in ("sample", "features")}
    spec, warm = cfg.models[name].model_dump(mode="json"), start.figures if start else None
    own = [name, ds, spec, stretches.to_dict(), versions, cfg.sampling.sample_id, layout, warm, __version__]
    return Path(cfg.artifact_root, FOLDER, digest([*own, tables.warehouse]))


def _put(place: Path, model: WideDeepModel) -> str:
    """The weights that a training goes on from, as a file in its folder."""
    place.mkdir(parents=True, exist_ok=True)
    file = place / START
    put_whole(model, file)
    return str(file)


def sweep(root: Path, *, but: Path) -> None:
    """Removes the trainings in a folder that nothing was written to for STALE_S: no run goes on from them, since
    their config or their tables have changed. A run beside this one writes far more often than that."""
    now = time.time()
    for folder in root.glob("*") if root.is_dir() else ():
        if folder != but and now - _touched(folder) > STALE_S:
            _remove(folder)


def _touched(folder: Path) -> float:
    """When something in it was last written; never to be called stale where it changes as we look."""
    try:
        return max(place.stat().st_mtime for place in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return math.inf


def _remove(folder: Path) -> None:
    """Renamed first: were the removal cut short, a rerun would go on from half a checkpoint."""
    aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):  # (another run was first)
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
