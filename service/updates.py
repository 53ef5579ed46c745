"""Owns changing a user's history: what a request offers, and storing it against other writers.

Never loses an offered event to a race: a writer that loses the compare-and-set reads again and
extends what the winner stored. Never offers events again to a state that has been forgotten since.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import EMPTY, Event, History, MergeCounts
from service.errors import InvalidRequest
from service.logs import SeldomWarning
from service.metrics import Metrics
from service.scheduler import EngineThread
from service.schemas import EventIn
from service.states import Loaded, UserStates

_ATTEMPTS = 16
_PAUSE_S = 0.03
"""Up to this long before another try: writers in step would lose to each other again."""

_log = structlog.get_logger("mfalcon.updates")


@dataclass(frozen=True, slots=True)
class Offer:
    """The events of a request, in the checkpoint's indices."""

    events: list[Event]
    replace: bool
    missing_item_ids: list[str]
    past: list[Event] | None = None
    """What the history provider told of the user, in any order; None if it told nothing."""
    lacks_past: bool = False
    """Whether the provider was asked in vain: what is known may be but a part."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, events: Sequence[EventIn], *, replace: bool) -> "Offer":
        """
        Raises:
            InvalidRequest: an action the checkpoint does not know.
        """
        index, actions = checkpoint.items.index, checkpoint.config.action_index
        known: list[Event] = []
        missing: dict[str, None] = {}
        for position, event in enumerate(events):
            if event.action is not None and event.action not in actions:
                raise InvalidRequest(
                    f"events[{position}].action is not an action of this checkpoint; "
                    f"it knows {', '.join(checkpoint.config.actions)}"
                )
            if event.item_id not in index:
                missing[event.item_id] = None
                continue
            action = 0 if event.action is None else actions[event.action]
            known.append(Event(index[event.item_id], action, event.timestamp))
        return cls(known, replace, list(missing))


@dataclass(frozen=True, slots=True)
class Applied:
    """What an offer makes of the history that is held."""

    offer: Offer
    history: History
    counts: MergeCounts


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an offer; `stored` is False if the store did not take it."""

    history: History
    counts: MergeCounts
    stored: bool


class Unstored(StrEnum):
    """Why an offer was not stored."""

    GONE = "gone"
    """What it was made from was deleted or evicted: nobody can tell which."""
    OVERTAKEN = "overtaken"
    """Other writers were first, at every attempt."""
    STORE = "store"
    """The store did not answer, or had no room."""
    HISTORY = "history"
    """The history provider did not answer: a part would pass for the whole from now on, while left
    alone, the provider is asked again."""
    ERROR = "error"
    """Whatever else came in between; the log tells."""


class Updates:
    """Applies offers to the states of one checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        engine: Engine,
        thread: EngineThread,
        states: UserStates,
        metrics: Metrics,
    ) -> None:
        self._window = checkpoint.config.window
        self._engine, self._thread, self._states = engine, thread, states
        self._metrics = metrics
        self._warn_gone = SeldomWarning(_log, "state_not_written")

    def apply(self, offer: Offer, held: History) -> Applied:
        """The history after the offer; `held` itself if nothing changes.

        To be done seldom: it passes over all events, and the event loop stands still.
        """
        base = EMPTY if offer.replace else held
        if offer.past:
            grown, _ = base.merge(offer.past, self._window)
            if base.anchor:
                # What left a window can only be counted from the beginning.
                told, _ = EMPTY.merge([*offer.past, *base.events], self._window)
                grown = told if told.num_known > grown.num_known else grown
            base = grown
        return Applied(offer, *base.merge(offer.events, self._window))

    async def store(
        self, user_id: str, loaded: Loaded, applied: Applied, made: UserState | None = None
    ) -> Stored:
        """Put an offer on top of what the store holds. The caller has the user's turn.

        Args:
            applied: the offer on top of `loaded`.
            made: the state after it, if the engine has made it already.
        """
        history, unstored = await self._store(user_id, loaded, applied, made)
        if unstored is not None:
            self._metrics.unstored.labels(unstored).inc()
        return Stored(history, applied.counts, unstored is None)

    async def _store(
        self, user_id: str, loaded: Loaded, applied: Applied, made: UserState | None
    ) -> tuple[History, Unstored | None]:
        """The history as it is known now, and why it is not stored, if it is not."""
        offer, history = applied.offer, applied.history
        if offer.lacks_past and loaded.status != "hit":
            return history, Unstored.HISTORY
        if loaded.status == "error":
            # Forgotten or extended meanwhile? What the store holds decides, not what stood in.
            loaded, made = await self._states.load(user_id), None
            if loaded.status == "error":
                return history, Unstored.STORE
            history = self.apply(offer, loaded.stored.state.history).history
        for _ in range(_ATTEMPTS):
            held = loaded.stored
            if history is held.state.history:
                return history, None
            state = made or await self._extend(held.state, history)
            won = await self._states.save(user_id, held, state)
            if won is not False:
                return history, None if won else Unstored.STORE
            await asyncio.sleep(random.uniform(0, _PAUSE_S))
            loaded, made = await self._states.load(user_id), None
            if loaded.status == "error":
                return history, Unstored.STORE
            if loaded.stored.lineage != held.lineage:
                # If the user was forgotten after this request had come, so were its events.
                self._warn_gone(reason="the state was deleted or evicted since it was read")
                return history, Unstored.GONE
            history = self.apply(offer, loaded.stored.state.history).history
        _log.error("state_not_written", reason="other writers were first", attempts=_ATTEMPTS)
        return history, Unstored.OVERTAKEN

    async def _extend(self, state: UserState, history: History) -> UserState:
        job = EncodeJob(state, history)
        (encoded,) = await self._thread.submit(lambda: self._engine.encode([job]))
        return encoded.state
