"""A batch that never ends: told, and nobody is left waiting; a busy engine is left alone."""

import asyncio
import time
from collections.abc import AsyncIterator

import anyio
import pytest

from service.errors import NotReady
from service.scheduler import EngineThread
from service.stall import watch
from tests.service.test_scheduler import NO_HANG_S, Block, Call, Calls, later, make_thread

pytestmark = pytest.mark.anyio


@pytest.fixture
async def thread() -> AsyncIterator[EngineThread]:
    made = make_thread(Calls())
    yield made
    with anyio.fail_after(NO_HANG_S):
        await made.close()


async def test_a_batch_that_does_not_end_is_a_dead_engine(thread: EngineThread) -> None:
    block = Block()
    running = later(thread, block)
    await block.started.wait()
    waiting = later(thread, lambda: "never")
    await asyncio.sleep(0)
    with anyio.fail_after(NO_HANG_S):
        await watch(thread, 0.05)
        outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NotReady}
    assert not thread.alive
    assert thread.depth == 0
    with pytest.raises(NotReady):
        await thread.submit(Call(lambda: "late"))
    with anyio.fail_after(NO_HANG_S):
        await thread.close()  # though it hangs
    # It comes back: too late, and nobody minds.
    block.release.set()
    await asyncio.to_thread(thread._thread.join, NO_HANG_S)
    assert not thread._thread.is_alive()


async def test_batch_after_batch_is_no_hang(thread: EngineThread) -> None:
    """However busy it is, and for however long."""
    watching = asyncio.create_task(watch(thread, 1.0))
    end_s = time.monotonic() + 1.5
    while time.monotonic() < end_s:
        await thread.submit(Call(lambda: time.sleep(0.001)))
    assert thread.alive
    watching.cancel()


async def test_the_time_in_which_nobody_looked_does_not_count(thread: EngineThread) -> None:
    """A process that was stopped, or an event loop that was held up."""
    watching = asyncio.create_task(watch(thread, 1.0))
    block = Block()
    running = later(thread, block)
    await block.started.wait()
    time.sleep(1.5)  # noqa: ASYNC251 - on purpose
    await asyncio.sleep(0.01)
    assert thread.alive
    block.release.set()
    await running
    watching.cancel()
