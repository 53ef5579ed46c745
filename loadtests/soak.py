"""A long load well below what the service takes, for what grows only slowly.

Owns the servers of one, and its rate. Never judges what was seen (slo, stability).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.ramp import Step, ramp
from loadtests.record import Recorder
from loadtests.servers import Redis, Service
from loadtests.session import session
from loadtests.stability import PROCESS

FIRST_RATE: Final = 10.0
STEP_S: Final = 4.0
PHASE_S: Final = 60.0
"""The load is told of, and marked, this often."""

DEVICE_CACHE_BYTES: Final = 32 << 20
"""Full within minutes: what grows after that should not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seconds: float
    share: float  # of the saturation
    budget_ms: float
    population: int
    seed: int


async def soak(
    plan: Plan, folder: Path, recorder: Recorder, on_step: Callable[[Step], None]
) -> None:
    """Until the end; `folder` is for the servers' files.

    Raises:
        TargetError: a server did not start.
    """
    redis = Redis(folder)
    store = f"redis://127.0.0.1:{redis.port}/0"
    flags = ("--store", store, "--threads", "1", "--device-cache-bytes", str(DEVICE_CACHE_BYTES))
    service = Service(folder, PROCESS, (*flags, "--log-format", "json"))
    try:
        await asyncio.to_thread(redis.start)
        service.spawn()
        await asyncio.to_thread(service.wait_until_ready)
        processes = {PROCESS: service.pid, "redis": redis.pid}
        async with session(
            service.host,
            processes,
            recorder,
            population=plan.population,
            budget_ms=plan.budget_ms,
            seed=plan.seed,
            is_settled=True,
        ) as running:

            async def measure(rate: float, seconds: float = STEP_S) -> Step:
                step = await running.phase(rate, seconds)
                on_step(step)
                return step

            found = await ramp(measure, first_rate=FIRST_RATE, budget_ms=plan.budget_ms)
            rate, left_s = plan.share * found.saturation_per_s, plan.seconds
            while left_s > 0:
                await measure(rate, min(PHASE_S, left_s))
                left_s -= PHASE_S
    finally:
        service.kill()
        redis.kill()
