"""Owns running the engine over typical shapes before the service says it is ready.

Never stores anything. First calls allocate and choose kernels; a client should not pay for that.
"""

import math
import time

import torch

from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import Event, History
from service.deadline import Deadline
from service.ranking import Ranking, RankJob
from service.scheduler import EngineThread


async def warm_up(engine: Engine, thread: EngineThread, *, microbatch: int) -> None:
    """Prefill, extend and score at window lengths from one to full. Nobody else uses the device."""
    config = engine.config
    lengths = sorted({1, 2, config.window.capacity // 4, config.window.capacity})
    events = [Event(i % config.num_items, 0, 60 * i) for i in range(lengths[-1])]

    async def rank(length: int, state: UserState, count: int) -> Ranking:
        return await thread.submit(
            RankJob(
                state=state,
                history=History.of(events[:length]),
                request_time=60 * length,
                candidates=torch.arange(min(count, config.num_items)),
                num_retrieved=0,
                exclude_seen=False,
                deadline=Deadline(math.inf),
                submitted_s=time.monotonic(),
            )
        )

    with engine.capturing():
        for length in lengths:
            ranking = await rank(length - 1, engine.empty_state(), 1)
            await rank(length, ranking.state, microbatch)
