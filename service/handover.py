"""Owns a change of model: users of an old checkpoint encoded for a new one before it has traffic.

Never runs the old model: its states tell the events. Never renews an old state's time to live, and
what it writes lives no longer than what it was made from: a warmed user has not come back.
"""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

from cache import Dtype, RedisStore
from model.checkpoint import Checkpoint
from model.config import NO_ACTION, Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.history import Event, History
from model.kernels.pages import PagePool
from service.codec import StateCodec

_ATTEMPTS = 3
"""A state that changes between reading and writing is its user's, who is there just now."""


class Outcome(StrEnum):
    """What became of a user."""

    WARMED = "warmed"
    PRESENT = "the new checkpoint has a state of them"
    UNKNOWN = "no event of an item that the new checkpoint knows"
    GONE = "expired, forgotten or damaged"
    BUSY = "changed at every attempt"


@dataclass(slots=True)
class Survey:
    """What the store holds of one model. `others` counts the states of other models, by hex."""

    users: list[str] = field(default_factory=list)  # most recently used first
    num_states: int = 0
    others: Counter[str] = field(default_factory=Counter)
    complete: bool = True


async def survey(
    store: RedisStore, fingerprint: bytes, *, max_users: int, max_scanned: int
) -> Survey:
    """The `max_users` hottest users among the first `max_scanned` states of the store.

    Each use renews the time to live, so what is left of it tells. Raises StoreUnavailable.
    """
    found, hottest, num_scanned = Survey(), list[tuple[int, str]](), 0
    async with aclosing(store.scan()) as states:
        async for held in states:
            if num_scanned == max_scanned:
                found.complete = False
                break
            num_scanned += 1
            if held.key.fingerprint != fingerprint:
                found.others[held.key.fingerprint.hex()] += 1
            elif held.ttl_s is not None:
                found.num_states += 1
                push = heapq.heappush if len(hottest) < max_users else heapq.heappushpop
                push(hottest, (held.ttl_s, held.key.user_id))
    found.users = [user_id for _, user_id in sorted(hottest, reverse=True)]
    return found


@dataclass(frozen=True, slots=True)
class Translated:
    """A history as the new checkpoint would hold it, and what it does not know of it."""

    history: History
    unknown_items: int  # events left out
    unknown_actions: int  # events that lost their action


class Translation:
    """Events in an old checkpoint's indices to those of a new one, by item id and action name."""

    def __init__(self, old: Checkpoint, new: Checkpoint) -> None:
        index, actions = new.items.index, new.config.action_index
        self._items = [index.get(item_id) for item_id in old.items.ids]
        self._actions = [NO_ACTION, *(actions.get(name, NO_ACTION) for name in old.config.actions)]
        self._window = new.config.window

    def of(self, history: History) -> Translated:
        known: list[Event] = []
        unknown_actions = 0
        for event in history.events:
            item, action = self._items[event.item], self._actions[event.action]
            if item is not None:
                unknown_actions += event.action != NO_ACTION and action == NO_ACTION
                known.append(Event(item, action, event.timestamp))
        # Events that differed only in an action may have become the same.
        placed = _in_window(list(dict.fromkeys(known)), history.anchor, self._window)
        return Translated(placed, len(history) - len(known), unknown_actions)


def _in_window(events: list[Event], anchor: int, window: Window) -> History:
    """What the new checkpoint would hold, had it seen these events and the `anchor` before them.

    Where its window reaches back to those before, which are gone, these are all there are: a
    caller who tells `history_size` then learns that some are missing.
    """
    before = anchor if window.start(anchor + len(events)) >= anchor else 0
    start = window.start(before + len(events))
    return History.of(events[start - before :], anchor=start)


@dataclass(slots=True)
class Report:
    """What became of the users, and of the events of those who were warmed."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    events: int = 0
    unknown_items: int = 0
    unknown_actions: int = 0

    def add(self, translated: Translated) -> None:
        self.events += len(translated.history)
        self.unknown_items += translated.unknown_items
        self.unknown_actions += translated.unknown_actions


class Handover:
    """From one checkpoint to another within one store."""

    def __init__(
        self, old: Checkpoint, new: Checkpoint, engine: Engine, store: RedisStore, dtype: Dtype
    ) -> None:
        """`engine` runs the new checkpoint, whose states are written in `dtype`."""
        self._engine, self._store = engine, store
        self._translation = Translation(old, new)
        self._old = StateCodec(old.config, old.digests().fingerprint, PagePool(old.config))
        self._new = StateCodec(new.config, new.digests().fingerprint, engine.pool, dtype)
        self.report = Report()

    async def run(
        self,
        users: Sequence[str],
        users_per_second: float,
        on_user: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """Warm them in this order; `on_user(done)` after each. Raises StoreUnavailable.

        Stopped anywhere, what is done is done, and another run goes on with the others.
        """
        for done, user_id in enumerate(users, start=1):
            began_s = time.monotonic()
            outcome = await self.warm(user_id)
            self.report.outcomes[outcome] += 1
            on_user(done)
            if outcome is Outcome.WARMED:
                await asyncio.sleep(began_s + 1 / users_per_second - time.monotonic())

    async def warm(self, user_id: str) -> Outcome:
        """Encode the user for the new checkpoint, if that has no state of them."""
        source, key = self._old.key(user_id), self._new.key(user_id)
        for _ in range(_ATTEMPTS):
            if await self._store.look(key) is not None:
                return Outcome.PRESENT
            held = await self._store.peek(source)
            stored = self._old.decode(held[0]) if held else None
            if held is None or stored is None:
                return Outcome.GONE
            translated = self._translation.of(stored.state.history)
            if not len(translated.history):
                return Outcome.UNKNOWN
            job = EncodeJob(self._engine.empty_state(), translated.history)
            (encoded,) = self._engine.encode([job])
            begun = await self._store.load(key)
            entry = self._new.encode(user_id, encoded.state, begun.version + 1, begun.lineage)
            if begun.entry is None and await self._store.derive(
                key, entry, held[0].header, ttl_s=held[1]
            ):
                self.report.add(translated)
                return Outcome.WARMED
        return Outcome.BUSY
