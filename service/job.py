"""Owns what is asked of the engine, and whoever waits for it. Never waits in line and never runs.

A job is asked for with a ticket, which the engine thread settles; the ticket is put in a place,
which may have been kept for it.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from service.batch import Pace, Work
from service.deadline import Deadline

T = TypeVar("T")
A = TypeVar("A")


class Expired(Exception):
    """The deadline passed before the engine got to the job; nothing was run."""


class Job(ABC, Generic[T]):
    """What is asked of the engine; T is what it answers."""

    deadline: Deadline | None  # None: the service's own (write-backs), never refused
    client: str  # who asks; they share the engine fairly

    @abstractmethod
    def work(self) -> Work: ...

    def within(self, seconds: float, pace: Pace) -> Self:
        """The job, or the nearest to it that can be paid in so much time."""
        del seconds, pace
        return self


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
            # By then nobody may wait any more, or they may have been told that the engine hangs.
            if not self.future.done():
                how(what)

        self.is_settled = True
        self.tell(settle, what)


@dataclass(slots=True, eq=False)
class Place:
    """A place in line: of a job, or kept for one that is on its way."""

    work: Work  # as far as can be told
    deadline: Deadline | None
    client: str
    line: "Line"
    after_s: float  # kept from the deadline for what comes after the job
    ticket: Ticket[Any] | None = None

    @property
    def has_job(self) -> bool:
        return self.ticket is not None

    def leave(self) -> None:
        """Give it up, unless its job has had its turn."""
        self.line.leave(self)


class Line(Protocol):
    """Where places are kept."""

    def leave(self, place: Place) -> bool:
        """Whether it was in line still."""
        ...
