"""Owns sending load to a service on loopback, in a process of its own.

`python -m service.benchmark.load.client PORT` reads messages and answers each (`worker.py`). The
first is the plan with the names of items and actions. Bodies are put together from parts made
before, and answers are read after the load, not during it.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from random import Random
from typing import Any

import uvicorn

from service.benchmark.load.connection import Connection
from service.benchmark.load.traffic import (
    NUM_RESULTS,
    Happened,
    Plan,
    Visitor,
    request_time,
    visitors,
)

_REFUSED = 429
_IDLE_S = 4.0
"""A connection that was not used for longer may be about to be closed by the service."""


class _User:
    """A visitor with a connection of its own: one request at a time, so events come in order."""

    def __init__(self, visitor: Visitor, plan: Plan, names: dict[str, list[str | None]]) -> None:
        self._visitor, self._names = visitor, names
        self._more = json.dumps(
            {
                "candidates": [names["items"][item] for item in visitor.candidates],
                "num_results": NUM_RESULTS,
                "exclude_seen": False,
                "budget_ms": plan.budget_ms,
            }
        )[1:]

    async def connect(self, port: int) -> None:
        self._port, self._used_s = port, time.perf_counter()
        self._connection = await Connection.open(port)

    async def disconnect(self) -> None:
        await self._connection.close()

    async def begin(self) -> None:
        """Make the history known to the service."""
        events = [self._event(event) for event in self._visitor.history]
        body = json.dumps({"user_id": self._visitor.user_id, "events": events})
        status, answer = await self._connection.post("/events", body.encode())
        if status != 200:
            raise RuntimeError(f"/events answered {status}: {answer.decode()}")

    async def recommend(self) -> tuple[int, bytes]:
        event = self._visitor.next_event()
        begin = {
            "user_id": self._visitor.user_id,
            "events": [self._event(event)],
            "request_time": request_time(event),
        }
        body = f"{json.dumps(begin)[:-1]}, {self._more}"
        if time.perf_counter() - self._used_s > _IDLE_S:
            await self.disconnect()
            await self.connect(self._port)
        self._used_s = time.perf_counter()
        return await self._connection.post("/recommend", body.encode())

    def _event(self, event: Happened) -> dict[str, object]:
        return {
            "item_id": self._names["items"][event.item],
            "action": self._names["actions"][event.action],
            "timestamp": event.timestamp,
        }


class Client:
    """All users of one service."""

    def __init__(self, port: int, plan: Plan, names: dict[str, list[str | None]]) -> None:
        self._port, self._plan = port, plan
        self._users = deque(_User(visitor, plan, names) for visitor in visitors(plan))
        self._rng = Random(plan.seed)

    async def begin(self) -> None:
        """Make the histories known, each over a connection that has not waited for the others."""
        for user in self._users:
            await user.connect(self._port)
            await user.begin()
            await user.disconnect()

    async def one(self) -> Any:
        """The answer to the next user's request."""
        async with self._connected():
            return json.loads((await self._next().recommend())[1])

    async def sequence(self, count: int) -> dict[str, Any]:
        """One request of each of the next users, one after another."""
        async with self._connected():
            load = _Load(self._plan.budget_ms)
            for _ in range(count):
                await load.ask(self._next(), time.perf_counter())
            return load.summary()

    async def closed(self, clients: int, seconds: float) -> dict[str, Any]:
        """Clients that ask again as soon as they are answered, each for users of its own: for the
        next, or for the same one if they were refused."""

        async def act(load: _Load, users: deque[_User]) -> None:
            while load.elapsed_s < seconds:
                if await load.ask(users[0], time.perf_counter()) != _REFUSED:
                    users.rotate()

        async with self._connected():
            load = _Load(self._plan.budget_ms)
            shares = (deque(islice(self._users, place, None, clients)) for place in range(clients))
            await asyncio.gather(*(act(load, users) for users in shares))
            return load.summary()

    async def open(self, rate: float, seconds: float) -> dict[str, Any]:
        """Requests at random times, `rate` a second, however fast they are answered.

        A request waits where every user has one under way; its latency is counted from its time.
        Those that still wait at the end are not sent, and count as offered.
        """
        due = deque(self._arrivals(rate, seconds))

        async def act(load: _Load, user: _User) -> None:
            while due and load.elapsed_s < seconds:
                at = due.popleft()
                await asyncio.sleep(max(0.0, at - load.elapsed_s))
                await load.ask(user, load.began_s + at)

        async with self._connected():
            load = _Load(self._plan.budget_ms, num_offered=len(due))
            await asyncio.gather(*(act(load, user) for user in self._users))
            return load.summary()

    def _next(self) -> _User:
        self._users.rotate(-1)
        return self._users[-1]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """A service closes what is idle for seconds, so each load has connections of its own."""
        for user in self._users:
            await user.connect(self._port)
        try:
            yield
        finally:
            for user in self._users:
                await user.disconnect()

    def _arrivals(self, rate: float, seconds: float) -> list[float]:
        times, now = [], 0.0
        while (now := now + self._rng.expovariate(rate)) < seconds:
            times.append(now)
        return times


class _Load:
    """The answers of one load, and when they came."""

    def __init__(self, budget_ms: float, num_offered: int | None = None) -> None:
        """None: as many as were sent."""
        self._budget_ms, self._num_offered = budget_ms, num_offered
        self._answers: list[tuple[float, float, int, bytes]] = []
        self.began_s = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.began_s

    async def ask(self, user: _User, since_s: float) -> int:
        """The status."""
        status, body = await user.recommend()
        latency_ms = 1000 * (time.perf_counter() - since_s)
        self._answers.append((since_s - self.began_s, latency_ms, status, body))
        return status

    def summary(self) -> dict[str, Any]:
        """When requests were due; latencies of whole answers and of refusals, where whole ones say
        the time went, and how many were in time."""
        elapsed_s = self.elapsed_s
        latencies_ms, due_s, timings, num_failed = [], [], [], 0
        cut_ms, refused_ms = [], []
        for at_s, latency_ms, status, body in self._answers:
            answer = json.loads(body) if status == 200 else None
            if status == _REFUSED:
                refused_ms.append(latency_ms)
            elif answer is None:
                num_failed += 1
            elif not answer["complete"]:
                cut_ms.append(latency_ms)
            else:
                latencies_ms.append(latency_ms)
                due_s.append(at_s)
                timings.append(answer["timing_ms"])
        stages = timings[0] if timings else ()
        return {
            "elapsed_s": elapsed_s,
            "num_offered": self._num_offered or len(self._answers),
            "num_failed": num_failed + len(refused_ms),
            "num_cut": len(cut_ms),
            "num_within": sum(ms <= self._budget_ms for ms in latencies_ms),
            "num_cut_within": sum(ms <= self._budget_ms for ms in cut_ms),
            "asked_s": sorted(at_s for at_s, *_ in self._answers),
            "latencies_ms": latencies_ms,
            "due_s": due_s,
            "refused_ms": refused_ms,
            "engine_ms": [timing["encode"] + timing["score"] for timing in timings],
            "stages_ms": {stage: [timing[stage] for timing in timings] for stage in stages},
        }


async def _main(port: int) -> None:
    message = json.loads(sys.stdin.readline())
    client = Client(port, Plan(**message["plan"]), message["names"])
    await client.begin()
    _say(None)
    for line in sys.stdin:  # nothing else is to run while the next message is waited for
        message = json.loads(line)
        _say(await getattr(client, message.pop("do"))(**message))


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # uvloop, where it is installed: the client is to take little of the service's processor.
    with asyncio.Runner(loop_factory=uvicorn.Config(app="").get_loop_factory()) as runner:
        runner.run(_main(int(sys.argv[1])))
