"""Owns when the history provider is asked, and what a request's offer becomes by its answer.

Never fails a request: without an answer it is served from what is held, and told so.
"""

import time
from collections import OrderedDict
from dataclasses import replace
from typing import Final

import structlog

from service.history_provider import HistoryProvider, HistoryUnavailable
from service.logs import SeldomWarning
from service.states import Loaded
from service.updates import Applied, Offer, Updates

_VAIN_S: Final = 60.0
_MAX_VAIN: Final = 10_000

_log = structlog.get_logger("mfalcon.history")


class Backfill:
    """Callers have the user's turn, so a user is asked about once at a time."""

    def __init__(self, updates: Updates, provider: HistoryProvider | None) -> None:
        self._updates, self._provider = updates, provider
        self._vain = _Vain()
        self._warn = SeldomWarning(_log, "history_unavailable")

    async def complete(
        self,
        user_id: str,
        loaded: Loaded,
        offer: Offer,
        *,
        history_size: int | None = None,
        timeout_s: float | None = None,
    ) -> Applied:
        """The offer on top of what is held, with the user's past if that is lacking and told.

        It is lacking where the store gave nothing, or less than `history_size` events.
        """
        held = loaded.stored.state.history
        applied = self._updates.apply(offer, held)
        is_short = history_size is not None and history_size > applied.history.num_known
        is_lacking = not offer.replace and (loaded.status != "hit" or is_short)
        if self._provider is None or not is_lacking:
            return applied
        # What is written now would pass for the whole history from now on, so it is asked for anew.
        is_first_write = loaded.status != "hit" and bool(offer.events)
        if not is_first_write and self._vain.has(user_id):
            return applied
        try:
            past = await self._provider.ask(user_id, timeout_s)
        except HistoryUnavailable as error:
            self._warn(detail=str(error))
            return replace(applied, offer=replace(offer, lacks_past=True))
        completed = self._updates.apply(replace(offer, past=past), held)
        if completed.history.num_known == applied.history.num_known:
            self._vain.add(user_id)
        return completed

    async def close(self) -> None:
        if self._provider is not None:
            await self._provider.close()


class _Vain:
    """Users of whom the provider had nothing new to tell lately: above all, new visitors."""

    def __init__(self) -> None:
        self._asked_s: OrderedDict[str, float] = OrderedDict()

    def add(self, user_id: str) -> None:
        self._asked_s[user_id] = time.monotonic()
        self._asked_s.move_to_end(user_id)
        if len(self._asked_s) > _MAX_VAIN:
            self._asked_s.popitem(last=False)

    def has(self, user_id: str) -> bool:
        return time.monotonic() - self._asked_s.get(user_id, -_VAIN_S) < _VAIN_S
