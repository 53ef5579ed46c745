"""Owns a request's way from typed request to typed answer; read `recommend` from top to bottom.

Never parses HTTP and never does arithmetic: the engine thread does, in `service.ranker`.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from model.engine.state import UserState
from service.answer import Answering
from service.backfill import Backfill
from service.deadline import Deadline
from service.errors import DeadlineExceeded, TooLarge
from service.history_provider import HistoryProvider
from service.metrics import Metrics
from service.ranking import Ranking, RankJob
from service.scheduler import EngineThread, Expired
from service.schemas import (
    EventIn,
    EventsRequest,
    EventsResponse,
    ModelInfo,
    RecommendRequest,
    RecommendResponse,
)
from service.settings import Settings
from service.states import Confirmed, Loaded, Turn, UserStates
from service.updates import Applied, Offer, Unstored, Updates

_log = structlog.get_logger("mfalcon.recommender")
_GRACE_S = 5.0
"""How long past its deadline a started request may run before it is given up with a 504."""

_LATE_S = 0.005
"""How long the store may take to confirm a copy when the deadline has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a recommender is made of, put together by the composition root."""

    checkpoint: Checkpoint
    engine: Engine
    thread: EngineThread
    states: UserStates
    provider: HistoryProvider | None
    settings: Settings
    metrics: Metrics


class Recommender:
    """One checkpoint, its engine and its states."""

    def __init__(self, parts: Parts) -> None:
        self.checkpoint, self.engine, self.states = parts.checkpoint, parts.engine, parts.states
        self._thread, self._settings, self._metrics = parts.thread, parts.settings, parts.metrics
        self._updates = Updates(parts.checkpoint, parts.thread, parts.states, parts.metrics)
        self._backfill = Backfill(self._updates, parts.provider)
        self._answering = Answering(parts.checkpoint, parts.engine, parts.metrics)
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def model(self) -> ModelInfo:
        return self._answering.model

    async def recommend(
        self, request: RecommendRequest, request_id: str, deadline: Deadline
    ) -> RecommendResponse:
        """
        Raises:
            InvalidRequest, TooLarge: the request can not be served as it is; nothing is stored.
            Overloaded, NotReady: not now; nothing is stored.
            DeadlineExceeded: the engine did not answer at all.
        """
        began = time.monotonic()
        offer = self._offer(request.events, request.history_mode)
        candidates, missing = self._candidates(request)
        ask = _Ask(request, offer, candidates, deadline)
        async with self.states.turn(request.user_id) as turn:
            here = self.states.here(request.user_id)
            served = await self._serve_from(here, ask, turn) if here else None
            if served is None:
                served = await self._serve(ask)
            self._learn_cost(served.ranking)
            loaded, applied = served.loaded, served.applied
            self._count_source(loaded, applied)
            if not served.is_saved and applied.history is not loaded.stored.state.history:
                # Answered first, written behind; the user's next request waits for the write.
                state = None if served.ranking is None else served.ranking.state
                turn.lasts_until(self._write_behind(request.user_id, loaded, applied, state))
        return self._answering.answer(
            request,
            served.job,
            served.ranking,
            loaded,
            applied.offer,
            request_id=request_id,
            missing_item_ids=list(dict.fromkeys(missing + offer.missing_item_ids)),
            cache_ms=served.cache_s * 1000,
            began_s=began,
        )

    async def add_events(self, request: EventsRequest, request_id: str) -> EventsResponse:
        """Answers once the store holds the events.

        Raises:
            InvalidRequest, TooLarge, NotReady: as `recommend`.
        """
        offer = self._offer(request.events, request.history_mode)
        async with self.states.turn(request.user_id):
            loaded, applied = await self._held(request.user_id, offer)
            self._count_source(loaded, applied)
            outcome = await self._updates.store(request.user_id, loaded, applied)
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

    async def drain(self) -> None:
        """Wait until every answered request's state is written."""
        while self._writes:
            await asyncio.wait(self._writes)

    async def close(self) -> None:
        """Let go of the store and of the history provider."""
        await self.states.close()
        await self._backfill.close()

    async def _serve(self, ask: "_Ask") -> "_Served":
        """Rank from what the store holds."""
        began = time.monotonic()
        user_id, deadline, size = ask.request.user_id, ask.deadline, ask.request.history_size
        loaded, applied = await self._held(user_id, ask.offer, deadline, size)
        cache_s = time.monotonic() - began
        job = self._job(ask, loaded, applied)
        return _Served(job, await self._rank(job), loaded, applied, cache_s)

    async def _serve_from(self, here: Loaded, ask: "_Ask", turn: Turn) -> "_Served | None":
        """Rank from a copy at once, and see meanwhile whether the store still holds the same.

        The state is put in its place as soon as it is made, while candidates are scored, so that a
        returning user costs one round trip, which nobody waits for. None: the store holds another.
        """
        began = time.monotonic()
        user_id, deadline, size = ask.request.user_id, ask.deadline, ask.request.history_size
        applied = await self._completed(user_id, here, ask.offer, deadline, size)
        made: asyncio.Future[UserState | None] = asyncio.get_running_loop().create_future()

        def settle(state: UserState | None) -> None:
            if not made.done():
                made.set_result(state)

        job = self._job(ask, here, applied)
        if applied.history is here.stored.state.history:
            settle(None)
        else:
            job = replace(job, on_state=settle)

        async def confirm() -> Confirmed | None:
            state = await made
            timeout_s = max(deadline.remaining_s / 2, _LATE_S)
            return await self.states.confirm(user_id, here, state, timeout_s)

        confirming = asyncio.create_task(confirm())
        turn.lasts_until(confirming)
        cache_s = time.monotonic() - began
        try:
            ranking = await self._rank(job)
        finally:
            settle(None)  # In case the engine never got to it.
        ranked_s = time.monotonic()
        confirmed = await confirming
        if confirmed is None:
            return None
        cache_s += time.monotonic() - ranked_s
        return _Served(job, ranking, confirmed.loaded, applied, cache_s, confirmed.is_saved)

    def _job(self, ask: "_Ask", loaded: Loaded, applied: Applied) -> RankJob:
        request = ask.request
        return RankJob(
            state=loaded.stored.state,
            history=applied.history,
            request_time=_now_s() if request.request_time is None else request.request_time,
            candidates=ask.candidates,
            num_retrieved=max(request.num_results, self._settings.retrieval_candidates),
            exclude_seen=request.exclude_seen,
            deadline=ask.deadline,
            submitted_s=time.monotonic(),
        )

    async def _held(
        self,
        user_id: str,
        offer: Offer,
        deadline: Deadline | None = None,
        history_size: int | None = None,
    ) -> tuple[Loaded, Applied]:
        """What is held of the user, and the offer on top of it and of what else is known."""
        # A history without events is no reason to pass a state over: it has to be written down.
        num_known = len(offer.events) if offer.replace and offer.events else None
        loaded = await self.states.load(user_id, _half_s(deadline), num_known=num_known)
        return loaded, await self._completed(user_id, loaded, offer, deadline, history_size)

    async def _completed(
        self,
        user_id: str,
        loaded: Loaded,
        offer: Offer,
        deadline: Deadline | None,
        history_size: int | None,
    ) -> Applied:
        timeout_s = _half_s(deadline)
        return await self._backfill.complete(
            user_id, loaded, offer, history_size=history_size, timeout_s=timeout_s
        )

    def _count_source(self, loaded: Loaded, applied: Applied) -> None:
        source = loaded.tier or ("recomputed" if loaded.status == "recomputed" else "none")
        self._metrics.sources.labels("provider" if applied.offer.past else source).inc()

    def _learn_cost(self, ranking: Ranking | None) -> None:
        if ranking is not None and ranking.num_encoded:
            count = ranking.num_jobs
            self.states.costs.encoded(ranking.num_rows / count, ranking.encode_ms / 1000 / count)

    async def _rank(self, job: RankJob) -> Ranking | None:
        """None if the deadline passed before the engine was free."""
        try:
            async with asyncio.timeout(job.deadline.remaining_s + _GRACE_S):
                return await self._thread.submit(job)
        except Expired:
            return None
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the engine did not answer within the budget; raise budget_ms or ask again"
            ) from error

    def _write_behind(
        self, user_id: str, loaded: Loaded, applied: Applied, state: UserState | None
    ) -> asyncio.Task[None]:
        async def write() -> None:
            with self._metrics.stage_seconds.labels("write").time():
                try:
                    await self._updates.store(user_id, loaded, applied, state)
                except Exception as error:
                    # The answer is out; the user's next request finds the old state.
                    self._metrics.unstored.labels(Unstored.ERROR).inc()
                    _log.error("state_not_written", exc_info=error)

        task = asyncio.create_task(write())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    def _offer(self, events: Sequence[EventIn], history_mode: str) -> Offer:
        _check_count("events", len(events), self._settings.max_events, "max_events")
        return Offer.of(self.checkpoint, events, replace=history_mode == "replace")

    def _candidates(self, request: RecommendRequest) -> tuple[Tensor | None, list[str]]:
        settings = self._settings
        _check_count("num_results", request.num_results, settings.max_results, "max_results")
        if request.candidates is None:
            return None, []
        count = len(request.candidates)
        _check_count("candidates", count, settings.max_candidates, "max_candidates")
        known, missing = self.checkpoint.items.split(request.candidates)
        # Through an array: torch looks at each number of a list, and takes twice as long.
        return torch.from_numpy(np.array(known, dtype=np.int64)), missing


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request, in the checkpoint's indices."""

    request: RecommendRequest
    offer: Offer
    candidates: Tensor | None
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class _Served:
    """A ranking, None if the engine was not reached in time, and what it started from."""

    job: RankJob
    ranking: Ranking | None
    loaded: Loaded
    applied: Applied
    cache_s: float  # waiting for the store
    is_saved: bool = False


def _half_s(deadline: Deadline | None) -> float | None:
    """Of what is left: whoever hangs leaves the other half to rank in."""
    return None if deadline is None else deadline.remaining_s / 2


def _now_s() -> int:
    return int(time.time())


def _check_count(field: str, count: int, limit: int, setting: str) -> None:
    if count > limit:
        raise TooLarge(
            f"{field}: {count} exceeds the limit of {limit}; send fewer, or raise the setting "
            f"{setting} (--{setting.replace('_', '-')})"
        )
