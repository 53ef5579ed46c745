"""Requests on a schedule, whatever becomes of those before: a load that sees queueing.

Owns when requests are sent, and what is told of each. Never decides what they contain (traffic),
and never waits for an answer before it sends the next: latency counts from when a request was to be
sent, so that what a stall keeps waiting is seen.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, Protocol

from loadtests.answer import Answer
from loadtests.connection import Connections
from loadtests.record import Sample
from loadtests.target import key_headers
from loadtests.traffic import Traffic, Visit

ANSWER_S: Final = 10.0
"""Longer than any deadline of the service: a request is answered or failed, never lost."""

MAX_UNDER_WAY: Final = 512
"""Beyond it arrivals wait, counted from when they were due: a service that hangs is not to cost the
driver its memory."""

_LOOK_AGAIN_S = 0.005


class Turns(Protocol):
    """Where visits come from, and what is to know how they ended."""

    def begin(self) -> Visit | None:
        """None: there are no more. Raises RuntimeError when everybody is busy."""

    def end(self, visit: Visit, answer: Answer, body: bytes) -> None:
        """`body` is empty where no whole answer came."""


class OfTraffic:
    """The turns of plain traffic."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def begin(self) -> Visit | None:
        return self._traffic.begin()

    def end(self, visit: Visit, answer: Answer, body: bytes) -> None:
        del body
        self._traffic.end(visit, accepted=answer.accepted)


class OpenLoop:
    """Sends to one service. `began_s` is the run's beginning, of `time.perf_counter`."""

    def __init__(
        self,
        host: str,
        turns: Turns,
        on_sample: Callable[[Sample], None],
        *,
        began_s: float,
        budget_ms: float | None = None,
    ) -> None:
        """`budget_ms` goes with every request."""
        self._turns, self._on_sample, self._began_s = turns, on_sample, began_s
        headers = key_headers()
        if budget_ms is not None:
            headers["X-Request-Timeout-Ms"] = f"{budget_ms:g}"
        self._connections = Connections(host, headers)
        self._under_way: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Raises OSError where nothing listens."""
        await self._connections.open()

    def close(self) -> None:
        self._connections.close()

    async def tell(self, visit: Visit) -> None:
        """One that is no part of the load: sent at once, not recorded."""
        self._turns.end(visit, *await self._answer(visit))

    async def run(self, rate: float, seconds: float, rng: Random) -> None:
        """Poisson arrivals, `rate` a second, for so long; returns when all are answered."""
        since_s = self._now_s()
        try:
            for at_s in arrivals(rate, seconds, rng):
                due_s = since_s + at_s
                await asyncio.sleep(max(0.0, due_s - self._now_s()))
                visit = await self._visit()
                if visit is None:
                    break
                task = asyncio.create_task(self._send(visit, due_s))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        finally:
            if self._under_way:
                await asyncio.wait(self._under_way)

    async def _visit(self) -> Visit | None:
        while True:
            if len(self._under_way) < MAX_UNDER_WAY:
                try:
                    return self._turns.begin()
                except RuntimeError:
                    pass  # everybody waits for an answer
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _send(self, visit: Visit, due_s: float) -> None:
        sent_s = self._now_s()
        answer, body = await self._answer(visit)
        ended_s = self._now_s()
        self._turns.end(visit, answer, body)
        self._on_sample(
            answer.sample(
                visit,
                at_s=due_s,
                waited_ms=1000 * (sent_s - due_s),
                latency_ms=1000 * (ended_s - due_s),
            )
        )

    async def _answer(self, visit: Visit) -> tuple[Answer, bytes]:
        asked = json.dumps(visit.body).encode()
        try:
            async with asyncio.timeout(ANSWER_S):
                status, body = await self._connections.post(visit.path, asked)
        except (OSError, EOFError, ValueError) as error:
            return Answer.none(error), b""
        return Answer.parse(visit.kind, status, body), body

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s


def arrivals(rate: float, seconds: float, rng: Random) -> Iterator[float]:
    """Times from 0 to `seconds` of a Poisson process."""
    at_s = rng.expovariate(rate)
    while at_s < seconds:
        yield at_s
        at_s += rng.expovariate(rate)
