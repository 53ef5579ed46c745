"""Owns who is next: requests of one user one after another, of different users side by side."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from model.history import History
from service.deadline import Deadline
from service.errors import Overloaded, Refusal


class NoTurn(Exception):
    """The deadline passed before the user's turn came."""


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock
    num_turns: int = 0
    history: History | None = None


class Turn:
    """A user's turn, an async context manager; it may outlast its block by a task.

    Entering raises NoTurn.
    """

    def __init__(self, queue: _Queue, done: Callable[[], None], deadline: Deadline | None) -> None:
        self._queue, self._done, self._deadline = queue, done, deadline
        self._task: asyncio.Task[Any] | None = None

    def lasts_until(self, task: asyncio.Task[Any]) -> None:
        """End the turn when `task` ends instead of with the block."""
        self._task = task

    def tell(self, history: History) -> None:
        """What is known of the user now, for those whose turn does not come."""
        self._queue.history = history

    async def __aenter__(self) -> Self:
        try:
            await self._acquire()
        except BaseException:
            self._done()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is None or self._task.done():
            self._end()
        else:
            self._task.add_done_callback(lambda _: self._end())

    async def _acquire(self) -> None:
        lock = self._queue.lock
        if self._deadline is None or not lock.locked():
            await lock.acquire()
            return
        try:
            async with asyncio.timeout(self._deadline.remaining_s):
                await lock.acquire()
        except TimeoutError as error:
            raise NoTurn from error

    def _end(self) -> None:
        self._queue.lock.release()
        self._done()


class Turns:
    """For one event loop. A user is known here only while somebody has or waits for a turn."""

    def __init__(self, max_turns: float = math.inf) -> None:
        """`max_turns` of one user at once, the one that is on included."""
        self._max_turns = max_turns
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """Users with turns."""
        return len(self._queues)

    def of(self, user_id: str, deadline: Deadline | None = None) -> Turn:
        """A turn to be entered once; first come, first served.

        Args:
            deadline: by when it has to come; None: the service's own or an operator's, never
                refused.

        Raises:
            Overloaded: too many of this user's requests are in flight.
        """
        queue = self._queues.setdefault(user_id, _Queue(asyncio.Lock()))
        if deadline is not None and queue.num_turns >= self._max_turns:
            raise Overloaded(
                f"{queue.num_turns} requests of this user are in flight; wait for their answers, "
                "or raise the setting max_user_requests (--max-user-requests)",
                reason=Refusal.USER,
                retry_after_s=1,
            )
        queue.num_turns += 1

        def done() -> None:
            queue.num_turns -= 1
            if not queue.num_turns:
                del self._queues[user_id]

        return Turn(queue, done, deadline)

    def told(self, user_id: str) -> History | None:
        """What those in flight told last."""
        queue = self._queues.get(user_id)
        return None if queue is None else queue.history

    def forget(self, user_id: str) -> None:
        """What was told."""
        if queue := self._queues.get(user_id):
            queue.history = None
