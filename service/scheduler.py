"""Owns the one engine thread and the bounded queue before it.

Never runs two batches at once, and never dies of a job: an exception goes to its caller. Should it
die or hang all the same, nobody is left waiting. Work that nobody waits for any more, or that is
past its deadline, leaves the queue. What would wait until too little of its budget is left is
refused: those ahead of it are told by their work and the pace.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import structlog

from service.batch import Batch, Bounds, Pace, Work
from service.deadline import Deadline
from service.errors import NotReady, Overloaded, Refusal
from service.fair_queue import FairQueue
from service.job import Expired, Job, Place, Ticket
from service.lateness import late_s

_log = structlog.get_logger("mfalcon.engine")

_NICENESS: Final = 5
"""Of the engine thread, where threads have a priority of their own. Where cores are short, answers
and refusals are to leave while it works: each takes little, and each is waited for."""

_LAST_S: Final = 0.5
"""Of a thread that has ended its work, until it is gone."""

T = TypeVar("T")


class EngineThread:
    """In fair order, several jobs at a time. Call `submit` from an event loop."""

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
        self._queue = FairQueue[Place]()
        self._free_s = 0.0  # time.monotonic() when they are expected to be done
        self._wake = threading.Condition()  # its lock is entered again by whoever holds it
        self._taken: list[Ticket[Any]] = []
        self._closing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="mfalcon-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Not if it hangs, either."""
        return not self._ended.is_set()

    @property
    def batch(self) -> object | None:
        """The one that is running; the same object from its beginning to its end."""
        return self._taken or None

    @property
    def depth(self) -> int:
        """Jobs waiting."""
        with self._wake:
            return sum(place.has_job for place in self._queue)

    def wait_s(self, client: str) -> float:
        """How long a job of the client that came now is expected to wait."""
        with self._wake:
            return self._wait_s(client)

    def enter(
        self, work: Work, deadline: Deadline | None, client: str, *, after_s: float = 0.0
    ) -> Place:
        """A place in line for a job that is on its way: those who come after it are told by it as
        well, or all that arrive while the first are on their way would be let in.

        Args:
            after_s: from the end of the job until its answer is out, most likely

        Raises:
            Overloaded: such a job of the client would wait too long to be run in two thirds of the
                time it has, or, if it takes more than three quarters of that, to have those. Or the
                queue is full, and this job is the furthest beyond its client's share.
            NotReady: the thread is stopping or dead.
        """
        place = Place(work, deadline, client, self, after_s)
        with self._wake:
            self._require_life()
            self._require_time(work, deadline, after_s, self._wait_s(client))
            if deadline is not None and len(self._queue) >= self._max_queue:
                self._make_room(client)
            self._queue.put(place, client, self._pace.seconds(work))
        return place

    def require_room(
        self, work: Work, deadline: Deadline, client: str, *, after_s: float = 0.0
    ) -> None:
        """Ask whether `enter` would refuse such a job for want of time, and keep it no place.

        Raises:
            Overloaded: it would.
        """
        with self._wake:
            self._require_time(work, deadline, after_s, self._wait_s(client))

    async def submit(self, job: Job[T], place: Place | None = None) -> T:
        """Run on the engine thread and return what it returns.

        Args:
            place: that was kept for the job, if there is one

        Raises:
            Overloaded: there is no room; see `enter`. Or the queue is full, and one that came later
                is not as far beyond its client's share.
            Expired: the deadline passed while the job waited.
            NotReady: the thread is stopping or dead.
        """
        ticket = Ticket(job)
        with self._wake:
            if place is None or place not in self._queue:
                place = self.enter(ticket.work, job.deadline, job.client)
            else:
                self._fit(place, ticket.work)
            place.ticket = ticket
            self._wake.notify()
        expiry = None
        if job.deadline is not None:
            loop = asyncio.get_running_loop()
            expiry = loop.call_later(job.deadline.remaining_s, self._expire, place)
        try:
            return await ticket.future
        finally:
            if expiry is not None:
                expiry.cancel()
            if ticket.is_given_up:
                self.leave(place)
            # An exception holds who passed it on; they are not to hold the exception.
            place.ticket = None
            del ticket

    def leave(self, place: Place) -> bool:
        """Whether it was in line still."""
        with self._wake:
            return self._queue.remove(place)

    async def close(self) -> None:
        """Finish what is queued, then stop. By then the thread is gone, or it hangs."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._ended.wait)
        await asyncio.to_thread(self._thread.join, _LAST_S)

    def give_up(self) -> None:
        """It hangs. Whoever waits for it is told so; whatever it may come back with is late."""
        _log.critical("engine_hangs", detail="replace the process; see engine_stall_s")
        self._end()

    @property
    def _first(self) -> Place | None:
        """Passing over those whose job is on its way."""
        return self._queue.first(lambda place: place.has_job)

    @property
    def _rest_s(self) -> float:
        """Of those who have their turn."""
        is_running = not all(ticket.is_settled for ticket in self._taken)
        return max(0.0, self._free_s - time.monotonic()) if is_running else 0.0

    def _wait_s(self, client: str) -> float:
        return self._rest_s + self._queue.ahead_s(client)

    def _fit(self, place: Place, work: Work) -> None:
        """The job is here, and what it takes is known."""
        self._require_life()
        place.work = work
        self._queue.weigh(place, self._pace.seconds(work))
        try:
            wait_s = self._rest_s + self._queue.before_s(place)
            self._require_time(work, place.deadline, place.after_s, wait_s)
        except Overloaded:
            self._queue.remove(place)
            raise

    def _require_life(self) -> None:
        if self._closing or self._ended.is_set():
            raise NotReady("the engine has stopped", retry_after_s=1)

    def _require_time(
        self, work: Work, deadline: Deadline | None, after_s: float, wait_s: float
    ) -> None:
        left_s = 0.0 if deadline is None else deadline.remaining_s
        beyond_s = late_s(wait_s, self._pace.seconds(work), left_s, after_s)
        if beyond_s > 0:
            raise Overloaded(
                "those who wait for the engine leave too little of the request's budget",
                reason=Refusal.LATE,
                retry_after_s=math.ceil(beyond_s),
            )

    def _make_room(self, client: str) -> None:
        """Refuse whoever is the furthest beyond their share."""
        error = Overloaded(
            f"{len(self._queue)} of {self._max_queue} requests are waiting",
            reason=Refusal.FULL,
            retry_after_s=max(1, math.ceil(self._wait_s(client))),
        )
        last = self._queue.last_after(client)
        if last is None or last.deadline is None:
            raise error
        self._queue.remove(last)
        if last.ticket is not None:
            last.ticket.fail(error)

    def _expire(self, place: Place) -> None:
        if self.leave(place) and place.ticket is not None and not place.ticket.is_given_up:
            place.ticket.future.set_exception(Expired())

    def _live(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            while self._wait():
                self._take()
                self._run_together(self._taken)
                self._taken = []
        except BaseException as error:  # the least of them is a reason to replace the process
            _log.critical("engine_died", exc_info=error)
        self._end()

    def _end(self) -> None:
        with self._wake:
            waiting = (place.ticket for place in self._queue if place.ticket is not None)
            left = [*self._taken, *waiting]
            self._taken = []
            self._queue.clear()
            self._ended.set()
        for ticket in left:
            if not ticket.is_settled:
                ticket.fail(NotReady("the engine has died", retry_after_s=1))

    def _wait(self) -> bool:
        """Whether there is a job; False: there will be none any more."""
        with self._wake:
            while True:
                if self._first is not None:
                    return True
                if self._closing or self._ended.is_set():
                    return False
                self._wake.wait()

    def _take(self) -> None:
        """The next batch off the queue; nothing if nobody waits any more."""
        now_s = time.monotonic()
        batch = Batch(self._bounds, self._pace, now_s)
        with self._wake:
            while place := self._first:
                assert place.ticket is not None
                try:
                    if not self._joins(place.ticket, batch):
                        break
                except Exception as error:
                    place.ticket.fail(error)
                self._queue.take(place)
            self._free_s = now_s + batch.seconds

    def _joins(self, ticket: Ticket[Any], batch: Batch) -> bool:
        """Put a ticket into the batch, as much of it as its time pays, or drop it; False: it is to
        wait for the next."""
        deadline = ticket.job.deadline
        if ticket.is_given_up:
            return True
        if deadline is None:
            fitted = ticket.job
        elif deadline.expired:
            ticket.fail(Expired())
            return True
        else:
            fitted = ticket.job.within(deadline.remaining_s - batch.seconds, self._pace)
        work = ticket.work if fitted is ticket.job else fitted.work()
        if not batch.admits(work, deadline):
            return False
        ticket.job, ticket.work = fitted, work
        self._taken.append(ticket)
        return True

    def _run_together(self, tickets: list[Ticket[Any]]) -> None:
        if not tickets:
            return
        try:
            self._run(tickets)
        except Exception as error:
            for ticket in tickets:
                if not ticket.is_settled:
                    ticket.fail(error)
