"""Tables that do not fit are told before training, with what would."""

from __future__ import annotations

import re
from typing import Any

import pytest

from clickmill.dataset import Dataset
from clickmill.errors import NotEnoughMemoryError
from clickmill.nets.layout import Layout, layout_of
from clickmill.specs import WideDeepSpec
from clickmill.train import gpu
from clickmill.train.wide_deep import memory
from clickmill.train.wide_deep.memory import require_memory, require_memory_of_ranks

DATASET = Dataset.model_validate(
    {
        "name": "d",
        "source": {"path": "x", "format": "parquet"},
        "label": "y",
        "event_time": {"kind": "column", "column": "t"},
        "slots": ["a", "b"],
    }
)


def asked(bits: int, **changes: Any) -> tuple[WideDeepSpec, Layout]:
    spec = WideDeepSpec.model_validate({"wide_bits": 12, "launcher": "torchrun"} | changes)
    return spec, layout_of(spec, DATASET, {"a": bits, "b": 10})


def test_what_fits_is_not_told() -> None:
    require_memory("models.deep", *asked(16, memory_mb=100), here=True)


def test_the_bits_that_are_told_fit_and_one_more_would_not() -> None:
    spec, layout = asked(24, memory_mb=100)
    with pytest.raises(NotEnoughMemoryError, match=r"models.deep: .* 24 bits .* 1\.\d\d GiB .*0\.10 GiB") as told:
        require_memory("models.deep", spec, layout, here=True)
    found = re.search(r"no table above (\d+) bits", str(told.value))
    assert found is not None
    require_memory("models.deep", *asked(int(found[1]), memory_mb=100), here=True)
    with pytest.raises(NotEnoughMemoryError):
        require_memory("models.deep", *asked(int(found[1]) + 1, memory_mb=100), here=True)
    assert told.value.exit_code == 2


def test_the_wide_part_counts_and_no_number_of_bits_may_do() -> None:
    with pytest.raises(NotEnoughMemoryError, match=r"no table above 21 bits .*wide_bits"):
        require_memory("models.deep", *asked(10, memory_mb=40, wide_bits=30), here=True)
    with pytest.raises(NotEnoughMemoryError, match="no number of bits would do"):
        require_memory("models.deep", *asked(24, memory_mb=1, embedding={"dim": 1024}), here=True)


def test_ranks_share_their_machine_and_each_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 2**33)
    monkeypatch.setattr(gpu, "memory", lambda: 2**31)
    assert memory.allowed(asked(10, ranks=4)[0]) == int(0.9 * 2**33) // 4 - memory.PROCESS
    assert memory.allowed(asked(10, ranks=4, device="cuda")[0]) == int(0.9 * 2**31)
    assert memory.allowed(asked(10, ranks=32)[0]) == 0
    require_memory("models.deep", *asked(26, ranks=4), here=False)  # (nobody knows, elsewhere)
    with pytest.raises(NotEnoughMemoryError):
        require_memory("models.deep", *asked(26, ranks=4), here=True)


def test_a_rank_knows_what_its_own_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^20 rows of 16 numbers and their squares: 72 MiB."""
    spec, layout = asked(20)
    monkeypatch.setattr(memory, "free", lambda: 150 * 2**20)
    require_memory_of_ranks(spec, layout, 2)
    with pytest.raises(
        NotEnoughMemoryError, match=r"where each of 3 ranks may use 0\.05 GiB; with no table above 19"
    ):
        require_memory_of_ranks(spec, layout, 3)
    monkeypatch.setattr(gpu, "memory", lambda: 2**31)
    require_memory_of_ranks(spec.model_copy(update={"device": "cuda"}), layout, 3)


def test_what_the_optimizer_knows_counts() -> None:
    """2^20 rows of 16 numbers: 72 MiB with one sum of squares a row, 136 MiB with Adam's means as well."""
    require_memory("models.deep", *asked(20, memory_mb=100, optimizer="adagrad"), here=True)
    with pytest.raises(NotEnoughMemoryError, match=r"0\.13 GiB a rank.*no table above 19 bits"):
        require_memory("models.deep", *asked(20, memory_mb=100, optimizer="adam"), here=True)


def test_the_driver_must_hold_the_weights_once_wherever_the_ranks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 2**28)
    spec, layout = asked(22, memory_mb=10_000)
    assert layout.packed() == 4 * (16 * (2**22 + 2**10) + 5 * 2**12)
    with pytest.raises(NotEnoughMemoryError, match=r"0\.25 GiB in the driver.*0\.2\d GiB; with no table above 21"):
        require_memory("models.deep", spec, layout, here=False)
    require_memory("models.deep", *asked(21, memory_mb=10_000), here=False)


def test_a_gpu_s_machine_holds_a_checkpoint_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 2**28)
    monkeypatch.setattr(gpu, "memory", lambda: 2**36)
    with pytest.raises(NotEnoughMemoryError, match=r"outside the GPU.*no table above 20"):
        require_memory("models.deep", *asked(21, device="cuda", optimizer="adam"), here=True)
