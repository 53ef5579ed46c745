"""Owns how a request comes to its ranking: from which state, in which order, within which time.

Never translates ids and never makes answers.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from model.config import HSTUConfig
from model.engine.state import UserState
from service.backfill import Backfill
from service.background import Background
from service.batch import Work
from service.deadline import Deadline, Ending
from service.errors import DeadlineExceeded
from service.job import Expired, Place
from service.metrics import Metrics
from service.ranking import Ranking, RankJob
from service.scheduler import EngineThread
from service.schemas import RecommendRequest
from service.slate import SlateJob, SlateSize
from service.states import Confirmed, Loaded, UserStates
from service.turns import Turn
from service.updates import Applied, Offer

_GRACE_S = 5.0
"""How long past its deadline a started request may run before it is given up with a 504."""

_LATE_S = 0.005
"""How long the store may take to confirm a copy when the deadline has passed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, in the checkpoint's indices."""

    request: RecommendRequest
    offer: Offer
    candidates: Tensor | None
    deadline: Deadline
    client: str
    place: Place
    ending: Ending


@dataclass(frozen=True, slots=True)
class Size:
    """What admission knows of a request."""

    num_events: int
    num_candidates: int | None  # None: those that retrieval brings
    num_results: int
    beam: int | None = None  # None: not a slate

    @classmethod
    def of(cls, request: RecommendRequest) -> Self:
        candidates = request.candidates
        num_candidates = None if candidates is None else len(candidates)
        beam = request.beam if request.mode == "slate" else None
        return cls(len(request.events), num_candidates, request.num_results, beam)


@dataclass(frozen=True, slots=True)
class Served:
    """A ranking, None if the engine was not reached in time, and what it started from."""

    job: RankJob
    ranking: Ranking | None
    loaded: Loaded
    applied: Applied
    cache_s: float  # waiting for the store
    is_saved: bool = False

    @property
    def made(self) -> UserState | None:
        """The state of the whole history, if the engine made it."""
        ranking = self.ranking
        return None if ranking is None or ranking.shortcut else ranking.state

    @property
    def has_news(self) -> bool:
        """Whether the history is another than the one held."""
        return self.applied.history is not self.loaded.stored.state.history


class Serving:
    """For one checkpoint."""

    def __init__(
        self,
        states: UserStates,
        backfill: Backfill,
        thread: EngineThread,
        metrics: Metrics,
        background: Background,
        *,
        config: HSTUConfig,
        min_retrieved: int,
    ) -> None:
        """`min_retrieved`: items of the catalogue that reach the action head, at least."""
        self._config = config
        self._states, self._backfill, self._thread = states, backfill, thread
        self._metrics, self._min_retrieved = metrics, min_retrieved
        self._background = background

    async def ranked(self, ask: Ask, turn: Turn) -> Served:
        """
        Raises:
            Overloaded, NotReady: not now; nothing is stored.
            DeadlineExceeded: the engine did not answer at all.
        """
        here = self._states.here(ask.request.user_id)
        served = await self._ranked_from(here, ask, turn) if here else None
        if served is None:
            served = await self._ranked_from_store(ask)
        self._learn_cost(served.ranking)
        return served

    async def _ranked_from_store(self, ask: Ask) -> Served:
        began = time.monotonic()
        user_id, deadline, size = ask.request.user_id, ask.deadline, ask.request.history_size
        loaded, applied = await self.held(user_id, ask.offer, deadline, size)
        cache_s = time.monotonic() - began
        job = self.job(ask, loaded, applied)
        return Served(job, await self._rank(job, ask.place), loaded, applied, cache_s)

    async def _ranked_from(self, here: Loaded, ask: Ask, turn: Turn) -> Served | None:
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

        job = self.job(ask, here, applied)
        if applied.history is here.stored.state.history:
            settle(None)
        else:
            job = replace(job, on_state=settle)

        async def confirm() -> Confirmed | None:
            state = await made
            timeout_s = max(deadline.remaining_s / 2, _LATE_S)
            return await self._states.confirm(user_id, here, state, timeout_s)

        confirming = self._background.start(confirm())
        turn.lasts_until(confirming)
        cache_s = time.monotonic() - began
        try:
            ranking = await self._rank(job, ask.place)
        finally:
            settle(None)  # In case the engine never got to it.
        ranked_s = time.monotonic()
        confirmed = await asyncio.shield(confirming)  # The write ends, whoever goes.
        if confirmed is None:
            return None
        cache_s += time.monotonic() - ranked_s
        self._count_source(confirmed.loaded, applied)
        return Served(job, ranking, confirmed.loaded, applied, cache_s, confirmed.is_saved)

    def expected_work(self, size: Size) -> Work:
        """Of a user whose state is held; told without a look at what the request asks for."""
        if size.beam is not None:
            return SlateSize(size.num_results, size.beam).work(size.num_events + 1)
        count = size.num_candidates
        retrieved = max(size.num_results, self._min_retrieved)
        return Work(size.num_events + 1, retrieved if count is None else count)

    def job(self, ask: Ask, loaded: Loaded, applied: Applied) -> RankJob:
        request, history = ask.request, applied.history
        job = RankJob(
            state=loaded.stored.state,
            history=history,
            request_time=_now_s() if request.request_time is None else request.request_time,
            candidates=ask.candidates,
            num_retrieved=self._num_retrieved(request),
            exclude_seen=request.exclude_seen,
            deadline=ask.ending.before(ask.deadline),
            submitted_s=time.monotonic(),
            client=ask.client,
        )
        if request.mode == "ranking":
            return job
        return SlateJob.of(job, SlateSize(request.num_results, request.beam), self._config)

    def _num_retrieved(self, request: RecommendRequest) -> int:
        return max(request.num_results, self._min_retrieved)

    async def held(
        self,
        user_id: str,
        offer: Offer,
        deadline: Deadline | None = None,
        history_size: int | None = None,
    ) -> tuple[Loaded, Applied]:
        """What is held of the user, and the offer on top of it and of what else is known."""
        # A history without events is no reason to pass a state over: it has to be written down.
        num_known = len(offer.events) if offer.replace and offer.events else None
        loaded = await self._states.load(user_id, _half_s(deadline), num_known=num_known)
        applied = await self._completed(user_id, loaded, offer, deadline, history_size)
        self._count_source(loaded, applied)
        return loaded, applied

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
            self._states.costs.encoded(ranking.num_rows / count, ranking.encode_ms / 1000 / count)

    async def _rank(self, job: RankJob, place: Place) -> Ranking | None:
        """None if the deadline passed before the engine was free."""
        try:
            async with asyncio.timeout(job.deadline.remaining_s + _GRACE_S):
                return await self._thread.submit(job, place)
        except Expired:
            return None
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the engine did not answer within the budget; raise budget_ms or ask again"
            ) from error


def _half_s(deadline: Deadline | None) -> float | None:
    """Of what is left: whoever hangs leaves the other half to rank in."""
    return None if deadline is None else deadline.remaining_s / 2


def _now_s() -> int:
    return int(time.time())
