"""The engine thread: one job at a time, in order, and every caller gets an answer."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from service.deadline import Deadline
from service.errors import NotReady, Overloaded
from service.scheduler import EngineThread, Expired

pytestmark = pytest.mark.anyio

NO_HANG_S = 20.0


@pytest.fixture
async def thread() -> AsyncIterator[EngineThread]:
    made = EngineThread(max_queue=4)
    yield made
    with anyio.fail_after(NO_HANG_S):
        await made.close()


class Block:
    """A job that runs until it is released; `started` is set once the engine is at it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.started, self.release = asyncio.Event(), threading.Event()

    def __call__(self) -> None:
        self._loop.call_soon_threadsafe(self.started.set)
        self.release.wait(NO_HANG_S)


@asynccontextmanager
async def occupied(thread: EngineThread) -> AsyncIterator[None]:
    """The engine is busy with a job for as long as the block lasts."""
    block = Block()
    job = asyncio.create_task(thread.submit(block))
    try:
        await block.started.wait()
        yield
    finally:
        block.release.set()
        await job


def later(
    thread: EngineThread, run: Callable[[], object], deadline: Deadline | None = None
) -> asyncio.Task[object]:
    return asyncio.create_task(thread.submit(run, deadline))


def soon() -> Deadline:
    return Deadline.after_ms(1000 * NO_HANG_S)


async def test_jobs_run_in_order_on_one_other_thread(thread: EngineThread) -> None:
    ran: list[int] = []
    names: set[str] = set()

    def job(number: int) -> int:
        ran.append(number)
        names.add(threading.current_thread().name)
        return number * number

    async with occupied(thread):
        jobs = [later(thread, lambda n=n: job(n)) for n in range(10)]  # type: ignore[misc]
        await asyncio.sleep(0)
        assert thread.depth == 10
        assert ran == []
    assert await asyncio.gather(*jobs) == [n * n for n in range(10)]
    assert ran == list(range(10))
    assert names == {"mfalcon-engine"}
    assert thread.depth == 0


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError(), TimeoutError(), Expired()])
async def test_an_exception_reaches_its_caller_and_the_thread_goes_on(
    thread: EngineThread, error: Exception
) -> None:
    def fail() -> None:
        raise error

    with anyio.fail_after(NO_HANG_S), pytest.raises(type(error)) as raised:
        await thread.submit(fail)
    assert raised.value is error
    assert await thread.submit(lambda: "next") == "next"
    assert thread.alive


async def test_stop_iteration_reaches_its_caller_too(thread: EngineThread) -> None:
    """A future refuses to carry it as it is."""

    def fail() -> None:
        next(iter(()))

    with anyio.fail_after(3), pytest.raises((StopIteration, RuntimeError)):
        await thread.submit(fail)
    assert await thread.submit(lambda: "next") == "next"


async def test_a_full_queue_refuses_with_a_time_to_come_back(thread: EngineThread) -> None:
    async with occupied(thread):
        waiting = [later(thread, lambda: "served", soon()) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="4 of 4 requests are waiting") as raised:
            await thread.submit(lambda: "refused", soon())
        assert raised.value.retry_after_s is not None
        assert raised.value.retry_after_s >= 1
    assert await asyncio.gather(*waiting) == ["served"] * 4
    assert await thread.submit(lambda: "served again", soon()) == "served again"


async def test_the_services_own_jobs_are_not_refused(thread: EngineThread) -> None:
    async with occupied(thread):
        jobs = [later(thread, lambda: "written") for _ in range(20)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*jobs) == ["written"] * 20


async def test_a_job_past_its_deadline_is_not_run(thread: EngineThread) -> None:
    ran: list[str] = []
    with anyio.fail_after(NO_HANG_S), pytest.raises(Expired):
        await thread.submit(lambda: ran.append("late"), Deadline(time.monotonic()))
    assert ran == []
    assert await thread.submit(lambda: "next", soon()) == "next"


async def test_a_deadline_that_passes_while_the_job_waits_expires_it(thread: EngineThread) -> None:
    ran: list[str] = []
    async with occupied(thread):
        deadline = Deadline.after_ms(1)
        job = later(thread, lambda: ran.append("late"), deadline)
        await asyncio.sleep(0.01)
        assert deadline.expired
        assert not job.done()
    with pytest.raises(Expired):
        await job
    assert ran == []


async def test_cancelled_jobs_are_skipped(thread: EngineThread) -> None:
    ran: list[str] = []
    async with occupied(thread):
        kept = [later(thread, lambda: ran.append("kept")) for _ in range(2)]
        dropped = [later(thread, lambda: ran.append("dropped")) for _ in range(2)]
        await asyncio.sleep(0)
        for job in dropped:
            job.cancel()
        await asyncio.wait(dropped)
    await asyncio.gather(*kept)
    assert all(job.cancelled() for job in dropped)
    assert await thread.submit(lambda: ran) == ["kept", "kept"]


async def test_cancelling_the_running_job_harms_nobody(thread: EngineThread) -> None:
    block = Block()
    running = later(thread, block)
    await block.started.wait()
    running.cancel()
    await asyncio.wait([running])
    after = later(thread, lambda: "after")
    block.release.set()
    assert await after == "after"


async def test_close_finishes_what_is_queued_and_refuses_what_comes(thread: EngineThread) -> None:
    ran: list[int] = []
    async with occupied(thread):
        jobs = [later(thread, lambda n=n: ran.append(n)) for n in range(5)]  # type: ignore[misc]
        await asyncio.sleep(0)
        closing = asyncio.create_task(thread.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await thread.submit(lambda: ran.append(99))
    with anyio.fail_after(NO_HANG_S):
        await closing
        await asyncio.gather(*jobs)
    assert ran == list(range(5))
    assert not thread.alive


async def test_no_job_is_lost_or_run_twice() -> None:
    """Successes, failures, cancellations and expiries at random, from many callers."""
    thread, rng, ran = EngineThread(max_queue=10_000), random.Random(1), list[int]()

    def job(number: int) -> int:
        ran.append(number)
        if number % 7 == 0:
            raise LookupError(number)
        return number

    tasks = []
    for number in range(2000):
        deadline = Deadline(time.monotonic() - 1) if number % 11 == 0 else soon()
        tasks.append(later(thread, lambda n=number: job(n), deadline))  # type: ignore[misc]
        if number % 5 == 0:
            await asyncio.sleep(0)
        if number % 13 == 0:
            rng.choice(tasks).cancel()
    with anyio.fail_after(NO_HANG_S):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    await thread.close()
    assert len(ran) == len(set(ran))
    for number, result in enumerate(results):
        if isinstance(result, asyncio.CancelledError):
            continue
        if number % 11 == 0:
            assert isinstance(result, Expired)
        elif number % 7 == 0:
            assert isinstance(result, LookupError)
        else:
            assert result == number
