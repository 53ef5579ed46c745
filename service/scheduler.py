"""Owns the one engine thread and the bounded queue before it.

Never runs two jobs at once, and never dies of a job: an exception goes to its caller. Work that
nobody waits for any more, or that is past its deadline, is dropped when its turn comes.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from service.deadline import Deadline
from service.errors import NotReady, Overloaded

T = TypeVar("T")
_SMOOTHING = 0.1


class Expired(Exception):
    """The deadline passed before the engine got to the job; nothing was run."""


@dataclass(slots=True)
class _Job:
    run: Callable[[], Any]
    deadline: Deadline | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class EngineThread:
    """First in, first out. Call `submit` from an event loop."""

    def __init__(self, *, max_queue: int) -> None:
        self._max_queue = max_queue
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._job_seconds = 0.005
        self._thread = threading.Thread(target=self._loop, name="mfalcon-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Jobs waiting."""
        return len(self._jobs)

    async def submit(self, run: Callable[[], T], deadline: Deadline | None = None) -> T:
        """Run on the engine thread and return what it returns.

        Jobs without a deadline are the service's own (write-backs); they are not refused.

        Raises:
            Overloaded: the queue is full.
            Expired: the deadline passed while the job waited.
            NotReady: the thread is stopping or dead.
        """
        loop = asyncio.get_running_loop()
        job = _Job(run, deadline, loop.create_future(), loop)
        with self._wake:
            if self._closing or not self.alive:
                raise NotReady("the engine is stopped", retry_after_s=1)
            if deadline is not None and len(self._jobs) >= self._max_queue:
                wait_s = max(1, round(len(self._jobs) * self._job_seconds))
                raise Overloaded(
                    f"{len(self._jobs)} of {self._max_queue} requests are waiting",
                    retry_after_s=wait_s,
                )
            self._jobs.append(job)
            self._wake.notify()
        result: T = await job.future
        return result

    async def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._closing:
                    self._wake.wait()
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            if not job.future.cancelled():
                self._run(job)

    def _run(self, job: _Job) -> None:
        start = time.monotonic()
        outcome: Any = None
        error: Exception | None = None
        if job.deadline is not None and job.deadline.expired:
            error = Expired()
        else:
            try:
                outcome = job.run()
            except StopIteration as failure:  # a future refuses to carry it
                error = RuntimeError("a job raised StopIteration")
                error.__cause__ = failure
            except Exception as failure:
                error = failure
            took = time.monotonic() - start
            self._job_seconds += _SMOOTHING * (took - self._job_seconds)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            job.loop.call_soon_threadsafe(_settle, job.future, outcome, error)


def _settle(future: asyncio.Future[Any], outcome: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)
