"""Owns the one engine thread and the bounded queue before it.

Never runs two batches at once, and never dies of a job: an exception goes to its caller. Should it
die all the same, nobody is left waiting. Work that nobody waits for any more, or that is past its
deadline, is dropped when its turn comes.
"""

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import structlog

from service.batch import Batch, Bounds, Pace, Work
from service.deadline import Deadline
from service.errors import NotReady, Overloaded

_log = structlog.get_logger("mfalcon.engine")

T = TypeVar("T")
A = TypeVar("A")


class Expired(Exception):
    """The deadline passed before the engine got to the job; nothing was run."""


class Job(ABC, Generic[T]):
    """What is asked of the engine; T is what it answers."""

    deadline: Deadline | None  # None: the service's own (write-backs), never refused

    @abstractmethod
    def work(self) -> Work: ...


class Ticket(Generic[T]):
    """A job and whoever waits for it. The engine thread settles it, once."""

    def __init__(self, job: Job[T]) -> None:
        self.job, self.work = job, job.work()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        self.is_settled = False

    @property
    def is_given_up(self) -> bool:
        """Nobody waits any more."""
        return self.future.cancelled()

    def tell(self, listener: Callable[[A], None], what: A) -> None:
        """On the way, from the engine thread; the listener is called on the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(listener, what)

    def finish(self, outcome: T) -> None:
        self._settle(self.future.set_result, outcome)

    def fail(self, error: Exception) -> None:
        if isinstance(error, StopIteration):  # a future refuses to carry it
            told = RuntimeError("a job raised StopIteration")
            told.__cause__ = error
            error = told
        self._settle(self.future.set_exception, error)

    def _settle(self, how: Callable[[A], None], what: A) -> None:
        def settle(what: A) -> None:
            if not self.is_given_up:
                how(what)

        self.is_settled = True
        self.tell(settle, what)


class EngineThread:
    """First in, first out, several jobs at a time. Call `submit` from an event loop."""

    def __init__(
        self,
        run: Callable[[Sequence[Ticket[Any]]], None],
        *,
        bounds: Bounds,
        pace: Pace,
        max_queue: int,
    ) -> None:
        """`run` runs jobs together and settles each as soon as it is done."""
        self._run, self._bounds, self._pace, self._max_queue = run, bounds, pace, max_queue
        self._queue: deque[Ticket[Any]] = deque()
        self._wake = threading.Condition()
        self._taken: list[Ticket[Any]] = []
        self._closing = self._has_ended = False
        self._thread = threading.Thread(target=self._live, name="mfalcon-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self._has_ended

    @property
    def depth(self) -> int:
        """Jobs waiting."""
        return len(self._queue)

    async def submit(self, job: Job[T]) -> T:
        """Run on the engine thread and return what it returns.

        Raises:
            Overloaded: the queue is full.
            Expired: the deadline passed while the job waited.
            NotReady: the thread is stopping or dead.
        """
        ticket = Ticket(job)
        with self._wake:
            if self._closing or self._has_ended:
                raise NotReady("the engine has stopped", retry_after_s=1)
            if job.deadline is not None and len(self._queue) >= self._max_queue:
                wait_s = self._pace.row_s * sum(waiting.work.num_rows for waiting in self._queue)
                raise Overloaded(
                    f"{len(self._queue)} of {self._max_queue} requests are waiting",
                    retry_after_s=max(1, round(wait_s)),
                )
            self._queue.append(ticket)
            self._wake.notify()
        return await ticket.future

    async def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _live(self) -> None:
        try:
            while self._wait():
                self._take()
                self._run_together(self._taken)
                self._taken = []
        except BaseException as error:  # the least of them is a reason to replace the process
            _log.critical("engine_died", exc_info=error)
        with self._wake:
            self._has_ended = True
        for ticket in (*self._taken, *self._queue):
            if not ticket.is_settled:
                ticket.fail(NotReady("the engine has died", retry_after_s=1))
        self._taken.clear()
        self._queue.clear()

    def _wait(self) -> bool:
        """Whether there is a job; False: there will be none any more."""
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            return bool(self._queue)

    def _take(self) -> None:
        """The next batch off the queue; nothing if nobody waits any more."""
        batch = Batch(self._bounds, self._pace, time.monotonic())
        with self._wake:
            while self._queue:
                ticket = self._queue[0]
                deadline = ticket.job.deadline
                if not ticket.is_given_up:
                    if deadline is not None and deadline.expired:
                        ticket.fail(Expired())
                    elif batch.admits(ticket.work, deadline):
                        self._taken.append(ticket)
                    else:
                        break
                self._queue.popleft()

    def _run_together(self, tickets: list[Ticket[Any]]) -> None:
        if not tickets:
            return
        try:
            self._run(tickets)
        except Exception as error:
            for ticket in tickets:
                if not ticket.is_settled:
                    ticket.fail(error)
