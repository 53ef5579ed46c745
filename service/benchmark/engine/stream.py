"""Owns requests that keep coming to one engine: clients of whom each asks again when answered.

On the engine thread, as the service runs it, with states that are held as tensors; never over HTTP.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from model.engine.engine import Engine
from service.batch import Bounds, Pace
from service.benchmark.engine.users import User
from service.benchmark.load.figures import percentile
from service.deadline import Deadline
from service.metrics import Metrics
from service.ranker import Ranker
from service.ranking import RankJob
from service.scheduler import EngineThread

_SECONDS = 3.0
"""As long again before, which is not counted."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Each request brings one new event and has all candidates of the shape scored."""

    num_clients: int
    num_requests: int
    per_s: float
    p50_ms: float
    p99_ms: float


def measure_stream(
    engine: Engine, users: Sequence[User], *, microbatch: int, batch_rows: int
) -> Stream:
    """A client for each user; the bounds are the service's settings of the same names."""
    pace = Pace()
    thread = EngineThread(
        Ranker(engine, pace, Metrics(), pass_rows=microbatch).run,
        bounds=Bounds(encode_rows=microbatch, num_rows=batch_rows),
        pace=pace,
        max_queue=len(users),
    )
    return asyncio.run(_measured(engine, thread, users))


async def _measured(engine: Engine, thread: EngineThread, users: Sequence[User]) -> Stream:
    try:
        with engine.capturing():
            await _ask(thread, users)
        began_s = time.perf_counter()
        latencies_ms = await _ask(thread, users)
        elapsed_s = time.perf_counter() - began_s
    finally:
        await thread.close()
    return Stream(
        num_clients=len(users),
        num_requests=len(latencies_ms),
        per_s=len(latencies_ms) / elapsed_s,
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
    )


async def _ask(thread: EngineThread, users: Sequence[User]) -> list[float]:
    """Milliseconds from asking to the answer, which has left the device."""
    ends_s = time.perf_counter() + _SECONDS
    latencies_ms: list[float] = []

    async def client(user: User) -> None:
        while True:
            began_s = time.perf_counter()
            await thread.submit(_job(user))
            answered_s = time.perf_counter()
            latencies_ms.append((answered_s - began_s) * 1000)
            if answered_s >= ends_s:
                return

    await asyncio.gather(*map(client, users))
    return latencies_ms


def _job(user: User) -> RankJob:
    return RankJob(
        state=user.without_newest[1],
        history=user.history,
        request_time=user.request_time,
        candidates=user.candidates,
        num_retrieved=0,
        exclude_seen=False,
        deadline=Deadline(math.inf),
        submitted_s=time.monotonic(),
    )
