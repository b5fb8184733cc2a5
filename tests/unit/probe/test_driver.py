"""The doctor's clocks: what is measured is the time of a round trip, not that of waiting for executors."""

import pytest
from test_checks import GOOD

from clickmill.probe import driver
from clickmill.probe.worker import Seen


@pytest.mark.parametrize(("late", "ok"), [(0.0, True), (20.0, False), (-20.0, False)])
def test_a_clock_is_wrong_however_long_executors_take_to_come(
    monkeypatch: pytest.MonkeyPatch, late: float, ok: bool
) -> None:
    now, waits = [1000.0], [31.0, 0.0]
    monkeypatch.setattr(driver, "time", lambda: now[0])

    def ask() -> list[Seen]:
        now[0] += waits.pop(0)
        began = now[0] + late
        now[0] += 0.5
        return [GOOD._replace(began=began, ended=began + 0.5)]

    seen, clocks = driver._asked(ask)
    assert len(seen) == 1
    assert clocks.ok is ok
