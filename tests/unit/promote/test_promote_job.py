"""The job: what it says has been written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clickmill.jobs import promote


def test_the_verdict_is_recorded_before_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    verdict = SimpleNamespace(sentences=["lr is the champion now"], failed=[], for_json=dict)
    monkeypatch.setattr(promote, "challenge", lambda *_: verdict)
    monkeypatch.setattr(promote, "record", lambda *_: done.append("recorded"))
    monkeypatch.setattr(promote.tracking, "decided", lambda _: None)
    run: Any = SimpleNamespace(
        rollback=None,
        tables=None,
        cfg=None,
        ds=None,
        models=(),
        result={},
        say=done.append,
        count=lambda **_: None,
    )
    run.stretches = lambda: SimpleNamespace(test=None)
    promote.main(run)
    assert done == ["recorded", "lr is the champion now"]
