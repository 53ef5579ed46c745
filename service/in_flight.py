"""Owns knowing which requests have begun and not ended. Never knows what they ask."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class _Requests:
    def __init__(self) -> None:
        self.count = 0
        self.none = asyncio.Event()


class InFlight:
    """For one event loop."""

    def __init__(self) -> None:
        self._latest = _Requests()

    @contextmanager
    def request(self) -> Iterator[None]:
        mine = self._latest
        mine.count += 1
        try:
            yield
        finally:
            mine.count -= 1
            if not mine.count:
                mine.none.set()

    async def ended(self) -> None:
        """Wait until every request that has begun by now has ended; later ones are not waited for.
        One at a time calls it."""
        earlier, self._latest = self._latest, _Requests()
        if earlier.count:
            earlier.none.clear()
            await earlier.none.wait()
