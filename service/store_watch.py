"""Owns what is said of a Redis store: whether it is there, what it does when full, when it is left
alone. Never stands in a request's way: requests find out for themselves, and are served anyway.
"""

import asyncio

import structlog

from cache import BreakerChange, BreakerState, MemoryPolicy, RedisStore, StoreUnavailable
from service.metrics import Metrics

_log = structlog.get_logger("mfalcon.store")
_LOOK_EVERY_S = 5.0
"""Until the store is there. As long as its breaker's longest pause, so no more than a probe."""


class StoreWatch:
    """Looks at a store until it has answered once, and once more when it is full."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._store: RedisStore | None = None
        self._task: asyncio.Task[None] | None = None
        self._warned = self._looked_when_full = False

    def begin(self, store: RedisStore) -> None:
        self._store = store
        self._metrics.breaker_open.set_function(lambda: store.num_skipped_servers)
        self._task = asyncio.create_task(self._look(store))

    def breaker_changed(self, change: BreakerChange) -> None:
        self._metrics.breaker_changes.labels(change.after.value).inc()
        # Probes that fail are counted, not logged: nothing has changed for anybody.
        if change.before is BreakerState.CLOSED:
            _log.warning("store_left_alone", server=change.server)
        elif change.after is BreakerState.CLOSED:
            _log.info("store_asked_again", server=change.server)

    def is_full(self) -> None:
        """A write was refused for want of memory."""
        is_looking = self._task is not None and not self._task.done()
        if self._store is None or is_looking or self._warned or self._looked_when_full:
            return
        self._looked_when_full = True
        self._task = asyncio.create_task(self._look(self._store))

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self, store: RedisStore) -> None:
        is_absent = False
        while True:
            try:
                policies = await store.memory_policies()
            except StoreUnavailable as error:
                if not is_absent:
                    is_absent = True
                    _log.warning(
                        "store_absent", detail=str(error), instead="served without it until it is"
                    )
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            if is_absent:
                _log.info("store_found")
            self._warn_of(policies)
            return

    def _warn_of(self, policies: dict[str, MemoryPolicy]) -> None:
        stuck = {server: policy for server, policy in policies.items() if not policy.evicts}
        if stuck and not self._warned:
            self._warned = True
            _log.warning(
                "store_never_evicts",
                servers=sorted(stuck),
                maxmemory=[stuck[server].max_bytes for server in sorted(stuck)],
                detail="maxmemory-policy is noeviction: once full, it refuses every new state; "
                "set maxmemory-policy allkeys-lru, and maxmemory to what the machine can spare",
            )
