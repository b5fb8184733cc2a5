"""A warm start sees the newest day, and a share of the rest."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from clickmill.errors import ConfigError
from clickmill.loader import Counted
from clickmill.models.wide_deep import WideDeepModel
from clickmill.reader import Piece
from clickmill.specs import WideDeepSpec
from clickmill.split import Stretch
from clickmill.train.wide_deep import driver, warm
from clickmill.train.wide_deep.warm import Start, newest

TRAIN = Stretch(datetime(2026, 1, 1), datetime(2026, 1, 5))
PIECES = tuple(
    Counted(Piece(f"ds=2026-01-0{day}/{number}.parquet", 0, 10, (("ds", f"2026-01-0{day}"),)), TRAIN, 10)
    for day in (1, 2, 3, 4)
    for number in range(10)
)


def test_of_few_older_row_groups_one_is_seen() -> None:
    few = [one for one in PIECES if one.piece.path.endswith(("/0.parquet", "4/1.parquet"))]
    assert [len(newest(few, WideDeepSpec(replay=share))) for share in (0.0, 0.01, 0.34, 1.0)] == [
        2,
        3,
        4,
        5,
    ]


def test_a_champion_that_lies_otherwise_is_not_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def laid(_where: str, _spec: Any, _cfg: Any, _audit: Any, start: Start | None) -> str:
        if start is not None and start.model is not None:
            raise ConfigError("it has other bits")
        return "as the audit saw it"

    monkeypatch.setattr(driver, "_layout", laid)
    model: Any = object()
    other = Start(model, {"reason": None})
    nothing: Any = None
    start, _ = driver._laid_out("models.deep", WideDeepSpec(warm_start="champion"), nothing, (), other)
    assert start is not None
    assert (start.model, start.line) == (None, "starts from the base rate: it has other bits")
    with pytest.raises(ConfigError, match="other bits"):
        driver._laid_out("models.deep", WideDeepSpec(warm_start="deep-1"), nothing, (), other)


@pytest.mark.parametrize(("arch", "fits"), [("wide_deep", True), ("dcn_v2", False)])
def test_only_what_the_network_is_built_of_must_be_alike(
    monkeypatch: pytest.MonkeyPatch, arch: str, fits: bool
) -> None:
    monkeypatch.setattr(warm, "require_earlier", lambda *_: None)
    model = WideDeepModel.__new__(WideDeepModel)
    spec, card = WideDeepSpec(arch=arch, cross_rank=8, dropout=0.2), SimpleNamespace(model_id="deep-1")
    model.__dict__.update(spec=spec, card=card)
    asked = WideDeepSpec(arch=arch, cross_rank=16)
    if fits:
        assert warm._fitting(model, asked, TRAIN) is model
    else:
        with pytest.raises(ConfigError, match="deep-1 has cross_rank 8, this model 16"):
            warm._fitting(model, asked, TRAIN)


def seen(**spec: Any) -> list[str]:
    return [one.piece.path for one in newest(PIECES, WideDeepSpec(**spec))]


@pytest.mark.parametrize(("replay", "old"), [(0.0, 0), (0.1, 3), (0.5, 15), (1.0, 30)])
def test_all_of_the_newest_day_and_so_much_of_the_rest(replay: float, old: int) -> None:
    found = seen(replay=replay)
    assert sum(path.startswith("ds=2026-01-04") for path in found) == 10
    assert len(found) == len(set(found)) == 10 + old


def test_which_older_rows_hangs_on_the_seed_alone() -> None:
    assert seen(replay=0.3) == seen(replay=0.3)
    assert seen(replay=0.3) != seen(replay=0.3, seed=7)


def test_where_the_last_day_has_no_rows_the_newest_that_has_some_is_seen() -> None:
    found = newest([one for one in PIECES if "01-04" not in one.piece.path], WideDeepSpec(replay=0.0))
    assert {one.piece.path[:13] for one in found} == {"ds=2026-01-03"}
    assert len(found) == 10


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ("localhost:1", "has 1 slots, fewer than ranks: 2"),
        ("localhost:x", "write hosts and their slots"),
        ("a:1,b", "write hosts and their slots"),
        ("a:0,b:2", "write hosts and their slots"),
    ],
)
def test_hosts_that_cannot_hold_the_ranks_are_a_wrong_config(hosts: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WideDeepSpec(launcher="horovod", ranks=2, hosts=hosts)
    assert WideDeepSpec(launcher="horovod", ranks=2, hosts="a:1, b:1").hosts == "a:1, b:1"
