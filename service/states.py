"""Owns a user's state between requests: load, confirm, save, forget.

Never computes. The store is a cache: a failure of it is a miss, told in the answer.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import structlog

from cache import HEADER_BYTES, Header, Held, StateKey, StateStore, StoreFull, StoreUnavailable
from model.engine.state import UserState
from model.history import History
from service.codec import StateCodec, StoredState
from service.cost import CostModel
from service.deadline import Deadline
from service.device_tier import DeviceTier
from service.logs import SeldomWarning
from service.metrics import Metrics
from service.schemas import Tier
from service.turns import Turn, Turns

_log = structlog.get_logger("mfalcon.states")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a request starts from.

    `recomputed`: the store holds something that was not fetched, as encoding is expected to be
    faster. With `error` the store did not answer; a state there is a copy it confirmed lately.
    """

    stored: StoredState
    status: Literal["hit", "miss", "recomputed", "error"]
    tier: Tier | None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a copy was found to be worth; `is_saved` if the state made of it is in its place."""

    loaded: Loaded
    is_saved: bool


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
        turns: Turns | None = None,
    ) -> None:
        """`on_full` is called when the store refuses a state for want of memory. `turns` are those
        of all who write to the store from this process; not given: nobody else does."""
        self._on_full = on_full
        self._store, self._codec, self._empty, self._metrics = store, codec, empty, metrics
        self._device = device
        self.costs = CostModel()
        self._turns = Turns() if turns is None else turns
        self._warn = SeldomWarning(_log, "store_unavailable")

    def turn(self, user_id: str, deadline: Deadline | None = None) -> Turn:
        """Requests of one user one after another; of different users side by side.

        Raises:
            Overloaded: too many of this user's requests are in flight.
        """
        return self._turns.of(user_id, deadline)

    def glimpse(self, user_id: str) -> tuple[Loaded, History]:
        """What is known of a user without a turn and without the store: a copy, if one is here,
        and the history as those in flight know it. Nothing may be made of them."""
        loaded = self.here(user_id) or Loaded(StoredState(self._empty()), "miss", None)
        return loaded, self._turns.told(user_id) or loaded.stored.state.history

    def here(self, user_id: str) -> Loaded | None:
        """The copy of this process, to be confirmed before anybody is told what was made of it."""
        held = self._device.get(user_id)
        return None if held is None else Loaded(held, "hit", "device")

    async def confirm(
        self, user_id: str, here: Loaded, state: UserState | None, timeout_s: float | None = None
    ) -> Confirmed | None:
        """Whether the store holds what the copy `here` says; None: no, `load` what it holds.

        A `state` that was made of the copy and only grew is put in its place in the same round
        trip: the store takes it only if it holds the copy. Where the store does not answer, a copy
        that it confirmed lately stands in. `timeout_s` bounds each of two round trips at most.
        """
        held = here.stored
        try:
            if state is not None and await self._append(user_id, held, state, timeout_s):
                return Confirmed(self._hit(held), is_saved=True)
        except StoreFull as error:
            self._failed("put", error)  # and tells all the same what it holds
        except StoreUnavailable as error:
            self._failed("put", error)
            return self._stood_in(user_id)
        try:
            header = await self._head(self._codec.key(user_id), timeout_s)
        except StoreUnavailable as error:
            self._failed("get", error)
            return self._stood_in(user_id)
        if header == held.header:
            self._device.confirm(user_id)
            return Confirmed(self._hit(held), is_saved=False)
        self._device.drop(user_id)
        if state is not None:
            self._metrics.write_conflicts.inc()
        return None

    def _hit(self, held: StoredState) -> Loaded:
        return self._count(Loaded(held, "hit", "device"), held.state.num_bytes)

    def _stood_in(self, user_id: str) -> Confirmed | None:
        copy = self._stand_in(user_id)
        return None if copy is None else Confirmed(copy, is_saved=False)

    def _stand_in(self, user_id: str) -> Loaded | None:
        """A copy that the store confirmed lately, where it can not be asked."""
        copy = self._device.get_unconfirmed(user_id)
        if copy is None:
            return None
        return self._count(Loaded(copy, "error", "device"), copy.state.num_bytes)

    async def load(
        self, user_id: str, timeout_s: float | None = None, *, num_known: int | None = None
    ) -> Loaded:
        """The user's state; an empty one of version 0 on a miss or when the store fails.

        A state held here is used if the store still has its header: another replica may have
        extended it, or somebody may have asked for it to be forgotten. `timeout_s` can only
        shorten the store's own timeout. `num_known`: the caller knows the whole history, of so
        many events, and can do without the state.
        Without a lineage what is made of it can not be saved.
        """
        nothing, key = self._empty(), self._codec.key(user_id)
        try:
            held = self._device.get(user_id)
            if held is not None:
                if await self._head(key, timeout_s) == held.header:
                    self._device.confirm(user_id)
                    return self._hit(held)
                self._device.drop(user_id)
            if num_known is not None and self.costs.favours_encoding(*self._codec.cost(num_known)):
                # What is written later has to follow the version held.
                header = await self._head(key, timeout_s)
                if header is not None:
                    passed_over = StoredState(nothing, header.version, lineage=header.lineage)
                    return self._count(Loaded(passed_over, "recomputed", None))
            return await self._fetch(user_id, key, timeout_s)
        except StoreFull as error:
            self._failed("put", error)
            return self._count(Loaded(StoredState(nothing), "miss", None))
        except StoreUnavailable as error:
            self._failed("get", error)
            nobody = Loaded(StoredState(nothing), "error", None)
            return self._stand_in(user_id) or self._count(nobody)

    async def _head(self, key: StateKey, timeout_s: float | None) -> Header | None:
        began = time.monotonic()
        with self._timed("head"):
            header = await self._store.head(key, timeout_s=timeout_s)
        self.costs.fetched(0, time.monotonic() - began)
        return header

    async def _fetch(self, user_id: str, key: StateKey, timeout_s: float | None) -> Loaded:
        began = time.monotonic()
        with self._timed("get"):
            found = await self._store.load(key, timeout_s=timeout_s)
        num_bytes = 0 if found.entry is None else found.entry.num_bytes
        stored = None if found.entry is None else self._codec.decode(found.entry)
        self.costs.fetched(num_bytes, time.monotonic() - began)
        self._metrics.state_bytes.labels(self._tier, "out").inc(num_bytes)
        if stored is None:
            # Nothing, or sound bytes that this checkpoint did not write; a save replaces them.
            nothing = StoredState(self._empty(), found.version, lineage=found.lineage)
            return self._count(Loaded(nothing, "miss", None))
        self._keep(user_id, stored)
        return self._count(Loaded(stored, "hit", self._tier))

    async def save(self, user_id: str, held: StoredState, state: UserState) -> bool | None:
        """Put `state` in the place of `held`, which it was made from, moving the tail if it grew.

        Compare-and-set: True stored; False `held` is not what the store holds, another writer was
        first or it is gone; None no store.
        """
        if held.lineage is None:
            return None
        try:
            if await self._append(user_id, held, state):
                return True
            # A tail that is none, or too long to append; whatever else is wrong, `put` finds too.
            entry = self._codec.encode(user_id, state, held.version + 1, held.lineage)
            with self._timed("put"):
                is_put = await self._store.put(self._codec.key(user_id), entry)
        except StoreUnavailable as error:
            self._failed("put", error)
            return None
        if not is_put:
            self._device.drop(user_id)
            self._metrics.write_conflicts.inc()
            return False
        self._wrote(user_id, state, entry.header, entry.num_bytes)
        return True

    def _keep(self, user_id: str, stored: StoredState) -> None:
        if self._device.put(user_id, stored):
            self._metrics.state_bytes.labels("device", "in").inc(stored.state.num_bytes)

    async def _append(
        self, user_id: str, held: StoredState, state: UserState, timeout_s: float | None = None
    ) -> bool:
        """Whether `state` is in the place of `held` now; False: it is no more than a tail away, or
        the store does not hold `held`. Raises StoreUnavailable."""
        append = self._codec.append(user_id, held, state)
        if append is None:
            return False
        key = self._codec.key(user_id)
        with self._timed("append"):
            is_appended = await self._store.append(key, append, timeout_s=timeout_s)
        if not is_appended:
            return False
        self._wrote(user_id, state, append.header, HEADER_BYTES + len(append.data))
        return True

    def _wrote(self, user_id: str, state: UserState, header: Header, num_bytes: int) -> None:
        self._metrics.state_bytes.labels(self._tier, "in").inc(num_bytes)
        self._keep(user_id, StoredState(state, header.version, header, header.lineage))

    async def look(self, user_id: str) -> tuple[Held, list[Tier]] | None:
        """What the store holds, and the tiers that have it. Raises StoreUnavailable."""
        found = await self._store.look(self._codec.key(user_id))
        if found is None:
            return None
        here = self._device.get(user_id)
        is_here = here is not None and here.header == found.header
        return found, ["device", self._tier] if is_here else [self._tier]

    async def forget(self, user_id: str) -> bool:
        """Drop the user's states of all models, in the store; in other replicas they are of no use.

        No write of anybody brings them back. False if there were none. Raises StoreUnavailable,
        when some may be left.
        """
        self._device.drop(user_id)
        self._turns.forget(user_id)
        return await self._store.delete(self._codec.key(user_id))

    @property
    def _tier(self) -> Tier:
        return "redis" if self._store.tier == "redis" else "memory"

    @property
    def tier(self) -> str:
        return self._store.tier

    def _count(self, loaded: Loaded, device_bytes: int = 0) -> Loaded:
        """`device_bytes` were read without a copy."""
        self._metrics.state_bytes.labels("device", "out").inc(device_bytes)
        self._metrics.lookups.labels(tier=loaded.tier or self._tier, status=loaded.status).inc()
        return loaded

    @contextmanager
    def _timed(self, op: str) -> Iterator[None]:
        """Of an operation that is answered: one that fails is counted by `_failed`."""
        began = time.monotonic()
        yield
        self._metrics.store_seconds.labels(self._tier, op).observe(time.monotonic() - began)

    def _failed(self, op: str, error: StoreUnavailable) -> None:
        self._metrics.store_errors.labels(op=op).inc()
        if isinstance(error, StoreFull):
            self._on_full()
        self._warn(op=op, detail=str(error))
