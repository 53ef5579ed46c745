"""One service under open load: its phases are marked, its process is watched.

Owns what holds for the whole of a run: its beginning, its driver and its records.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from secrets import token_hex

from loadtests.catalogue import Catalogue
from loadtests.openloop import OfTraffic, OpenLoop
from loadtests.ramp import Step
from loadtests.record import Mark, Recorder, Sample
from loadtests.target import TargetError
from loadtests.traffic import FIRST_EVENTS, Traffic
from loadtests.watch import watch


class Session:
    """Made by `session`."""

    def __init__(
        self, host: str, traffic: Traffic, recorder: Recorder, budget_ms: float, seed: int
    ) -> None:
        self._recorder, self._budget_ms, self._rng = recorder, budget_ms, Random(seed)
        self._began_s = time.perf_counter()
        self._samples: list[Sample] = []
        self._traffic = traffic
        self.loop = OpenLoop(
            host,
            OfTraffic(traffic),
            self._tell,
            began_s=self._began_s,
            budget_ms=budget_ms,
        )

    @property
    def began_s(self) -> float:
        """Of `time.perf_counter`."""
        return self._began_s

    async def tell_pasts(self) -> None:
        """What everybody did before, ahead of the load; what is not taken comes with it."""
        for visit in self._traffic.pasts():
            await self.loop.tell(visit)

    async def phase(self, rate: float, seconds: float) -> Step:
        """Poisson arrivals for so long, and what became of them."""
        self._samples.clear()
        at_s = time.perf_counter() - self._began_s
        await self.loop.run(rate, seconds, self._rng)
        until_s = time.perf_counter() - self._began_s
        self._recorder.mark(Mark(at_s=at_s, until_s=until_s, name=f"{rate:.1f}/s"))
        return Step.of(rate, seconds, self._samples, self._budget_ms)

    def _tell(self, sample: Sample) -> None:
        self._samples.append(sample)
        self._recorder.sample(sample)


@asynccontextmanager
async def session(
    host: str,
    processes: Mapping[str, int],
    recorder: Recorder,
    *,
    population: int,
    budget_ms: float,
    seed: int,
    is_settled: bool = False,
) -> AsyncIterator[Session]:
    """With the service at `host`, until the end of the block. `processes`: pids to watch, by name.

    `is_settled`: everybody begins with as many events as the service keeps in the long run, and has
    told them before the block begins; else with some tens, told with their first request.

    Raises:
        TargetError: no service answers there.
    """
    catalogue = await asyncio.to_thread(Catalogue.fetch, host)
    past = catalogue.window if is_settled and catalogue.window else FIRST_EVENTS
    traffic = Traffic(catalogue, population=population, seed=seed, run_id=token_hex(4), past=past)
    made = Session(host, traffic, recorder, budget_ms, seed)
    try:
        await made.loop.connect()
    except OSError as error:
        raise TargetError(f"no connection to {host}: {error}") from error
    if is_settled:
        await made.tell_pasts()
    watching = asyncio.create_task(watch(dict(processes), recorder, made.began_s))
    try:
        yield made
    finally:
        watching.cancel()
        made.loop.close()
