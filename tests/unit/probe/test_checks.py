"""What the doctor says of a cluster, from what its executors said."""

from typing import Any

import pytest

from clickmill.config_files import load
from clickmill.doctor import Check
from clickmill.probe import checks
from clickmill.probe.worker import ABSENT, Seen

OWN = {"numpy": "2.4.6", "xgboost": "3.2.0"}
GOOD = Seen("one", 10, 100, "3.11", OWN, began=5.0, ended=6.0, free=8 * 2**30, finds=True, refused=None)


def cluster(*changes: dict[str, Any]) -> list[Seen]:
    """Tasks in slots of their own, as GOOD but for these changes."""
    return [GOOD._replace(process=100 + number, **change) for number, change in enumerate(changes)]


def test_tasks_executors_and_machines_are_counted() -> None:
    seen = [*cluster({}, {}, {"host": "two"}), GOOD._replace(process=100)]
    assert checks.executors(seen).found == "tasks at once: 3, executors: 2, machines: 2"


@pytest.mark.parametrize(
    ("told", "asked", "ok", "needed", "words"),
    [
        (2, {"lr": None, "deep": 2}, True, True, ""),
        (4, {"lr": None}, False, True, "wait for ever"),
        (2, {"lr": None, "deep": 3}, False, True, "models.deep.ranks to 2"),
        (1, {"deep": 2}, False, True, "--total-executor-cores 2"),
        (1, {"lr": None}, False, False, "training takes 1"),
        (2, {}, True, True, ""),
    ],
)
def test_a_barrier_stage_needs_a_slot_for_each_rank(
    told: int, asked: dict[str, int | None], ok: bool, needed: bool, words: str
) -> None:
    found = checks.slots(cluster({}, {}), told=told, asked=asked)
    assert found.ok is ok
    assert ok or found.needed is needed
    assert words in found.advice


def test_dynamic_allocation_is_refused() -> None:
    assert checks.dynamic_allocation(False).ok
    assert "spark.dynamicAllocation.enabled=false" in checks.dynamic_allocation(True).advice
    assert not checks.dynamic_allocation(True).ok


def test_another_python_is_named_with_its_machine() -> None:
    assert checks.pythons(cluster({}, {}), own="3.11").ok
    found = checks.pythons(cluster({}, {"python": "3.12", "host": "two"}), own="3.11")
    _fails(found, "3.12 on two", "make pack")


def test_another_version_and_an_absent_package_are_named() -> None:
    assert checks.packages(cluster({}, {}), own=OWN).ok
    found = checks.packages(cluster({}, {"packages": OWN | {"numpy": "2.0.0", "xgboost": ABSENT}}), own=OWN)
    _fails(found, "numpy 2.0.0 (driver: 2.4.6) on one; xgboost absent (driver: 3.2.0) on one", "--archives")


def test_a_warehouse_is_written_by_all_and_is_one_folder() -> None:
    assert checks.write_access(cluster({}, {}), folder="/w", arrived=2).ok
    refused = cluster({}, {"host": "two", "refused": "/w/x: Permission denied"})
    _fails(checks.write_access(refused, folder="/w", arrived=1), "two: /w/x: Permission denied", "access to /w")
    blind = checks.write_access(cluster({}, {"host": "two", "finds": False}), folder="/w", arrived=2)
    _fails(blind, "two does not see what others write", "storage that all machines share")
    _fails(checks.write_access(cluster({}, {}), folder="/w", arrived=1), "the driver does not see", "share")


@pytest.mark.parametrize(("late", "ok"), [(0.0, True), (4.0, True), (7.0, False), (-8.0, False)])
def test_clocks_are_apart_by_what_lies_outside_the_drivers_times(late: float, ok: bool) -> None:
    seen = cluster({}, {"host": "two", "began": 5 + late, "ended": 6 + late})
    found = checks.clocks(seen, began=4.0, ended=7.0)
    assert found.ok is ok
    assert "clock of two" in found.advice or late == 0


def test_memory_is_shared_by_the_slots_of_a_machine() -> None:
    seen = cluster({"free": 4 * 2**30}, {"free": 4 * 2**30}, {"host": "two"})
    assert checks.memory(seen, needs={"lr": 2 * 2**30}).ok
    _fails(checks.memory(seen, needs={"lr": 1, "big": 3 * 2**30}), "big takes about 3.00 GiB a rank; 2.00", "bits")
    assert checks.memory(seen, needs={}).ok


def test_a_rank_takes_more_memory_with_rows_and_bits_and_less_with_ranks() -> None:
    def needs(rows: int, told: int, bits: int) -> dict[str, int]:
        cfg = load(("datasets/simulated.yaml",), (f"models.lr.bits={bits}",))
        return checks.estimated(cfg, rows=rows, told=told)

    base = needs(10_000_000, 2, 20)
    assert set(base) == {"lr", "lr_nocross", "trees", "trees_lr"}, "networks say it themselves, as they begin"
    assert min(needs(1, 1, 18).values()) > 200 * 2**20, "Python and its libraries, before the first row"
    assert 10_000_000 / 2 * 4 * 34 < base["lr"] < 10_000_000 / 2 * 4 * 34 * 4, "its 34 keys, and not much more"
    assert base["lr_nocross"] < base["lr"] < needs(10_000_000, 2, 28)["lr"]
    assert needs(10_000_000, 4, 20)["lr"] < base["lr"] < needs(20_000_000, 2, 20)["lr"]


def test_a_weight_is_for_a_value_that_there_is_however_many_bits_there_are() -> None:
    def lr(bits: int, values: int | None) -> int:
        cfg = load(("datasets/simulated.yaml",), (f"models.lr.bits={bits}",))
        return checks.estimated(cfg, rows=1_000_000, told=1, values=values)["lr"]

    assert lr(28, 500_000) == lr(24, 500_000) < lr(24, 1_000_000) < lr(24, None)
    assert lr(18, 500_000) == lr(18, None)


@pytest.mark.parametrize(("model", "bits", "peak"), [("lr", 20, 712), ("lr", 24, 719), ("trees", 20, 1459)])
def test_the_estimate_is_near_what_was_measured(model: str, bits: int, peak: int) -> None:
    """A rank's VmHWM in MiB, over a simulated day."""
    cfg = load(("datasets/simulated.yaml",), (f"models.lr.bits={bits}",))
    needed = checks.estimated(cfg, rows=891_667, told=1, values=548_000)[model] / 2**20
    assert peak / 1.25 < needed < peak * 1.25


def test_trees_keep_the_rows_of_validation_time() -> None:
    """docs/scale.md, 10 million rows in three days, two ranks: the largest process had 1,510 MB."""
    cfg = load(("datasets/simulated.yaml",), ())
    needed = checks.estimated(cfg, rows=261_700, told=2, validation=3_333_333)
    assert 1510e6 / 1.25 < needed["trees"] < 1510e6 * 1.25
    without = checks.estimated(cfg, rows=261_700, told=2)
    assert without["trees"] < needed["trees"] / 2
    assert without["lr"] == needed["lr"], "which lets them pass"


def test_ranks_asked_for() -> None:
    cfg = load(("datasets/simulated.yaml",), ("models.lr.ranks=3", "models.trees_lr.trees.ranks=2"))
    asked = checks.asked_ranks(cfg)
    assert asked == {"lr": 3, "lr_nocross": None, "trees": None, "trees_lr": None, "deep": 2}
    outside = load(("datasets/simulated.yaml",), ("models.deep.launcher=torchrun",))
    assert "deep" not in checks.asked_ranks(outside)


def _fails(found: Check, said: str, advice: str) -> None:
    assert not found.ok
    assert found.needed
    assert said in found.found
    assert advice in found.advice
