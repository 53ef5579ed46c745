"""The engine thread gets the interpreter soon: the timers with which it asks for it are on time."""

import ctypes
import sys
from threading import Thread

import pytest

from service.interpreter import switch_soon

PR_GET_TIMERSLACK = 30


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no timer slack to set")
def test_threads_started_afterwards_have_timers_that_are_on_time() -> None:
    found: list[int] = []

    def engine() -> None:
        found.append(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))

    def service() -> None:
        switch_soon()
        thread = Thread(target=engine)
        thread.start()
        thread.join()

    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        thread = Thread(target=service)
        thread.start()
        thread.join()
        assert sys.getswitchinterval() < 0.0001
    finally:
        sys.setswitchinterval(before)
    assert found == [1_000]
