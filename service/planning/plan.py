"""Owns the plan: how many replicas, how much Redis, which hit ratio, and which latency to expect.

The fewest replicas with which enough answers are whole and in time, each simulated under its part
of the traffic. Never measures.
"""

import math
from dataclasses import dataclass
from random import Random

from model.config import Window
from service.batch import Work
from service.benchmark.load.figures import percentile
from service.planning.costs import Costs
from service.planning.popularity import Popularity
from service.planning.simulation import Asked, Outcome, simulate
from service.planning.traffic import Traffic

_REQUESTS = 10_000
"""Of a simulation; a hundred of them are slower than its 99th percentile."""

_IDLE = 0.02
"""Of what the engine can do: a replica that is nearly idle answers as quickly as it ever will."""

_MEMORY_SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
_SEED = 1


@dataclass(frozen=True, slots=True)
class Sources:
    """Shares of the requests by where their states come from; the first three add up to 1."""

    here: float  # a copy in the replica that gets the request
    store: float
    nowhere: float
    stale: float  # of those from the store: the replica has an old copy, and ranks by it first
    rebuilt: float  # of all: the window was full and is encoded anew from its newest events


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one replica under its part of the traffic."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    in_time: float  # share whole and within the budget
    refused: float  # share
    engine_busy: float
    loop_busy: float
    mean_batch: float


@dataclass(frozen=True, slots=True)
class RedisNeed:
    num_states: float
    memory_bytes: float
    received_bytes_per_s: float  # by the server
    sent_bytes_per_s: float
    connection_bytes_per_s: float  # of states that one connection fetches, decoding included


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    memory_bytes: float
    hit_ratio: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`replicas` is None if no number of them is enough; the rest is of an idle one then."""

    traffic: Traffic
    replicas: int | None
    cores: int | None  # of all replicas
    sources: Sources
    expected: Expected
    redis: RedisNeed
    memory_curve: list[MemoryPoint]
    notes: list[str]


def make_plan(costs: Costs, traffic: Traffic) -> Plan:
    planner = _Planner(costs, traffic)
    replicas = planner.fewest()
    count = planner.idle if replicas is None else replicas
    sources, outcome = planner.sources(count), planner.outcome(count)
    return Plan(
        traffic=traffic,
        replicas=replicas,
        cores=None if replicas is None else replicas * (costs.threads + 1),
        sources=sources,
        expected=_expected(outcome, traffic, count),
        redis=planner.redis(sources),
        memory_curve=planner.memory_curve(),
        notes=_notes(costs, traffic, replicas, sources),
    )


class _Planner:
    def __init__(self, costs: Costs, traffic: Traffic) -> None:
        self._costs, self._traffic = costs, traffic
        self._users = Popularity(traffic.users, traffic.zipf, traffic.requests_per_s)
        self._state_bytes = costs.redis.state_bytes * costs.redis.memory_over_bytes
        all_bytes = self._users.within(traffic.state_ttl_s).num_states * self._state_bytes
        self._all_bytes = all_bytes
        self._store_bytes = float(traffic.redis_bytes) or all_bytes
        score_ms = costs.engine.whole_score_ms(traffic.candidates, costs.microbatch)
        self._engine_s = (costs.engine.encode_ms(1, self._rows) + score_ms) / 1000

    @property
    def idle(self) -> int:
        """Replicas of which each has next to nothing to do."""
        return max(1, math.ceil(self._traffic.requests_per_s * self._engine_s / _IDLE))

    def fewest(self) -> int | None:
        """Replicas that are enough; None: an idle one is not."""
        if not self._is_enough(self.idle):
            return None
        low, high = 0, 1
        while high < self.idle and not self._is_enough(high):
            low, high = high, min(2 * high, self.idle)
        while high - low > max(1, high // 200):
            middle = (low + high) // 2
            low, high = (low, middle) if self._is_enough(middle) else (middle, high)
        return high

    def sources(self, replicas: int) -> Sources:
        """A replica's copy is the newest only if the user's last request was its own, too."""
        traffic, costs, users = self._traffic, self._costs, self._users
        stored = self._stored_share()
        copies = traffic.device_cache_bytes / costs.device_bytes
        if traffic.sticky or replicas == 1:
            here, stale = users.held(copies * replicas, math.inf).hit_ratio, 0.0
        else:
            own = users.held(copies, math.inf, 1 / replicas)
            newest = users.within(own.window_s).hit_ratio / replicas
            is_changed = 1.0 if traffic.new_events else 0.0
            here = newest if is_changed else own.hit_ratio
            stale = max(0.0, own.hit_ratio - here)
        here = min(here, stored)
        fetched = stored - here
        window = Window(capacity=costs.window_capacity, keep=costs.window_keep)
        is_full = traffic.history_events >= window.capacity
        rebuilt = min(1.0, traffic.new_events / window.step) if is_full else 0.0
        return Sources(here, fetched, 1 - stored, min(stale, fetched), rebuilt * stored)

    def outcome(self, replicas: int) -> Outcome:
        traffic, rng = self._traffic, Random(_SEED)
        sources, now_s, asked = self.sources(replicas), 0.0, []
        for _ in range(_REQUESTS):
            now_s += rng.expovariate(traffic.requests_per_s / replicas)
            asked.append(self._asked(now_s, sources, rng))
        costs = self._costs.under(traffic.requests_per_s / replicas)
        return simulate(costs, asked, traffic.budget_ms)

    def redis(self, sources: Sources) -> RedisNeed:
        costs, per_s = self._costs.redis, self._traffic.requests_per_s
        written = sources.nowhere + sources.rebuilt  # whole
        return RedisNeed(
            num_states=self._store_bytes / self._state_bytes,
            memory_bytes=self._store_bytes,
            received_bytes_per_s=per_s * (costs.sent_bytes + written * costs.state_bytes),
            sent_bytes_per_s=per_s * (costs.received_bytes + sources.store * costs.state_bytes),
            connection_bytes_per_s=1000 * costs.state_bytes / costs.fetch_ms,
        )

    def memory_curve(self) -> list[MemoryPoint]:
        """Shares of what holds everybody until they age, and the hit ratio with each."""
        sizes = [share * self._all_bytes for share in _MEMORY_SHARES]
        ttl_s = self._traffic.state_ttl_s
        return [
            MemoryPoint(size, self._users.held(size / self._state_bytes, ttl_s).hit_ratio)
            for size in sizes
        ]

    @property
    def _rows(self) -> int:
        """Event rows of a request whose state is held: those it brings and the pending one."""
        return self._traffic.new_events + 1

    def _stored_share(self) -> float:
        num_states = self._store_bytes / self._state_bytes
        return self._users.held(num_states, self._traffic.state_ttl_s).hit_ratio

    def _is_enough(self, replicas: int) -> bool:
        traffic = self._traffic
        return self.outcome(replicas).in_time(traffic.budget_ms) >= traffic.in_time

    def _asked(self, at_s: float, sources: Sources, rng: Random) -> Asked:
        drawn, rows = rng.random(), self._rows
        is_missing = drawn < sources.nowhere
        is_fetched = sources.nowhere <= drawn < sources.nowhere + sources.store
        is_stale = is_fetched and drawn < sources.nowhere + sources.stale
        if is_missing:
            rows = self._costs.num_events
        elif rng.random() * (1 - sources.nowhere) < sources.rebuilt:
            rows = self._costs.window_keep
        work = Work(rows, self._traffic.candidates)
        return Asked(at_s, work, is_fetched and not is_stale, is_stale)


def _expected(outcome: Outcome, traffic: Traffic, replicas: int) -> Expected:
    latencies_ms = outcome.latencies_ms or [math.nan]
    return Expected(
        requests_per_s=traffic.requests_per_s / replicas,
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
        in_time=outcome.in_time(traffic.budget_ms),
        refused=outcome.num_refused / max(outcome.num_asked, 1),
        engine_busy=outcome.engine_busy,
        loop_busy=outcome.loop_busy,
        mean_batch=outcome.mean_batch,
    )


def _notes(costs: Costs, traffic: Traffic, replicas: int | None, sources: Sources) -> list[str]:
    """What a reader has to know to trust or to mend the plan."""
    notes = []
    if replicas is None:
        notes.append(
            "no number of replicas answers enough in time: not even an idle one does; ask for "
            "fewer candidates, a larger budget_ms or a smaller in_time, or measure a faster machine"
        )
    usual = min(traffic.history_events, (costs.window_keep + costs.window_capacity) // 2)
    if usual != costs.num_events:
        notes.append(
            f"costs were measured with {costs.num_events} events in a window, this traffic has "
            f"{usual}: measure again with it"
        )
    if sources.stale > 0.05:
        notes.append(
            "users come to a replica with an old copy of their state and are ranked twice; route a "
            "user's requests to one replica (--sticky)"
        )
    if sources.nowhere > 0.001:
        notes.append(
            "a request without a state is taken to bring its whole history, or to have it fetched "
            "from history_url; the time of that is not in the latencies"
        )
    if costs.waited_for_cores > 0.2:
        notes.append(
            "while the costs were measured other programs kept the cores busy; measure again on a "
            "quiet machine"
        )
    return notes
