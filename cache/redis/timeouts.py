"""Owns bounds on waiting that are no bounds on listening.

Never lets what has arrived go unheard. Where the event loop was held up, timers are due before the
sockets are looked at: a plain timeout would throw an answer away that is there, and hold it against
the server that it had none.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

_NUM_TURNS: Final = 3
"""Of the loop, from when the time is up: one to look at the sockets, one for whoever waits for
what was read, and one for those who called them."""


class Timer:
    """Calls back when the time is up and what had arrived by then is heard, unless cancelled."""

    def __init__(self, timeout_s: float, callback: Callable[[], None]) -> None:
        self._loop, self._callback = asyncio.get_running_loop(), callback
        self._next: asyncio.Handle = self._loop.call_later(timeout_s, self._turn, _NUM_TURNS)

    def cancel(self) -> None:
        self._next.cancel()

    def _turn(self, num_left: int) -> None:
        if num_left:
            self._next = self._loop.call_soon(self._turn, num_left - 1)
        else:
            self._callback()


@asynccontextmanager
async def heard_out(timeout_s: float | None) -> AsyncIterator[None]:
    """As `asyncio.timeout`, with such a timer.

    Raises:
        TimeoutError: nothing had arrived.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        if timeout_s is None:
            yield
            return
        timer = Timer(timeout_s, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()
