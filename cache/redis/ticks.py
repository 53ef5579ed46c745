"""Owns how long the event loop has let anybody be heard. Never knows what is waited for.

While the loop is held up, a server's answer lies where nobody looks, and timers are due all the
same. Time told in ticks leaves that out: however long the loop stood still, it was one tick.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Ticks:
    """For one event loop. Counts only while somebody waits."""

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._num_waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        self._num_waiting += 1
        if self._timer is None:
            self._begin()
        try:
            yield
        finally:
            self._num_waiting -= 1

    def _begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self.count += 1
        self._timer = None
        if self._num_waiting:
            self._begin()
