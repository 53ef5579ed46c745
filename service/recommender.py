"""Owns a request's way from typed request to typed answer; read `recommend` from top to bottom.

Never parses HTTP and never does arithmetic: the engine thread does, in `service.ranker`.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from service.answer import Answering
from service.backfill import Backfill
from service.background import Background
from service.batch import Work
from service.deadline import Deadline, Ending, Margin
from service.errors import DeadlineExceeded, TooLarge
from service.history_provider import HistoryProvider
from service.job import Place
from service.keys import ANONYMOUS
from service.metrics import Metrics
from service.scheduler import EngineThread
from service.schemas import (
    EventIn,
    EventsRequest,
    EventsResponse,
    ModelInfo,
    RecommendRequest,
    RecommendResponse,
)
from service.serving import Ask, Served, Serving, Size
from service.settings import Settings
from service.shadow import Shadow
from service.states import UserStates
from service.turns import NoTurn, Turn
from service.updates import Offer, Stored, Unstored, Updates

if TYPE_CHECKING:
    from service.otel import Tracing

_log = structlog.get_logger("mfalcon.recommender")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a recommender is made of, put together by the composition root."""

    checkpoint: Checkpoint
    engine: Engine
    thread: EngineThread
    states: UserStates
    provider: HistoryProvider | None
    shadow: Shadow | None
    tracing: "Tracing | None"
    settings: Settings
    metrics: Metrics


class Recommender:
    """One checkpoint, its engine and its states."""

    def __init__(self, parts: Parts) -> None:
        self.checkpoint, self.engine, self.states = parts.checkpoint, parts.engine, parts.states
        self._thread, self._settings, self._metrics = parts.thread, parts.settings, parts.metrics
        self._updates = Updates(parts.checkpoint, parts.thread, parts.states, parts.metrics)
        self._backfill = Backfill(self._updates, parts.provider)
        self.margin, self.batch_margin = Margin(), Margin()
        """Of answers to one request, and to many in one."""
        self._background = Background()
        self._serving = Serving(
            parts.states,
            self._backfill,
            parts.thread,
            parts.metrics,
            self._background,
            config=parts.checkpoint.config,
            min_retrieved=parts.settings.retrieval_candidates,
        )
        self.shadow, self._tracing = parts.shadow, parts.tracing
        self._answering = Answering(parts.checkpoint, parts.engine, parts.metrics)

    @property
    def model(self) -> ModelInfo:
        return self._answering.model

    def enter(self, size: Size, deadline: Deadline, client: str) -> Place:
        """A place in line, for `recommend`; to be left by whoever entered.

        Raises:
            TooLarge: it asks for more than is taken; first, as what it would take counts in line.
            Overloaded, NotReady: such a request can not be answered by the deadline, as far as can
                be told.
        """
        return self._enter(size, deadline, client, self.margin.seconds)

    def require_room(self, size: Size, deadline: Deadline, client: str) -> None:
        """For whom a place in line would be kept, had they come; cheaper.

        Raises:
            TooLarge, Overloaded: as `enter`.
        """
        self._thread.require_room(self._work(size), deadline, client, after_s=self.margin.seconds)

    def _enter(self, size: Size, deadline: Deadline, client: str, after_s: float) -> Place:
        return self._thread.enter(self._work(size), deadline, client, after_s=after_s)

    async def recommend(
        self,
        request: RecommendRequest,
        request_id: str,
        deadline: Deadline,
        client: str,
        ending: Ending,
        place: Place | None = None,
    ) -> RecommendResponse:
        """
        Args:
            ending: of the answer that this is, or is a part of
            place: that the request has in line, if it has entered

        Raises:
            InvalidRequest, TooLarge: the request can not be served as it is; nothing is stored.
            Overloaded, NotReady: not now; nothing is stored.
            DeadlineExceeded: the engine did not answer at all.
        """
        if place is not None:
            return await self._recommend(request, request_id, deadline, client, ending, place)
        # First: what is refused is to cost next to nothing.
        place = self._enter(Size.of(request), deadline, client, ending.seconds)
        try:
            return await self._recommend(request, request_id, deadline, client, ending, place)
        finally:
            place.leave()

    async def _recommend(
        self,
        request: RecommendRequest,
        request_id: str,
        deadline: Deadline,
        client: str,
        ending: Ending,
        place: Place,
    ) -> RecommendResponse:
        began = time.monotonic()
        offer = self._offer(request.events, request.history_mode)
        candidates, missing = self._candidates(request)
        ask = Ask(request, offer, candidates, deadline, client, place, ending)
        try:
            async with self.states.turn(request.user_id, deadline) as turn:
                served = await self._serving.ranked(ask, turn)
                if not served.is_saved and served.has_news:
                    # Answered first, written behind; the user's next request waits for the write.
                    turn.lasts_until(self._write_behind(self._made(request.user_id, served)))
                turn.tell(served.applied.history)
        except NoTurn:
            served = self._unranked(ask)
            await asyncio.sleep(0)  # What it stores is in line before anybody hears of it.
        if self.shadow is not None and served.ranking is not None and request.mode == "ranking":
            self.shadow.offer(request_id, served.ranking, served.job.request_time)
        answer = self._answering.answer(
            request,
            served.job,
            served.ranking,
            served.loaded,
            served.applied.offer,
            request_id=request_id,
            missing_item_ids=list(dict.fromkeys(missing + offer.missing_item_ids)),
            cache_ms=served.cache_s * 1000,
            began_s=began,
        )
        if deadline.expired:
            self._metrics.late.inc()
        if served.ranking is not None:
            ending.ranked(served.ranking.ended_s)
        if self._tracing is not None:
            self._tracing.stages(began, served)
        return answer

    async def add_events(
        self,
        request: EventsRequest,
        request_id: str,
        deadline: Deadline,
        client: str = ANONYMOUS,
    ) -> EventsResponse:
        """Answers once the store holds the events. The deadline decides whether they are taken;
        what is taken is stored.

        Raises:
            InvalidRequest, TooLarge, Overloaded, NotReady: as `recommend`.
            DeadlineExceeded: the user's turn did not come; nothing is stored.
        """
        # What is taken is stored, so it has no place in line: it is the service's own.
        self._thread.enter(Work(len(request.events), 0), deadline, client).leave()
        offer = self._offer(request.events, request.history_mode)
        turn = self.states.turn(request.user_id, deadline)
        try:
            outcome = await self._stored(request.user_id, offer, turn)
        except NoTurn as error:
            raise DeadlineExceeded(
                "earlier requests of this user were not done in time; send the events again"
            ) from error
        return EventsResponse(
            request_id=request_id,
            user_id=request.user_id,
            accepted=outcome.counts.accepted,
            duplicates=outcome.counts.duplicates,
            too_old=outcome.counts.too_old,
            missing_item_ids=offer.missing_item_ids,
            num_events=len(outcome.history),
            stored=outcome.stored,
        )

    def check_batch(self, num_entries: int) -> None:
        """
        Raises:
            TooLarge: more requests in one than are taken.
        """
        limit = self._settings.max_batch_users
        _check_count("requests", num_entries, limit, "max_batch_users")

    async def drain(self) -> None:
        """Wait until every request's state is written, whoever waited for its answer."""
        await self._background.ended()

    async def close(self) -> None:
        """Let go of the history provider and of the oracle."""
        await self._backfill.close()
        if self.shadow is not None:
            await self.shadow.close()

    def _unranked(self, ask: Ask) -> Served:
        """The user's turn did not come: the events are stored when it does."""
        user_id = ask.request.user_id
        loaded, history = self.states.glimpse(user_id)
        applied = self._updates.apply(ask.offer, history)
        if ask.offer.events or ask.offer.replace:
            turn = self.states.turn(user_id)
            turn.tell(applied.history)
            self._write_behind(self._stored(user_id, ask.offer, turn))
        return Served(self._serving.job(ask, loaded, applied), None, loaded, applied, cache_s=0.0)

    async def _stored(self, user_id: str, offer: Offer, turn: Turn) -> Stored:
        """What is held by the user's turn, with the offer. Raises NoTurn."""
        async with turn:
            loaded, applied = await self._serving.held(user_id, offer)
            return await self._updates.store(user_id, loaded, applied)

    async def _made(self, user_id: str, served: Served) -> Stored:
        """What a request that has its turn still started from, with its offer."""
        return await self._updates.store(user_id, served.loaded, served.applied, served.made)

    def _write_behind(self, storing: Coroutine[Any, Any, Stored]) -> asyncio.Task[None]:
        async def write() -> None:
            with self._metrics.stage_seconds.labels("write").time():
                try:
                    await storing
                except Exception as error:
                    # The answer is out; the user's next request finds the old state.
                    self._metrics.unstored.labels(Unstored.ERROR).inc()
                    _log.error("state_not_written", exc_info=error)

        return self._background.start(write())

    def _offer(self, events: Sequence[EventIn], history_mode: str) -> Offer:
        _check_count("events", len(events), self._settings.max_events, "max_events")
        return Offer.of(self.checkpoint, events, replace=history_mode == "replace")

    def _work(self, size: Size) -> Work:
        """Most likely. Raises TooLarge."""
        settings, num_candidates = self._settings, size.num_candidates or 0
        _check_count("events", size.num_events, settings.max_events, "max_events")
        _check_count("candidates", num_candidates, settings.max_candidates, "max_candidates")
        _check_count("num_results", size.num_results, settings.max_results, "max_results")
        if size.beam is not None:
            _check_count("num_results", size.num_results, settings.max_slate, "max_slate")
            _check_count("beam", size.beam, settings.max_beam, "max_beam")
        return self._serving.expected_work(size)

    def _candidates(self, request: RecommendRequest) -> tuple[Tensor | None, list[str]]:
        if request.candidates is None:
            return None, []
        known, missing = self.checkpoint.items.split(request.candidates)
        # Through an array: torch looks at each number of a list, and takes twice as long.
        return torch.from_numpy(np.array(known, dtype=np.int64)), missing


def _check_count(field: str, count: int, limit: int, setting: str) -> None:
    if count > limit:
        raise TooLarge(
            f"{field}: {count} exceeds the limit of {limit}; send fewer, or raise the setting "
            f"{setting} (--{setting.replace('_', '-')})"
        )
