"""Owns states held in this process, least recently used out first. Never blocks, never fails."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cache.header import HEADER_BYTES, Header, new_lineage
from cache.keys import StateKey
from cache.store import BEGUN_S, Append, Entry, Found, Held, follows, require_owner


@dataclass(frozen=True, slots=True)
class _Kept:
    found: Found
    used_at_s: float
    ttl_s: int

    @property
    def expires_at_s(self) -> float:
        return self.used_at_s + self.ttl_s

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
        # Each in order of use, which renews the time to live and so is the order of expiry, too.
        self._begun: OrderedDict[StateKey, _Kept] = OrderedDict()
        self._states: OrderedDict[StateKey, _Kept] = OrderedDict()
        self._num_bytes = 0
        self._evictions = 0

    def __len__(self) -> int:
        return len(self._begun) + len(self._states)

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
        theirs = [one for held in self._both for one in held if one.user_id == key.user_id]
        gone = [self._drop(one) for one in theirs]
        return any(kept.found.entry for kept in gone if kept)

    async def look(self, key: StateKey, *, timeout_s: float | None = None) -> Held | None:
        del timeout_s  # Nothing is waited for.
        self._expire()
        kept = self._states.get(key)
        if kept is None or kept.found.entry is None:
            return None
        ttl_s = math.ceil(kept.expires_at_s - self._clock())
        return Held(key, kept.found.entry.header, ttl_s)

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        for held in self._both:
            held.clear()
        self._num_bytes = 0

    @property
    def _both(self) -> tuple[OrderedDict[StateKey, _Kept], ...]:
        return self._begun, self._states

    def _find(self, key: StateKey) -> Found | None:
        """What is held, its time to live renewed."""
        self._expire()
        kept = self._states.get(key) or self._begun.get(key)
        if kept is None:
            return None
        self._hold(key, kept.found)
        return kept.found

    def _hold(self, key: StateKey, found: Found) -> None:
        """In the place of what is held; others make room, the least recently used first."""
        self._drop(key)
        ttl_s = self._ttl_s if found.entry else min(BEGUN_S, self._ttl_s)
        kept = _Kept(found, self._clock(), ttl_s)
        if kept.num_bytes > self._max_bytes:
            self._evictions += 1
            return
        (self._states if found.entry else self._begun)[key] = kept
        self._num_bytes += kept.num_bytes
        while self._num_bytes > self._max_bytes:
            oldest = [next(iter(held.items())) for held in self._both if held]
            self._drop(min(oldest, key=lambda item: item[1].used_at_s)[0])
            self._evictions += 1

    def _drop(self, key: StateKey) -> _Kept | None:
        kept = self._states.pop(key, None) or self._begun.pop(key, None)
        self._num_bytes -= kept.num_bytes if kept else 0
        return kept

    def _expire(self) -> None:
        now_s = self._clock()
        for held in self._both:
            while held:
                key, kept = next(iter(held.items()))
                if kept.expires_at_s > now_s:
                    break
                self._drop(key)
