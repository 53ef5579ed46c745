"""Owns states held in this process, least recently used out first. Never blocks, never fails."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cache.header import Header
from cache.keys import StateKey
from cache.store import Append, Entry, Held, may_replace, require_owner


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: Entry
    expires_at_s: float


class MemoryStore:
    """A `StateStore` within `max_bytes`, for one event loop.

    Raises ValueError for a `ttl_s` below 1 or a negative `max_bytes`.
    """

    tier = "memory"

    def __init__(
        self, max_bytes: int, ttl_s: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if max_bytes < 0:
            raise ValueError("max_bytes must not be negative")
        if ttl_s < 1:
            raise ValueError("ttl_s must be at least 1")
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        # Every use renews the time to live, so the least recently used is also the next to expire.
        self._held: OrderedDict[StateKey, _Kept] = OrderedDict()
        self._num_bytes = 0
        self._evictions = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def num_bytes(self) -> int:
        """Bytes of all entries held, headers included; never more than `max_bytes`."""
        return self._num_bytes

    @property
    def evictions(self) -> int:
        """Entries dropped for want of space since the start; expiry and deletion do not count."""
        return self._evictions

    async def get(self, key: StateKey, *, timeout_s: float | None = None) -> Entry | None:
        del timeout_s  # Nothing is waited for.
        self._expire()
        held = self._held.get(key)
        if held is None:
            return None
        self._hold(key, held.entry)
        return held.entry

    async def put(self, key: StateKey, entry: Entry, *, timeout_s: float | None = None) -> bool:
        del timeout_s  # Nothing is waited for.
        require_owner(key, entry.header)
        self._expire()
        held = self._held.get(key)
        if not may_replace(held.entry.header if held else None, entry.header):
            return False
        self._drop(key)
        if entry.num_bytes > self._max_bytes:
            self._evictions += 1
            return True
        # bytes() copies a view, whose buffer the caller may reuse, and keeps bytes as they are.
        self._hold(key, Entry(entry.header, bytes(entry.payload)))
        self._num_bytes += entry.num_bytes
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._held)))
            self._evictions += 1
        return True

    async def append(
        self, key: StateKey, append: Append, *, timeout_s: float | None = None
    ) -> bool:
        del timeout_s  # Nothing is waited for.
        require_owner(key, append.header)
        self._expire()
        held = self._held.get(key)
        if held is None or held.entry.header != append.held:
            return False
        payload = b"".join((held.entry.payload, append.data))
        return await self.put(key, Entry(append.header, payload))

    async def head(self, key: StateKey, *, timeout_s: float | None = None) -> Header | None:
        entry = await self.get(key, timeout_s=timeout_s)
        return None if entry is None else entry.header

    async def delete(self, key: StateKey, *, timeout_s: float | None = None) -> bool:
        del timeout_s  # Nothing is waited for.
        self._expire()
        theirs = [held for held in self._held if held.user_id == key.user_id]
        for held in theirs:
            self._drop(held)
        return bool(theirs)

    async def look(self, key: StateKey, *, timeout_s: float | None = None) -> Held | None:
        del timeout_s  # Nothing is waited for.
        self._expire()
        held = self._held.get(key)
        if held is None:
            return None
        return Held(key, held.entry.header, math.ceil(held.expires_at_s - self._clock()))

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        self._held.clear()
        self._num_bytes = 0

    def _hold(self, key: StateKey, entry: Entry) -> None:
        self._held[key] = _Kept(entry, self._clock() + self._ttl_s)
        self._held.move_to_end(key)

    def _drop(self, key: StateKey) -> bool:
        held = self._held.pop(key, None)
        if held is not None:
            self._num_bytes -= held.entry.num_bytes
        return held is not None

    def _expire(self) -> None:
        now_s = self._clock()
        while self._held:
            key, held = next(iter(self._held.items()))
            if held.expires_at_s > now_s:
                return
            self._drop(key)
