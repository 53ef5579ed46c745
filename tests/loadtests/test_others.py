"""Who takes the processor: what the test and its children compute is its own."""

import subprocess
import sys

import psutil
import pytest

from loadtests import others
from loadtests.others import Others, _Clocks

BUSY = "import time\nend = time.process_time() + .3\nwhile time.process_time() < end: pass"


def test_own_work_and_that_of_children_is_not_others() -> None:
    before = _Clocks.read()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    after = _Clocks.read()
    assert after.own_s - before.own_s >= 0.25


def test_what_is_busy_beyond_the_own_is_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    before = _Clocks(at_s=10.0, busy_s=100.0, own_s=5.0)
    assert _Clocks(at_s=12.0, busy_s=103.0, own_s=6.0).others_since(before) == 0.5
    assert _Clocks(at_s=12.0, busy_s=101.0, own_s=6.5).others_since(before) == 0.0


@pytest.mark.anyio
async def test_the_worst_second_between_two_moments_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = [_Clocks(float(at_s), busy_s, 0.0) for at_s, busy_s in enumerate((0.0, 0.0, 2.0, 2.0))]
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(others, "EVERY_S", 0.0)
    monkeypatch.setattr(_Clocks, "read", lambda: clocks.pop(0))
    found = Others(began_s=0.0)
    with pytest.raises(IndexError):  # there are no more clocks
        await found.watch()
    monkeypatch.undo()
    assert found.most(1.0, 3.0) == 0.5
    assert found.most(2.5, 3.0) == 0.0
