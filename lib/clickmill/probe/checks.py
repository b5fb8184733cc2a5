"""What was found on a cluster → checks, each with what to do where it fails. Pure functions, no Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from clickmill.config import Config
from clickmill.doctor import Check
from clickmill.models.logreg import feature_columns
from clickmill.probe.worker import ABSENT, Seen
from clickmill.specs import LogregSpec, WideDeepSpec, XgboostSpec, parts

MOST_SKEW_S = 5.0
"""Seconds that clocks may be apart: signatures of requests, and times in `runs`, hang on them."""
OUTSIDE_SPARK = ("local", "torchrun")
GIB = 2**30
BARE = 300 * 2**20
"""Of a rank's Python, before its first row: the libraries, and the kernels."""
SEND = (
    "send the environment with the job: make pack, then --archives dist/clickmill-environment.tar.gz#environment "
    "and PYSPARK_PYTHON=./environment/bin/python (docs/clusters.md)"
)


def executors(seen: Sequence[Seen]) -> Check:
    """Who answered."""
    processes, hosts = {(one.host, one.executor) for one in seen}, {one.host for one in seen}
    found = f"tasks at once: {len(_slots(seen))}, executors: {len(processes)}, machines: {len(hosts)}"
    return Check("executors", True, found)


def slots(seen: Sequence[Seen], *, told: int, asked: Mapping[str, int | None]) -> Check:
    """A barrier stage starts when it has a slot for each rank, and not before.

    told: slots by Spark's settings, of which training takes them all where a model does not say its ranks; asked:
    the ranks that each model says.
    """
    name, there = "slots for training", len(_slots(seen))
    need, whose = max(
        ((told if ranks is None else ranks, model) for model, ranks in asked.items()), default=(1, "")
    )
    found = f"{there} there, {told} by Spark's settings, {need} needed" + (f" by {whose}" if whose else "")
    if need > there:
        advice = (
            f"training would wait for ever: give Spark {need} cores that are free (--total-executor-cores, or "
            f"--num-executors and --executor-cores), or set models.{whose}.ranks to {there} or less"
        )
        return Check(name, False, found, advice)
    advice = (
        f"say to spark-submit how many there are, or training takes {told}: --total-executor-cores {there} "
        "(standalone), --num-executors and --executor-cores (elsewhere)"
    )
    if need > told:
        return Check(name, False, found, advice)
    return Check(name, told >= there, found, advice, needed=False)


def dynamic_allocation(enabled: bool) -> Check:
    """Spark refuses barrier stages where executors come and go."""
    advice = "Spark starts no barrier stage then, and so no training: --conf spark.dynamicAllocation.enabled=false"
    return Check("dynamic allocation", not enabled, "on" if enabled else "off", advice)


def pythons(seen: Sequence[Seen], *, own: str) -> Check:
    """Functions go from driver to executors as bytecode, which only the same minor version reads."""
    others = sorted({f"{one.python} on {one.host}" for one in seen if one.python != own})
    found = f"driver {own}, executors {', '.join(others) or own}"
    return Check("Python of executors", not others, found, SEND)


def packages(seen: Sequence[Seen], *, own: Mapping[str, str]) -> Check:
    """The driver's versions are what results were tested with; a package that is absent fails the first task."""
    apart = sorted(
        {
            f"{name} {version} (driver: {own[name]}) on {one.host}"
            for one in seen
            for name, version in one.packages.items()
            if version != own[name] and own[name] != ABSENT
        }
    )
    found = "; ".join(apart) or f"those of the driver: {', '.join(f'{name} {own[name]}' for name in sorted(own))}"
    return Check("packages of executors", not apart, found, SEND)


def write_access(seen: Sequence[Seen], *, folder: str, arrived: int) -> Check:
    """Whether executors and driver write to the same folder. `arrived`: files of theirs that the driver sees."""
    name = "warehouse of executors"
    refused = sorted({f"{one.host}: {one.refused}" for one in seen if one.refused})
    if refused:
        advice = f"give the user that executors run as write access to {folder}, or name another: --set warehouse="
        return Check(name, False, "; ".join(refused), advice)
    blind = sorted({one.host for one in seen if not one.finds})
    if blind or arrived < len(_slots(seen)):
        found = (
            f"{folder} is not one folder: {', '.join(blind) or 'the driver'} does not see what others write there"
        )
        advice = "the warehouse must be on storage that all machines share: a mount, or s3a://, abfss://, gs://"
        return Check(name, False, found, advice)
    return Check(name, True, f"{folder}: written by all, seen by the driver")


def clocks(seen: Sequence[Seen], *, began: float, ended: float) -> Check:
    """Tasks ran between these two moments of the driver's clock: what lies outside is skew."""
    apart = {one.host: max(began - one.began, one.ended - ended, 0.0) for one in seen}
    host, most = max(apart.items(), key=lambda item: item[1], default=("", 0.0))
    advice = f"set the clock of {host} right (chrony or ntpd on all machines)"
    return Check("clocks", most <= MOST_SKEW_S, f"{most:.1f} s apart at most" if most else "agree", advice)


def memory(seen: Sequence[Seen], *, needs: Mapping[str, int]) -> Check:
    """A rank's bytes by model, as estimated, against what its machine has free for each of its slots."""
    name = "memory for training"
    if not needs:
        return Check(name, True, "not estimated: there is no sample yet", needed=False)
    sharing = Counter(host for host, _ in _slots(seen))
    free, host = min((one.free / sharing[one.host], one.host) for one in seen)
    model, need = max(needs.items(), key=lambda item: item[1])
    found = f"{model} takes about {need / GIB:.2f} GiB a rank; {free / GIB:.2f} GiB free for each slot of {host}"
    advice = (
        "fewer slots on a machine (--executor-cores), more of them in all, a larger overhead where a container "
        "limits it (spark.executor.memoryOverhead), fewer bits, or a lower sampling.keep_rate"
    )
    return Check(name, need <= free, found, advice)


def asked_ranks(cfg: Config) -> dict[str, int | None]:
    """The ranks that each model of the config says, None where it takes the slots that there are.

    Networks whose processes do not start in Spark's tasks are left out.
    """
    asked: dict[str, int | None] = {}
    for name, spec in cfg.models.items():
        if isinstance(spec, WideDeepSpec) and (spec.hosts is not None or spec.launcher in OUTSIDE_SPARK):
            continue
        own = [part.ranks for part in parts(spec).values()]
        asked[name] = None if None in own else max(rank for rank in own if rank is not None)
    return asked


def estimated(
    cfg: Config, *, rows: int, told: int, values: int | None = None, validation: int = 0
) -> dict[str, int]:
    """Bytes that a rank takes, by model, about, where train time has so many rows of `sample`.

    validation: rows of validation time, which are not sampled, and which trees keep.
    values: how many different ones train time may have, of all slots and crosses; None: not known, so that each of
    2^bits may have a weight. Logistic regression: keys, relabelled in their place, margins and labels of each row,
    and vectors of the values. Trees: eleven bytes for each of a row's numbers, taken while XGBoost bins them;
    a slot or cross gives three; of a row of validation time about five bytes a number, the float and its bin.
    Networks tell their own need when they begin.

    Measured as a rank's peak (VmHWM) on a simulated day, 891,667 rows of 34 slots and crosses and 13 numbers, of
    548,000 values, in MiB: logreg of 20 bits 712 (758 by this), of 24 bits 719 (758; 3,234 if values are
    not known), xgboost 1,459 (1,430). In docs/scale.md, 10 million rows and two ranks: the largest process of
    train_xgboost 1,510 MB, by proportional set sizes (1,553).
    """
    needs: dict[str, int] = {}
    for name, spec in cfg.models.items():
        for part in parts(spec).values():
            if isinstance(part, LogregSpec):
                ranks = part.ranks or told
                each = 8 * len(feature_columns(part, cfg.dataset)) + 64
                weights = min(2**part.bits, values or 2**part.bits) * (32 + 128 / ranks)
                own = rows / ranks * each + weights
            elif isinstance(part, XgboostSpec):
                counted = len(cfg.dataset.slots) + len(cfg.dataset.crosses)
                numbers = 3 * counted + len(cfg.dataset.numbers)
                own = (rows * (11 * numbers + 64) + validation * (5 * numbers + 64)) / (part.ranks or told)
            else:
                continue
            needs[name] = max(needs.get(name, 0), BARE + int(own))
    return needs


def _slots(seen: Sequence[Seen]) -> set[tuple[str, int]]:
    """A slot of Spark's has a Python process of its own, which takes one task after another."""
    return {(one.host, one.process) for one in seen}
