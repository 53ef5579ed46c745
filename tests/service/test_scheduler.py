"""The engine thread: one batch at a time, in order, and every caller gets an answer."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from service.batch import Bounds, Pace, Work
from service.deadline import Deadline
from service.errors import NotReady, Overloaded
from service.job import Expired, Job, Ticket
from service.scheduler import EngineThread
from tests.service.builders import pace_of

pytestmark = pytest.mark.anyio

NO_HANG_S = 20.0


@dataclass(frozen=True, slots=True)
class Call(Job[Any]):
    """A job that is a function."""

    run: Callable[[], Any]
    deadline: Deadline | None = None
    num_candidates: int = 0
    client: str = "anonymous"

    def work(self) -> Work:
        return Work(1, self.num_candidates)


class Calls:
    """Runs batches of calls, and remembers how many there were in each."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, tickets: Sequence[Ticket[Any]]) -> None:
        self.sizes.append(len(tickets))
        for ticket in tickets:
            assert isinstance(ticket.job, Call)
            try:
                ticket.finish(ticket.job.run())
            except Exception as error:
                ticket.fail(error)


def make_thread(
    run: Callable[[Sequence[Ticket[Any]]], None],
    *,
    max_queue: int = 4,
    num_rows: int = 1000,
    pace: Pace | None = None,
) -> EngineThread:
    bounds = Bounds(encode_rows=1000, num_rows=num_rows)
    return EngineThread(run, bounds=bounds, pace=pace or Pace(), max_queue=max_queue)


@pytest.fixture
async def thread() -> AsyncIterator[EngineThread]:
    made = make_thread(Calls())
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
    job = asyncio.create_task(thread.submit(Call(block)))
    try:
        await block.started.wait()
        yield
    finally:
        block.release.set()
        await job


def later(
    thread: EngineThread, run: Callable[[], object], deadline: Deadline | None = None
) -> asyncio.Task[object]:
    return asyncio.create_task(thread.submit(Call(run, deadline)))


def patient() -> Deadline:
    """Longer than any wait a test makes up."""
    return Deadline.after_ms(1e9)


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
        await thread.submit(Call(fail))
    assert raised.value is error
    assert await thread.submit(Call(lambda: "next")) == "next"
    assert thread.alive


async def test_stop_iteration_reaches_its_caller_too(thread: EngineThread) -> None:
    """A future refuses to carry it as it is."""

    def fail() -> None:
        next(iter(()))

    with anyio.fail_after(3), pytest.raises((StopIteration, RuntimeError)):
        await thread.submit(Call(fail))
    assert await thread.submit(Call(lambda: "next")) == "next"


async def test_a_full_queue_refuses_with_a_time_to_come_back(thread: EngineThread) -> None:
    async with occupied(thread):
        waiting = [later(thread, lambda: "served", soon()) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="4 of 4 requests are waiting") as raised:
            await thread.submit(Call(lambda: "refused", soon()))
        assert raised.value.retry_after_s is not None
        assert raised.value.retry_after_s >= 1
    assert await asyncio.gather(*waiting) == ["served"] * 4
    assert await thread.submit(Call(lambda: "served again", soon())) == "served again"


async def test_a_job_that_would_only_wait_for_its_deadline_is_refused_until_it_fits() -> None:
    """Rows of a second each: three jobs of a hundred seconds are ahead of whoever comes."""
    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    async with occupied(thread):
        seconds = sum([Work(1, 67).num_rows] * 3 + [Work(1, 0).num_rows])
        waiting = [
            asyncio.create_task(thread.submit(Call(lambda: "served", patient(), num_candidates=67)))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        assert thread.wait_s("anonymous") == pytest.approx(seconds, abs=NO_HANG_S)
        with pytest.raises(Overloaded) as raised:
            await thread.submit(Call(lambda: "refused", Deadline.after_ms(250_000)))
        assert raised.value.reason == "late"
        own = Work(1, 0).num_rows
        late = seconds + own - 250 * 2 / 3
        assert raised.value.retry_after_s == pytest.approx(late, abs=NO_HANG_S + 1)
        for work, budget_ms, has_room in (
            (Work(1, 0), 250_000, False),
            (Work(1, 0), 600_000, True),
            (Work(1, 300), 500_000, False),  # most of its budget is left to none
            (Work(1, 10_000), 2_200_000, True),
        ):
            with nullcontext() if has_room else pytest.raises(Overloaded):
                thread.enter(work, Deadline.after_ms(budget_ms), "anonymous").leave()
        waiting.append(later(thread, lambda: "served", patient()))
        waiting.append(later(thread, lambda: "served"))  # the service's own
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == ["served"] * 5
    assert thread.wait_s("anonymous") == 0
    await thread.close()


async def test_who_comes_later_is_told_by_those_who_are_on_their_way() -> None:
    """Rows of a second each, and nothing in the queue to be run yet."""
    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    seconds = Work(1, 0).num_rows
    deadline = Deadline.after_ms(1000 * 3.5 * seconds * 3 / 2)
    places = [thread.enter(Work(1, 0), deadline, "anonymous") for _ in range(3)]
    with pytest.raises(Overloaded):
        thread.enter(Work(1, 0), deadline, "anonymous")
    assert thread.depth == 0
    assert thread.wait_s("anonymous") == pytest.approx(3 * seconds)
    places.pop(0).leave()
    places.append(thread.enter(Work(1, 0), deadline, "anonymous"))
    for place in places:
        assert await thread.submit(Call(lambda: "served", deadline), place) == "served"
        place.leave()
    assert thread.wait_s("anonymous") == 0
    await thread.close()


async def test_what_comes_after_a_job_counts_in_full() -> None:
    """A job of some seconds that waits for one like it; what may be planned is two thirds."""
    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    seconds = Work(1, 0).num_rows
    alone = thread.enter(Work(1, 0), patient(), "anonymous", after_s=1e9)
    for after_s, has_room in ((0.0, True), (1.5 * seconds, False), (10 * seconds, False)):
        deadline = Deadline.after_ms(1000 * 3.2 * seconds)
        with nullcontext() if has_room else pytest.raises(Overloaded):
            thread.enter(Work(1, 0), deadline, "anonymous", after_s=after_s).leave()
    place = thread.enter(Work(1, 0), patient(), "anonymous", after_s=1.5 * seconds)
    place.deadline = Deadline.after_ms(1000 * 3.2 * seconds)
    with pytest.raises(Overloaded):
        await thread.submit(Call(lambda: "late", patient()), place)
    alone.leave()
    await thread.close()


async def test_a_place_is_kept_while_others_are_served(thread: EngineThread) -> None:
    ran: list[str] = []
    place = thread.enter(Work(1, 0), soon(), "anonymous")
    assert await thread.submit(Call(lambda: "first", soon())) == "first"
    async with occupied(thread):
        after = later(thread, lambda: ran.append("after"), soon())
        await asyncio.sleep(0)
        before = asyncio.create_task(
            thread.submit(Call(lambda: ran.append("before"), soon()), place)
        )
        await asyncio.sleep(0)
    await asyncio.gather(before, after)
    assert ran == ["before", "after"]


async def test_a_job_that_takes_more_than_its_place_tells_is_refused_by_what_it_takes() -> None:
    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    deadline = Deadline.after_ms(1000 * 10 * Work(1, 0).num_rows)
    first = thread.enter(Work(1, 300), patient(), "anonymous")
    place = thread.enter(Work(1, 0), patient(), "anonymous")
    place.deadline = deadline
    with pytest.raises(Overloaded):
        await thread.submit(Call(lambda: "late", deadline, num_candidates=300), place)
    assert thread.wait_s("anonymous") == pytest.approx(Work(1, 300).num_rows)
    first.leave()
    await thread.close()


async def test_a_place_that_was_lost_to_another_client_is_asked_for_again() -> None:
    thread = make_thread(Calls(), max_queue=2)
    kept, lost = (thread.enter(Work(1, 0), patient(), "greedy") for _ in range(2))
    more = thread.enter(Work(1, 0), patient(), "modest")
    with pytest.raises(Overloaded):
        await thread.submit(Call(lambda: "late", patient(), 0, "greedy"), lost)
    kept.leave()
    more.leave()
    assert await thread.submit(Call(lambda: "served", patient(), 0, "greedy"), lost) == "served"
    await thread.close()


async def test_the_engine_ends_with_places_kept(thread: EngineThread) -> None:
    place = thread.enter(Work(1, 0), soon(), "anonymous")
    with anyio.fail_after(NO_HANG_S):
        await thread.close()
    with pytest.raises(NotReady):
        await thread.submit(Call(lambda: "late", soon()), place)
    place.leave()


async def test_an_idle_engine_takes_whatever_comes() -> None:
    """Were it refused for its own work, a pace that is wrong would never be set right."""
    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    assert await thread.submit(Call(lambda: "served", soon(), num_candidates=1000)) == "served"
    await thread.close()


async def test_without_any_time_left_a_job_expires_rather_than_be_refused() -> None:
    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    async with occupied(thread):
        with anyio.fail_after(NO_HANG_S), pytest.raises(Expired):
            await thread.submit(Call(lambda: "late", Deadline(time.monotonic())))
    await thread.close()


async def test_a_client_within_its_share_is_served_beside_one_that_fills_the_queue() -> None:
    ran: list[str] = []
    thread = make_thread(Calls(), num_rows=Work(1, 0).num_rows)

    def ask(client: str) -> asyncio.Task[Any]:
        return asyncio.create_task(
            thread.submit(Call(lambda: ran.append(client), patient(), 0, client))
        )

    async with occupied(thread):
        greedy = [ask("greedy") for _ in range(4)]
        await asyncio.sleep(0)
        modest = ask("modest")
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as raised:
            await asyncio.gather(*greedy[3:])
        assert raised.value.reason == "full"
        with pytest.raises(Overloaded):
            await ask("greedy")
    await asyncio.gather(modest, *greedy[:3])
    assert ran == ["greedy", "modest", "greedy", "greedy"]
    await thread.close()


async def test_the_services_own_jobs_are_not_refused(thread: EngineThread) -> None:
    async with occupied(thread):
        jobs = [later(thread, lambda: "written") for _ in range(20)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*jobs) == ["written"] * 20


async def test_a_job_past_its_deadline_is_not_run(thread: EngineThread) -> None:
    ran: list[str] = []
    with anyio.fail_after(NO_HANG_S), pytest.raises(Expired):
        await thread.submit(Call(lambda: ran.append("late"), Deadline(time.monotonic())))
    assert ran == []
    assert await thread.submit(Call(lambda: "next", soon())) == "next"


async def test_a_job_expires_at_its_deadline_however_long_the_engine_is_busy() -> None:
    ran: list[str] = []
    thread = make_thread(Calls(), pace=pace_of(1e-9, 1e-9))
    async with occupied(thread):
        job = later(thread, lambda: ran.append("late"), Deadline.after_ms(1))
        with anyio.fail_after(NO_HANG_S), pytest.raises(Expired):
            await job
        assert thread.depth == 0
    assert ran == []
    await thread.close()


async def test_cancelled_jobs_are_skipped(thread: EngineThread) -> None:
    ran: list[str] = []
    async with occupied(thread):
        kept = [later(thread, lambda: ran.append("kept")) for _ in range(2)]
        dropped = [later(thread, lambda: ran.append("dropped")) for _ in range(2)]
        await asyncio.sleep(0)
        for job in dropped:
            job.cancel()
        await asyncio.wait(dropped)
        assert thread.depth == 2
    await asyncio.gather(*kept)
    assert all(job.cancelled() for job in dropped)
    assert await thread.submit(Call(lambda: ran)) == ["kept", "kept"]


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
            await thread.submit(Call(lambda: ran.append(99)))
    with anyio.fail_after(NO_HANG_S):
        await closing
        await asyncio.gather(*jobs)
    assert ran == list(range(5))
    assert not thread.alive


@pytest.mark.parametrize("last_words", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_when_the_thread_dies_nobody_is_left_waiting(
    thread: EngineThread, last_words: BaseException
) -> None:
    def die() -> None:
        raise last_words

    async with occupied(thread):
        jobs = [later(thread, run) for run in (lambda: "before", die, lambda: "after")]
        await asyncio.sleep(0)
    with anyio.fail_after(NO_HANG_S):
        before, *others = await asyncio.gather(*jobs, return_exceptions=True)
        assert before == "before"
        assert all(isinstance(other, NotReady) for other in others), others
        assert not thread.alive
        with pytest.raises(NotReady):
            await thread.submit(Call(lambda: "late"))
        await thread.close()


async def test_no_job_is_lost_or_run_twice() -> None:
    """Successes, failures, cancellations and expiries at random, from many callers."""
    thread, rng, ran = make_thread(Calls(), max_queue=10_000), random.Random(1), list[int]()

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


async def test_those_who_wait_are_run_together_and_a_lone_one_at_once() -> None:
    calls = Calls()
    thread = make_thread(calls, max_queue=100, num_rows=4 * Work(1, 0).num_rows)
    async with occupied(thread):
        jobs = [later(thread, lambda n=n: n, soon()) for n in range(10)]  # type: ignore[misc]
        await asyncio.sleep(0)
    assert await asyncio.gather(*jobs) == list(range(10))
    assert await thread.submit(Call(lambda: "alone")) == "alone"
    await thread.close()
    assert calls.sizes == [1, 4, 4, 2, 1]


async def test_a_job_over_the_bound_runs_alone_and_in_its_turn() -> None:
    calls, ran = Calls(), list[int]()
    thread = make_thread(calls, num_rows=200)
    async with occupied(thread):
        jobs = [
            asyncio.create_task(
                thread.submit(Call(lambda n=n: ran.append(n), None, num_candidates))  # type: ignore[misc]
            )
            for n, num_candidates in enumerate((10, 1000, 10, 10))
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*jobs)
    await thread.close()
    assert calls.sizes == [1, 1, 1, 2]
    assert ran == [0, 1, 2, 3]


async def test_the_expired_and_the_cancelled_take_no_room_in_a_batch() -> None:
    calls = Calls()
    thread = make_thread(calls, max_queue=100, num_rows=2 * Work(1, 0).num_rows)
    async with occupied(thread):
        kept = [later(thread, lambda: "kept", soon()) for _ in range(2)]
        late = [later(thread, lambda: "late", Deadline(time.monotonic())) for _ in range(3)]
        dropped = [later(thread, lambda: "dropped", soon()) for _ in range(3)]
        kept += [later(thread, lambda: "kept", soon()) for _ in range(2)]
        await asyncio.sleep(0)
        for job in dropped:
            job.cancel()
        await asyncio.wait(dropped)
    assert await asyncio.gather(*kept) == ["kept"] * 4
    assert all(
        isinstance(each, Expired) for each in await asyncio.gather(*late, return_exceptions=True)
    )
    await thread.close()
    assert calls.sizes == [1, 2, 2]


async def test_an_answer_does_not_wait_for_its_batch_mates() -> None:
    calls = Calls()
    thread, block = make_thread(calls), Block()
    async with occupied(thread):
        first, second = later(thread, lambda: "first", soon()), later(thread, block, soon())
        await asyncio.sleep(0)
    with anyio.fail_after(NO_HANG_S):
        assert await first == "first"
        await block.started.wait()
    assert not second.done()
    block.release.set()
    await second
    await thread.close()
    assert calls.sizes == [1, 2]


async def test_a_batch_that_fails_fails_those_without_an_answer_and_the_thread_goes_on() -> None:
    def run(tickets: Sequence[Ticket[Any]]) -> None:
        tickets[0].finish(tickets[0].job.run())  # type: ignore[attr-defined]
        if len(tickets) > 1:
            raise MemoryError

    thread = make_thread(run)
    async with occupied(thread):
        jobs = [later(thread, lambda: "answered", soon()) for _ in range(3)]
        await asyncio.sleep(0)
    first, *others = await asyncio.gather(*jobs, return_exceptions=True)
    assert first == "answered"
    assert all(isinstance(other, MemoryError) for other in others)
    assert await thread.submit(Call(lambda: "next")) == "next"
    await thread.close()


async def test_a_job_that_can_not_tell_its_work_fails_its_caller_alone(
    thread: EngineThread,
) -> None:
    class Broken(Call):
        def work(self) -> Work:
            raise LookupError

    async with occupied(thread):
        job = later(thread, lambda: "served", soon())
        with pytest.raises(LookupError):
            await thread.submit(Broken(lambda: "broken", soon()))
    assert await job == "served"


async def test_a_job_runs_as_much_as_its_time_pays_and_one_that_can_not_tell_fails_alone() -> None:
    asked: list[float] = []

    class Shrinking(Call):
        def within(self, seconds: float, pace: Pace) -> "Shrinking":
            asked.append(seconds)
            assert pace.seconds(self.work()) > 0
            return Shrinking(lambda: "less", self.deadline)

    class Broken(Call):
        def within(self, seconds: float, pace: Pace) -> "Broken":
            raise LookupError(seconds, pace)

    thread = make_thread(Calls(), pace=pace_of(1.0, 1.0))
    async with occupied(thread):
        jobs = [
            asyncio.create_task(thread.submit(kind(lambda: "all", patient())))
            for kind in (Call, Broken, Shrinking)
        ]
        jobs.append(asyncio.create_task(thread.submit(Shrinking(lambda: "the service's own"))))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(outcomes[1], LookupError)
    assert [outcomes[0], *outcomes[2:]] == ["all", "less", "the service's own"]
    before_it = Work(1, 0).num_rows
    assert asked == [pytest.approx(1e6 - before_it, abs=2 * NO_HANG_S)]
    await thread.close()
