"""Owns running the engine over the shapes that requests come in, before it is said to be ready.

Never stores anything. First calls allocate and choose kernels; a client should not pay for that.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
import torch

from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import Event, History
from service.batch import Bounds, Work
from service.deadline import Deadline
from service.ranking import Ranking, RankJob
from service.scheduler import EngineThread
from service.settings import Settings

_log = structlog.get_logger("mfalcon.warmup")
_TELL_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a batch."""

    num_users: int
    num_events: int  # of each
    num_candidates: int  # of each


def grid(capacity: int, bounds: Bounds, *, microbatch: int, max_queue: int) -> list[Shape]:
    """Histories from none to a whole window of `capacity` events, one user's and as many users' as
    run together. What most requests are like comes first, lest time runs out."""
    some = {1, 2, capacity // 16, capacity // 4, capacity // 2, capacity}
    lengths = sorted(n for n in some if 1 <= n <= capacity)
    most_users = min(bounds.encode_rows // Work(1, 0).encode_rows, max_queue - 1)
    shapes = [Shape(1, n, count) for count in (microbatch, 1) for n in reversed(lengths)]
    num_users = 2
    while num_users <= most_users:
        room = bounds.num_rows // num_users - Work(1, 0).num_rows
        count = max(1, min(microbatch, room))
        shapes += [Shape(num_users, n, count) for n in reversed(lengths)]
        num_users *= 2
    return shapes


async def warm_up(engine: Engine, thread: EngineThread, settings: Settings) -> None:
    """Each shape three times: nothing is known of the users, one event is new, nothing is.

    At most `warmup_timeout_s`, and one shape.
    """
    bounds = Bounds(encode_rows=settings.microbatch, num_rows=settings.batch_rows)
    shapes = grid(
        engine.config.window.capacity,
        bounds,
        microbatch=settings.microbatch,
        max_queue=settings.max_queue,
    )
    warming = _Warming(engine, thread, bounds)
    began_s = told_s = time.monotonic()
    for number, shape in enumerate(shapes):
        now_s = time.monotonic()
        if now_s - began_s > settings.warmup_timeout_s:
            detail = "shapes that are left are slow when they are first met; see warmup_timeout_s"
            _log.warning("warmed_in_part", done=number, shapes=len(shapes), detail=detail)
            return
        if now_s - told_s > _TELL_EVERY_S:
            told_s = now_s
            _log.info("warming", done=number, shapes=len(shapes))
        await warming.run(shape)
    _log.info("warmed", shapes=len(shapes), seconds=round(time.monotonic() - began_s, 2))


class _Warming:
    def __init__(self, engine: Engine, thread: EngineThread, bounds: Bounds) -> None:
        self._engine, self._thread, self._bounds = engine, thread, bounds
        num_items, capacity = engine.config.num_items, engine.config.window.capacity
        self._events = [Event(i % num_items, 0, 60 * i) for i in range(capacity)]

    async def run(self, shape: Shape) -> None:
        num_known = shape.num_events - 1
        # No more are encoded from nothing in one pass.
        num_new = max(1, self._bounds.encode_rows // Work(num_known, 0).encode_rows)
        empty = [self._engine.empty_state()] * min(shape.num_users, num_new)
        miss = await self._rank(empty, num_known, shape.num_candidates)
        states = [miss[0].state] * shape.num_users
        appended = await self._rank(states, shape.num_events, shape.num_candidates)
        states = [ranking.state for ranking in appended]
        await self._rank(states, shape.num_events, shape.num_candidates, whole_catalogue=True)

    async def _rank(
        self,
        states: Sequence[UserState],
        num_events: int,
        num_candidates: int,
        *,
        whole_catalogue: bool = False,
    ) -> list[Ranking]:
        count = min(num_candidates, self._engine.config.num_items)
        jobs = [
            RankJob(
                state=state,
                history=History.of(self._events[:num_events]),
                request_time=60 * num_events,
                candidates=None if whole_catalogue else torch.arange(count),
                num_retrieved=count,
                exclude_seen=False,
                deadline=Deadline(math.inf),
                submitted_s=time.monotonic(),
            )
            for state in states
        ]
        # While the engine is at the first, the others gather to run together.
        ahead = jobs[:1] if len(jobs) > 1 else []
        rankings = await asyncio.gather(*map(self._thread.submit, [*ahead, *jobs]))
        return rankings[len(ahead) :]
