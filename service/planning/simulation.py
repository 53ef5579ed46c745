"""Owns the simulation of one replica: requests that come, wait, are batched and are answered.

Two servers stand behind each other: the event loop, which does one thing at a time, reads a request
and later writes its answer; the engine thread between them runs batches. Who is next, what runs
together, what is refused and what a pass holds is the service's own rule (`fair_queue`, `batch`).
Never measures. One user's requests are not kept apart, and no history is shortened for want of
time.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from service.batch import Batch, Bounds, Pace, Work
from service.deadline import Deadline
from service.fair_queue import FairQueue
from service.keys import ANONYMOUS
from service.lateness import late_s
from service.planning.costs import Costs
from service.planning.machine import Noise, Server


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: when it comes, and what it takes."""

    at_s: float
    work: Work
    is_fetched: bool = False  # its state comes from the store
    is_stale: bool = False  # the copy here was not the newest: fetched then, and ranked again


@dataclass(slots=True, eq=False)
class _Request:
    asked: Asked
    deadline: Deadline
    slowness: float  # of the engine
    path_s: float  # of the event loop, half before the engine and half after
    num_left: int = field(init=False)
    is_stale: bool = field(init=False)

    def __post_init__(self) -> None:
        self.num_left, self.is_stale = self.asked.work.num_candidates, self.asked.is_stale


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests; latencies in milliseconds, of those that were answered whole."""

    elapsed_s: float
    latencies_ms: list[float]
    num_refused: int
    num_cut: int  # the deadline passed before all was scored
    engine_busy: float  # share of the time
    loop_busy: float
    mean_batch: float

    @property
    def num_asked(self) -> int:
        return len(self.latencies_ms) + self.num_refused + self.num_cut

    @property
    def whole_per_s(self) -> float:
        return len(self.latencies_ms) / self.elapsed_s

    def in_time(self, budget_ms: float) -> float:
        """Share of all requests that were answered whole and within the budget."""
        return sum(ms <= budget_ms for ms in self.latencies_ms) / max(self.num_asked, 1)


def simulate(
    costs: Costs, asked: Sequence[Asked], budget_ms: float, *, noise_from_s: float = 0.0
) -> Outcome:
    """Requests in order of time; what was asked is followed to its end.

    `noise_from_s`: when, of the time in which noise was measured, the simulation begins.
    """
    replica = _Replica(costs, budget_ms, noise_from_s)
    for each in asked:
        replica.at(each.at_s, lambda each=each: replica.arrive(each))  # type: ignore[misc]
    replica.run()
    return replica.outcome()


def saturate(costs: Costs, work: Work, clients: int, num_answers: int) -> Outcome:
    """Clients who ask again as soon as they are answered."""
    replica = _Replica(costs, budget_ms=1e9)

    def again() -> None:
        if len(replica.latencies_ms) < num_answers:
            replica.arrive(Asked(replica.now_s, work))

    replica.on_answer = again
    for _ in range(clients):
        replica.at(0.0, again)
    replica.run()
    return replica.outcome()


class _Replica:
    """The clock, both servers, and the queues before them."""

    def __init__(self, costs: Costs, budget_ms: float, noise_from_s: float = 0.0) -> None:
        self._costs, self._budget_s = costs, budget_ms / 1000
        self._bounds = Bounds(encode_rows=costs.microbatch, num_rows=costs.batch_rows)
        self._pace, self._queue = Pace(), FairQueue[_Request]()
        self._loop, self._engine = Server(), Server()
        self._loop_queue: deque[tuple[float, Callable[[], None]]] = deque()
        self._steps = self._batches()
        self._free_s = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._noise = count(), Noise(costs, noise_from_s)
        self._num_batches = self._num_batched = self._num_refused = self._num_cut = 0
        self.now_s = 0.0
        self.latencies_ms: list[float] = []
        self.on_answer: Callable[[], None] = lambda: None

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when_s, next(self._order), what))

    def run(self) -> None:
        """Until nothing is left to happen."""
        loop, engine, timers = self._loop, self._engine, self._timers
        while True:
            nexts = [each.left_s for each in (loop, engine) if each.left_s is not None]
            if timers:
                nexts.append(timers[0][0] - self.now_s)
            if not nexts:
                return
            step_s = max(0.0, min(nexts))
            self.now_s += step_s
            loop.advance(step_s)
            engine.advance(step_s)
            if loop.left_s is not None and loop.left_s <= 1e-12:
                self._end_of_loop_step()
            elif engine.left_s is not None and engine.left_s <= 1e-12:
                self._next_engine_step()
            elif timers and timers[0][0] <= self.now_s + 1e-12:
                heapq.heappop(timers)[2]()

    def arrive(self, asked: Asked) -> None:
        """On its way: half of what is beyond both servers passes before, half after.

        Half of what is uneven keeps the event loop busy, as where another program has its core;
        half only delays the request, as where its client is late.
        """
        costs = self._costs
        slowness, more_ms = self._noise.at(self.now_s)
        path_s = max(costs.path_ms + more_ms / 2, costs.path_ms / 2) / 1000
        before_s = max(costs.beyond_ms + more_ms, 0.0) / 2000
        request = _Request(asked, Deadline(asked.at_s + self._budget_s), slowness, path_s)
        fetch_s = costs.redis.fetch_ms / 1000 if asked.is_fetched else 0.0
        self.at(
            self.now_s + before_s,
            lambda: self._on_loop(path_s / 2 + fetch_s, lambda: self._submit(request)),
        )

    def _on_loop(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop_queue.append((seconds, then))
        if self._loop.left_s is None:
            self._loop.left_s = seconds

    def _end_of_loop_step(self) -> None:
        _, then = self._loop_queue.popleft()
        self._loop.left_s = self._loop_queue[0][0] if self._loop_queue else None
        then()

    def _submit(self, request: _Request) -> None:
        work = request.asked.work
        if self._is_late(request):
            self._num_refused += 1
            self.on_answer()
            return
        self._queue.put(request, ANONYMOUS, self._pace.seconds(work))
        if self._engine.left_s is None:
            self._next_engine_step()

    def _is_late(self, request: _Request) -> bool:
        """As `EngineThread` refuses."""
        left_s = request.deadline.at_s - self.now_s
        rest_s = max(0.0, self._free_s - self.now_s) if self._engine.left_s is not None else 0.0
        wait_s = rest_s + self._queue.ahead_s(ANONYMOUS)
        need_s = self._pace.seconds(request.asked.work)
        return late_s(wait_s, need_s, left_s) > 0

    def _next_engine_step(self) -> None:
        self._engine.left_s = next(self._steps)

    def _batches(self) -> Iterator[float | None]:
        """The engine thread: seconds of its next step, or None while nobody waits."""
        while True:
            requests = self._take()
            if not requests:
                yield None
                continue
            self._num_batches += 1
            self._num_batched += len(requests)
            yield from self._encode(requests)
            while requests:
                yield from self._score(requests)
                requests = [request for request in requests if self._goes_on(request)]

    def _take(self) -> list[_Request]:
        batch, taken = Batch(self._bounds, self._pace, self.now_s), []
        while request := self._queue.first(lambda _: True):
            if self.now_s >= request.deadline.at_s:
                self._num_cut += 1
                self.on_answer()
            elif batch.admits(request.asked.work, request.deadline):
                taken.append(request)
            else:
                break
            self._queue.take(request)
        self._free_s = self.now_s + batch.seconds
        return taken

    def _encode(self, requests: Sequence[_Request]) -> Iterator[float]:
        num_rows = sum(request.asked.work.num_events for request in requests)
        slowness = sum(request.slowness for request in requests) / len(requests)
        began_s = self.now_s
        yield slowness * self._costs.engine.encode_ms(len(requests), num_rows) / 1000
        paid_rows = sum(request.asked.work.encode_rows for request in requests)
        self._pace.encoded(paid_rows, self.now_s - began_s)
        if aside_s := self._costs.aside_ms / 1000:
            for _ in requests:
                self._on_loop(aside_s, lambda: None)

    def _score(self, requests: Sequence[_Request]) -> Iterator[float]:
        """A pass, filled as `Ranker` fills it."""
        size = room = self._costs.microbatch
        row_s, chosen = self._pace.candidate_s, []
        for request in sorted(requests, key=lambda r: r.deadline.at_s + r.num_left * row_s):
            part = min(size, request.num_left)
            if part <= room:
                room -= part
                request.num_left -= part
                chosen.append(request)
        slowness = sum(request.slowness for request in chosen) / len(chosen)
        began_s = self.now_s
        yield slowness * self._costs.engine.score_ms(size - room) / 1000
        self._pace.scored(size - room, self.now_s - began_s)

    def _goes_on(self, request: _Request) -> bool:
        has_time = self.now_s < request.deadline.at_s
        if request.num_left and has_time:
            return True
        if request.is_stale and has_time:
            request.is_stale, request.num_left = False, request.asked.work.num_candidates
            self._on_loop(self._costs.redis.fetch_ms / 1000, lambda: self._submit(request))
        else:
            self._on_loop(request.path_s / 2, lambda: self._leave(request))
        return False

    def _leave(self, request: _Request) -> None:
        beyond_ms = self._costs.beyond_ms / 2
        if request.num_left:
            self._num_cut += 1
        else:
            latency_ms = 1000 * (self.now_s - request.asked.at_s) + beyond_ms
            self.latencies_ms.append(latency_ms)
        self.at(self.now_s + beyond_ms / 1000, self.on_answer)

    def outcome(self) -> Outcome:
        elapsed_s = max(self.now_s, 1e-9)
        return Outcome(
            elapsed_s=elapsed_s,
            latencies_ms=self.latencies_ms,
            num_refused=self._num_refused,
            num_cut=self._num_cut,
            engine_busy=self._engine.busy_s / elapsed_s,
            loop_busy=self._loop.busy_s / elapsed_s,
            mean_batch=self._num_batched / max(self._num_batches, 1),
        )
