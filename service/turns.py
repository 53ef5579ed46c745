"""Owns who is next: requests of one user one after another, of different users side by side."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self


class Turn:
    """A user's turn, an async context manager; it may outlast its block by a task."""

    def __init__(self, lock: asyncio.Lock, done: Callable[[], None]) -> None:
        self._lock, self._done = lock, done
        self._task: asyncio.Task[Any] | None = None

    def lasts_until(self, task: asyncio.Task[Any]) -> None:
        """End the turn when `task` ends instead of with the block."""
        self._task = task

    async def __aenter__(self) -> Self:
        try:
            await self._lock.acquire()
        except BaseException:
            self._done()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is None or self._task.done():
            self._end()
        else:
            self._task.add_done_callback(lambda _: self._end())

    def _end(self) -> None:
        self._lock.release()
        self._done()


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock
    num_turns: int = 0


class Turns:
    """For one event loop. A user is known here only while somebody has or waits for a turn."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """Users with turns."""
        return len(self._queues)

    def of(self, user_id: str) -> Turn:
        """A turn to be entered once; first come, first served."""
        queue = self._queues.setdefault(user_id, _Queue(asyncio.Lock()))
        queue.num_turns += 1

        def done() -> None:
            queue.num_turns -= 1
            if not queue.num_turns:
                del self._queues[user_id]

        return Turn(queue.lock, done)
