"""Owns states held in this process, least recently used out first. Never blocks, never fails."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cache.header import HEADER_BYTES, Header, new_lineage
from cache.keys import StateKey
from cache.store import Append, Entry, Found, Held, follows, require_owner


@dataclass(frozen=True, slots=True)
class _Kept:
    found: Found
    expires_at_s: float

    @property
    def num_bytes(self) -> int:
        """A key that is only begun counts as the header it has room for."""
        return self.found.entry.num_bytes if self.found.entry else HEADER_BYTES


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
        """Bytes of all that is held, headers included; never more than `max_bytes`."""
        return self._num_bytes

    @property
    def evictions(self) -> int:
        """Entries dropped for want of space since the start; expiry and deletion do not count."""
        return self._evictions

    async def get(self, key: StateKey, *, timeout_s: float | None = None) -> Entry | None:
        del timeout_s  # Nothing is waited for.
        found = self._find(key)
        return None if found is None else found.entry

    async def load(
        self,
        key: StateKey,
        *,
        timeout_s: float | None = None,
        draw: Callable[[], bytes] = new_lineage,
    ) -> Found:
        del timeout_s  # Nothing is waited for.
        found = self._find(key)
        if found is None:
            found = Found(draw())
            self._hold(key, found)
        return found

    async def put(self, key: StateKey, entry: Entry, *, timeout_s: float | None = None) -> bool:
        del timeout_s  # Nothing is waited for.
        require_owner(key, entry.header)
        found = self._find(key)
        if found is None or not follows(entry.header, found.lineage, found.version):
            return False
        # bytes() copies a view, whose buffer the caller may reuse, and keeps bytes as they are.
        self._hold(key, Found(found.lineage, Entry(entry.header, bytes(entry.payload))))
        return True

    async def append(
        self, key: StateKey, append: Append, *, timeout_s: float | None = None
    ) -> bool:
        del timeout_s  # Nothing is waited for.
        require_owner(key, append.header)
        found = self._find(key)
        if found is None or found.entry is None or found.entry.header != append.held:
            return False
        payload = b"".join((found.entry.payload, append.data))
        return await self.put(key, Entry(append.header, payload))

    async def head(self, key: StateKey, *, timeout_s: float | None = None) -> Header | None:
        entry = await self.get(key, timeout_s=timeout_s)
        return None if entry is None else entry.header

    async def delete(self, key: StateKey, *, timeout_s: float | None = None) -> bool:
        del timeout_s  # Nothing is waited for.
        self._expire()
        theirs = [held for held in self._held if held.user_id == key.user_id]
        gone = [self._drop(held) for held in theirs]
        return any(held.found.entry for held in gone)

    async def look(self, key: StateKey, *, timeout_s: float | None = None) -> Held | None:
        del timeout_s  # Nothing is waited for.
        self._expire()
        held = self._held.get(key)
        if held is None or held.found.entry is None:
            return None
        ttl_s = math.ceil(held.expires_at_s - self._clock())
        return Held(key, held.found.entry.header, ttl_s)

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        self._held.clear()
        self._num_bytes = 0

    def _find(self, key: StateKey) -> Found | None:
        """What is held, its time to live renewed."""
        self._expire()
        held = self._held.get(key)
        if held is None:
            return None
        self._held[key] = _Kept(held.found, self._clock() + self._ttl_s)
        self._held.move_to_end(key)
        return held.found

    def _hold(self, key: StateKey, found: Found) -> None:
        """In the place of what is held; others make room, the least recently used first."""
        if key in self._held:
            self._drop(key)
        held = _Kept(found, self._clock() + self._ttl_s)
        if held.num_bytes > self._max_bytes:
            self._evictions += 1
            return
        self._held[key] = held
        self._num_bytes += held.num_bytes
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._held)))
            self._evictions += 1

    def _drop(self, key: StateKey) -> _Kept:
        held = self._held.pop(key)
        self._num_bytes -= held.num_bytes
        return held

    def _expire(self) -> None:
        now_s = self._clock()
        while self._held:
            key, held = next(iter(self._held.items()))
            if held.expires_at_s > now_s:
                return
            self._drop(key)
