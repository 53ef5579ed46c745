"""Keeping freed memory is tried, and never fails.

In a process of its own: the setting is the whole process's.
"""

import subprocess
import sys

import pytest

from model.allocator import keep_freed_memory


def test_the_outcome_is_told_and_memory_stays_usable() -> None:
    code = (
        "from model.allocator import keep_freed_memory as keep\n"
        "outcomes = [keep(), keep(1 << 20)]\n"
        "assert all(isinstance(o, bool) for o in outcomes), outcomes\n"
        "assert all(len(bytes(n)) == n for n in (1, 1 << 16, 1 << 26)) \n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_set(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert keep_freed_memory() is False


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False
