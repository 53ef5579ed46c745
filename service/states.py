"""Owns a user's state between requests: load, save, forget, one request of a user at a time.

Never computes. The store is a cache: a failure of it is a miss, told in the answer.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import structlog

from cache import Header, Held, StateStore, StoreFull, StoreUnavailable
from model.engine.state import UserState
from service.codec import StateCodec, StoredState
from service.device_tier import DeviceTier
from service.metrics import Metrics
from service.schemas import Tier

_log = structlog.get_logger("mfalcon.states")
_WARN_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Loaded:
    stored: StoredState
    status: Literal["hit", "miss", "error"]
    tier: Tier | None


class Turn:
    """A user's turn, an async context manager; it may outlast its block by a task."""

    def __init__(self, lock: asyncio.Lock, done: Callable[[], None]) -> None:
        self._lock, self._done = lock, done
        self._task: asyncio.Task[None] | None = None

    def lasts_until(self, task: asyncio.Task[None]) -> None:
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
        if self._task is None:
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


class UserStates:
    """States of one checkpoint: those in use as tensors, all of them in one store."""

    def __init__(
        self,
        store: StateStore,
        codec: StateCodec,
        empty: Callable[[], UserState],
        device: DeviceTier,
        metrics: Metrics,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_full` is called when the store refuses a state for want of memory."""
        self._on_full = on_full
        self._store, self._codec, self._empty, self._metrics = store, codec, empty, metrics
        self._device = device
        self._queues: dict[str, _Queue] = {}
        self._warned_at = -_WARN_EVERY_S

    def turn(self, user_id: str) -> Turn:
        """Requests of one user one after another; of different users side by side."""
        queue = self._queues.setdefault(user_id, _Queue(asyncio.Lock()))
        queue.num_turns += 1

        def done() -> None:
            queue.num_turns -= 1
            if not queue.num_turns:
                del self._queues[user_id]

        return Turn(queue.lock, done)

    async def load(self, user_id: str, timeout_s: float | None = None) -> Loaded:
        """The user's state; an empty one of version 0 on a miss or when the store fails.

        A state held here is used if the store still has its header: another replica may have
        extended it, or somebody may have asked for it to be forgotten. `timeout_s` can only
        shorten the store's own timeout.
        """
        nothing, key = StoredState(self._empty()), self._codec.key(user_id)
        try:
            held = self._device.get(user_id)
            if held is not None:
                if await self._store.head(key, timeout_s=timeout_s) == held.header:
                    return self._count(Loaded(held, "hit", "device"))
                self._device.drop(user_id)
            entry = await self._store.get(key, timeout_s=timeout_s)
        except StoreUnavailable as error:
            self._failed("get", error)
            return self._count(Loaded(nothing, "error", None))
        if entry is None:
            return self._count(Loaded(nothing, "miss", None))
        stored = self._codec.decode(entry)
        if stored is None:
            # Sound bytes that this checkpoint did not write; the next save replaces them.
            return self._count(
                Loaded(StoredState(nothing.state, entry.header.version), "miss", None)
            )
        self._device.put(user_id, stored)
        return self._count(Loaded(stored, "hit", self._tier))

    async def save(self, user_id: str, held: StoredState, state: UserState) -> bool | None:
        """Put `state` in the place of `held`, which it was made from, moving the tail if it grew.

        Compare-and-set: True stored, False another writer was first, None no store.
        """
        try:
            header = await self._write(user_id, held, state)
        except StoreUnavailable as error:
            self._device.drop(user_id)
            self._failed("put", error)
            return None
        if header is None:
            self._device.drop(user_id)
            self._metrics.write_conflicts.inc()
            return False
        self._device.put(user_id, StoredState(state, header.version, header))
        return True

    async def _write(self, user_id: str, held: StoredState, state: UserState) -> Header | None:
        """The header of what is stored now; None if another writer was first."""
        key, append = self._codec.key(user_id), self._codec.append(user_id, held, state)
        if append is not None and await self._store.append(key, append):
            return append.header
        # Nothing to append to: it was evicted, or another writer was first; the version tells.
        entry = self._codec.encode(user_id, state, held.version + 1)
        return entry.header if await self._store.put(key, entry) else None

    async def look(self, user_id: str) -> tuple[Held, list[Tier]] | None:
        """What the store holds, and the tiers that have it. Raises StoreUnavailable."""
        found = await self._store.look(self._codec.key(user_id))
        if found is None:
            return None
        here = self._device.get(user_id)
        is_here = here is not None and here.header == found.header
        return found, ["device", self._tier] if is_here else [self._tier]

    async def forget(self, user_id: str) -> bool:
        """Raises StoreUnavailable."""
        self._device.drop(user_id)
        return await self._store.delete(self._codec.key(user_id))

    async def close(self) -> None:
        await self._store.close()

    @property
    def _tier(self) -> Tier:
        return "redis" if self._store.tier == "redis" else "memory"

    @property
    def tier(self) -> str:
        return self._store.tier

    def _count(self, loaded: Loaded) -> Loaded:
        self._metrics.lookups.labels(tier=loaded.tier or self._tier, status=loaded.status).inc()
        return loaded

    def _failed(self, op: str, error: StoreUnavailable) -> None:
        self._metrics.store_errors.labels(op=op).inc()
        if isinstance(error, StoreFull):
            self._on_full()
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            _log.warning("store_unavailable", op=op, detail=str(error))
