"""Owns what a fault is done to: the servers, the proxy between them, and the load on them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Final

from loadtests.catalogue import Catalogue
from loadtests.faults.product import Product
from loadtests.faults.proxy import Proxy
from loadtests.openloop import OpenLoop
from loadtests.others import Others
from loadtests.record import Recorder, Sample
from loadtests.servers import Redis, Service
from loadtests.stability import PROCESS
from loadtests.traffic import Traffic
from loadtests.watch import watch

DEVICE_CACHE_BYTES: Final = 8 << 20
"""Room for a part of the users, so that states are read from Redis as well as confirmed there."""

_FOREVER_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Of a run: each fault lasts `seconds_each`, under `rate` requests a second."""

    rate: float
    population: int
    seconds_each: float
    num_kills: int
    budget_ms: float
    seed: int


@dataclass(slots=True)
class Stage:
    """Times are seconds since the run's beginning."""

    plan: Plan
    folder: Path
    redis: Redis
    proxy: Proxy
    service: Service
    recorder: Recorder
    began_s: float
    processes: dict[str, int]
    samples: list[Sample] = field(default_factory=list)
    others: Others = field(init=False)

    def __post_init__(self) -> None:
        self.others = Others(self.began_s)

    def now_s(self) -> float:
        return time.perf_counter() - self.began_s

    async def start_service(
        self, *flags: str, log: Path | None = None, variables: dict[str, str] | None = None
    ) -> None:
        """In the place of the one that runs, which is killed; returns when it is ready."""
        await asyncio.to_thread(self.service.kill)
        self.service.spawn(*flags, log=log, variables=variables)
        await asyncio.to_thread(self.service.wait_until_ready)
        self.processes[PROCESS] = self.service.pid

    async def start_redis(self) -> None:
        await asyncio.to_thread(self.redis.start)
        self.processes["redis"] = self.redis.pid

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Product]:
        """Open load of people who were not here before, until the end of the block."""
        catalogue = await asyncio.to_thread(Catalogue.fetch, self.service.host)
        plan = self.plan
        traffic = Traffic(
            catalogue, population=plan.population, seed=plan.seed, run_id=token_hex(4)
        )
        product = Product(traffic, seed=plan.seed, began_s=self.began_s)
        driver = OpenLoop(
            self.service.host,
            product,
            self._record,
            began_s=self.began_s,
            budget_ms=plan.budget_ms,
        )
        sending = asyncio.create_task(driver.run(plan.rate, _FOREVER_S, Random(plan.seed)))
        try:
            yield product
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            driver.close()

    def _record(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.recorder.sample(sample)


@asynccontextmanager
async def staged(
    plan: Plan, folder: Path, recorder: Recorder, began_s: float, flags: tuple[str, ...] = ()
) -> AsyncIterator[Stage]:
    """Servers that are up, watched, and gone at the end. Their files lie in `folder`.

    Raises:
        TargetError: one did not start.
    """
    redis = Redis(folder)
    proxy = Proxy(redis.port)
    await proxy.start()
    store = f"redis://127.0.0.1:{proxy.port}/0"
    always = ("--store", store, "--threads", "1", "--log-format", "json")
    service = Service(folder, PROCESS, (*always, *flags))
    stage = Stage(plan, folder, redis, proxy, service, recorder, began_s, processes={})
    watching = [
        asyncio.create_task(watch(stage.processes, recorder, began_s)),
        asyncio.create_task(stage.others.watch()),
    ]
    try:
        await stage.start_redis()
        await stage.start_service()
        yield stage
    finally:
        for task in watching:
            task.cancel()
        service.kill()
        redis.kill()
        await proxy.close()
