"""How long the loop may keep the interpreter: hardly at all, and longer where it is late."""

import asyncio
import ctypes
import sys
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from service.interpreter import Interpreter, kept_s

PR_GET_TIMERSLACK = 30


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before_s)


def test_a_loop_that_is_on_time_keeps_it_for_ten_microseconds() -> None:
    assert kept_s(0.0) == kept_s(0.0002) == pytest.approx(1e-5)


def test_one_that_is_late_keeps_it_for_a_millisecond_at_most() -> None:
    assert kept_s(0.001) == kept_s(1.0) == pytest.approx(1e-3)


def test_the_later_it_is_the_longer() -> None:
    found = [kept_s(late_s / 1e5) for late_s in range(30, 61)]
    assert found == sorted(found)


@pytest.mark.anyio
async def test_a_loop_that_has_too_much_to_do_keeps_it_longer() -> None:
    interpreter = Interpreter()
    interpreter.begin()
    began_s = sys.getswitchinterval()
    loop = asyncio.get_running_loop()
    for _ in range(30):
        loop.call_soon(time.sleep, 0.02)  # twice as long as its timers are apart
        await asyncio.sleep(0)
    busy_s = sys.getswitchinterval()
    interpreter.end()
    assert began_s == pytest.approx(1e-5)
    assert busy_s == pytest.approx(1e-3)


@pytest.mark.anyio
async def test_what_was_set_before_is_set_afterwards() -> None:
    sys.setswitchinterval(0.004)
    interpreter = Interpreter()
    interpreter.begin()
    interpreter.end()
    await asyncio.sleep(0.03)
    assert sys.getswitchinterval() == pytest.approx(0.004)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no timer slack to set")
def test_threads_started_afterwards_have_timers_that_are_on_time() -> None:
    found: list[int] = []

    def engine() -> None:
        found.append(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))

    async def service() -> None:
        interpreter = Interpreter()
        interpreter.begin()
        thread = Thread(target=engine)
        thread.start()
        thread.join()
        interpreter.end()

    thread = Thread(target=lambda: asyncio.run(service()))
    thread.start()
    thread.join()
    assert found == [1_000]
