"""Owns changing a user's history: what a request offers, and storing it against other writers.

Never loses an offered event to a race: a writer that loses the compare-and-set reads again and
extends what the winner stored. Never offers events again to a state that has been forgotten since.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from model.checkpoint import Checkpoint
from model.engine.state import UserState
from model.history import EMPTY, Event, History, MergeCounts
from service.errors import InvalidRequest
from service.ranking import ExtendJob
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
class Stored:
    """What became of an offer; `stored` is False if the store did not take it."""

    history: History
    counts: MergeCounts
    stored: bool


class Updates:
    """Applies offers to the states of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, thread: EngineThread, states: UserStates) -> None:
        self._window = checkpoint.config.window
        self._thread, self._states = thread, states

    def apply(self, offer: Offer, held: History) -> tuple[History, MergeCounts]:
        """The history after the offer; `held` itself if nothing changes."""
        base = EMPTY if offer.replace else held
        if offer.past:
            grown, _ = base.merge(offer.past, self._window)
            # What left a window can only be counted from the beginning.
            told, _ = EMPTY.merge([*offer.past, *base.events], self._window)
            base = told if told.num_known > grown.num_known else grown
        return base.merge(offer.events, self._window)

    async def store(
        self, user_id: str, loaded: Loaded, offer: Offer, made: UserState | None = None
    ) -> Stored:
        """Put the offer on top of what the store holds. The caller has the user's turn.

        Args:
            made: the state after the offer, if the engine has made it from `loaded` already.
        """
        history, counts = self.apply(offer, loaded.stored.state.history)
        if offer.lacks_past and loaded.status != "hit":
            # A part would pass for the whole from now on; left alone, the provider is asked again.
            return Stored(history, counts, False)
        if loaded.status == "error":
            # Forgotten or extended meanwhile? What the store holds decides, not what stood in.
            loaded, made = await self._states.load(user_id), None
            if loaded.status == "error":
                return Stored(history, counts, False)
            history, _ = self.apply(offer, loaded.stored.state.history)
        for _ in range(_ATTEMPTS):
            held = loaded.stored
            if history is held.state.history:
                return Stored(history, counts, True)
            state = made
            if state is None:
                job = ExtendJob(state=held.state, history=history)
                state = await self._thread.submit(job)
            won = await self._states.save(user_id, held, state)
            if won is not False:
                return Stored(history, counts, bool(won))
            await asyncio.sleep(random.uniform(0, _PAUSE_S))
            loaded, made = await self._states.load(user_id), None
            if loaded.stored.lineage != held.lineage:
                # The user was forgotten after this request had come, and its events with them.
                return Stored(history, counts, False)
            history, _ = self.apply(offer, loaded.stored.state.history)
        _log.error("state_not_written", reason="other writers were first", attempts=_ATTEMPTS)
        return Stored(history, counts, False)
