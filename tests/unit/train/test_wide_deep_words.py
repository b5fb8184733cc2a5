"""The last words of ranks: whose error is told when several went wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clickmill.errors import InputError, NonFiniteLossError, NoSpaceError, RankError
from clickmill.job import named
from clickmill.train.wide_deep import words
from clickmill.train.wide_deep.team import BrokenTeamError
from clickmill.train.wide_deep.words import Words


def test_a_rank_s_own_error_is_told_before_its_neighbour_s_broken_connection(tmp_path: Path) -> None:
    Words(tmp_path, 0).say("broken", BrokenTeamError("rank 0: a neighbour left"))
    Words(tmp_path, 1).say("failed", InputError("a.parquet, row group 3: a label is neither 0 nor 1"))
    reason = words.verdict(tmp_path, 2)
    assert type(reason) is InputError
    assert str(reason) == "a.parquet, row group 3: a label is neither 0 nor 1"


def test_of_several_errors_the_first_is_told(tmp_path: Path) -> None:
    Words(tmp_path, 1).say("failed", NonFiniteLossError("step 7: the loss is not finite on rank 1"))
    time.sleep(0.01)
    Words(tmp_path, 0).say("failed", ValueError("and then this"))
    assert type(words.verdict(tmp_path, 2)) is NonFiniteLossError


def test_an_error_that_is_not_ours_is_told_with_the_rank(tmp_path: Path) -> None:
    Words(tmp_path, 2).say("failed", ZeroDivisionError("division by zero"))
    reason = words.verdict(tmp_path, 3)
    assert type(reason) is RankError
    assert str(reason) == "rank 2 failed: ZeroDivisionError: division by zero"


def test_a_rank_without_a_last_word_was_killed(tmp_path: Path) -> None:
    Words(tmp_path, 0).say("stopped", BrokenTeamError("told to end"))
    Words(tmp_path, 1).say("started")
    with pytest.raises(RankError, match=r"^rank 1 \(process \d+ on .*\) was killed or lost"):
        raise words.verdict(tmp_path, 2) or AssertionError


def test_ranks_that_never_came_are_told_with_the_one_that_was_lost(tmp_path: Path) -> None:
    Words(tmp_path, 0).say("started")
    with pytest.raises(RankError, match=r"^rank 0 .* left no word; rank 1, 2 had not come by then$"):
        raise words.verdict(tmp_path, 3) or AssertionError


def test_all_is_well_where_all_are_done_and_nothing_is_known_where_none_came(tmp_path: Path) -> None:
    assert words.verdict(tmp_path, 2) is None
    for rank in range(2):
        own = Words(tmp_path, rank)
        own.say("started")
        own.say("done")
    assert words.verdict(tmp_path, 2) is None
    assert [word["rank"] for word in words.heard(tmp_path)] == [0, 1]
    words.clear(tmp_path)
    assert words.heard(tmp_path) == []


def test_ranks_that_are_left_are_ended_and_no_others(tmp_path: Path) -> None:
    code = (
        "import sys, time; from clickmill.train.wide_deep.words import Words; "
        "Words(sys.argv[1], 0).say('started'); print('here', flush=True); time.sleep(60)"
    )
    rank = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert rank.stdout is not None
    rank.stdout.readline()
    Words(tmp_path, 1).say("started")  # (this process, which must live on)
    words.end(tmp_path)
    assert rank.wait(10) < 0
    rank.stdout.close()


def test_on_a_full_disk_the_last_word_is_written_over_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Words(tmp_path, 1)
    own.say("started")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    own.say("failed", OSError(28, "No space left on device"))
    reason = words.verdict(tmp_path, 2)
    assert type(reason) is RankError
    assert "rank 1 failed: OSError: [Errno 28] No space left on device" in str(reason)
    assert type(named(reason)) is NoSpaceError, "which is not tried again"
