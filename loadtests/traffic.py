"""Seeded traffic: who returns, what they did since, and what they ask for.

Owns the simulated users and their clocks. Never sends anything, and never knows Locust.

A user's requests depend on the seed and the user alone, not on how the drivers interleave; only
the order in which users take turns depends on how fast the service answers.
"""

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TypedDict

from loadtests.catalogue import Catalogue

ZIPF_EXPONENT = 1.0
FIRST_EVENTS = (10, 150)
NEXT_EVENTS = (1, 3)
CANDIDATES = (50, 200)
CANDIDATES_SHARE = 0.5
NUM_RESULTS = 10

# Users live in their own time, far in the past: a busy one lives through years in one run,
# and none may reach the service's present.
EPOCH_S = 1_000_000_000
EPOCH_SPREAD_S = 30 * 86_400
SESSION_SHARE = 0.85
SESSION_GAP_S = (5, 180)
BREAK_MIN_S = 3_600
BREAK_MEAN_S = 1.5 * 86_400


class Event(TypedDict):
    """One event as `POST /recommend` takes it; the timestamp in Unix seconds."""

    item_id: str
    action: str
    timestamp: int


class Request(TypedDict, total=False):
    """The body of one `POST /recommend`; request_time in Unix seconds."""

    user_id: str
    events: list[Event]
    candidates: list[str]
    num_results: int
    exclude_seen: bool
    request_time: int


@dataclass(frozen=True, slots=True)
class Visit:
    """One user's turn: the user's popularity rank, from 0, and the request to send."""

    rank: int
    request: Request


class Zipf:
    """Draws ranks 0..size-1 with probability proportional to 1 / (rank + 1) ** exponent."""

    def __init__(self, size: int, exponent: float = ZIPF_EXPONENT) -> None:
        self._cumulative = list(accumulate((rank + 1) ** -exponent for rank in range(size)))

    def draw(self, rng: Random) -> int:
        last = len(self._cumulative) - 1
        return bisect(self._cumulative, rng.random() * self._cumulative[-1], hi=last)


class SimulatedUser:
    """One person: an identity, a clock that only moves forward, and events not yet accepted."""

    def __init__(self, user_id: str, catalogue: Catalogue, popularity: Zipf, rng: Random) -> None:
        self._user_id = user_id
        self._catalogue = catalogue
        self._popularity = popularity
        self._rng = rng
        self._now_s = EPOCH_S + rng.randrange(EPOCH_SPREAD_S)
        self._unsent = self._events(rng.randint(*FIRST_EVENTS))

    def request(self) -> Request:
        """The next request. Until `accepted`, its events are carried again, as a client retries."""
        if not self._unsent:
            self._unsent = self._events(self._rng.randint(*NEXT_EVENTS))
        request = Request(
            user_id=self._user_id,
            events=self._unsent,
            num_results=NUM_RESULTS,
            # A busy user has seen every sampled item: leaving those out would leave no work.
            exclude_seen=False,
            request_time=self._now_s + 1,
        )
        if self._rng.random() < CANDIDATES_SHARE:
            request["candidates"] = self._candidates()
        return request

    def accepted(self) -> None:
        self._unsent = []

    def _events(self, num_events: int) -> list[Event]:
        num_events = min(num_events, self._catalogue.max_events or num_events)
        return [self._event() for _ in range(num_events)]

    def _event(self) -> Event:
        self._now_s += self._gap_s()
        item_ids = self._catalogue.item_ids
        return Event(
            item_id=item_ids[self._popularity.draw(self._rng)],
            action=self._rng.choice(self._catalogue.actions),
            timestamp=self._now_s,
        )

    def _gap_s(self) -> int:
        """Seconds to the next event: mostly within a session, now and then hours or days."""
        if self._rng.random() < SESSION_SHARE:
            return self._rng.randint(*SESSION_GAP_S)
        return BREAK_MIN_S + int(self._rng.expovariate(1 / BREAK_MEAN_S))

    def _candidates(self) -> list[str]:
        item_ids = self._catalogue.item_ids
        num_candidates = self._rng.randint(*CANDIDATES)
        most = min(len(item_ids), self._catalogue.max_candidates or len(item_ids))
        return self._rng.sample(item_ids, min(num_candidates, most))


class Traffic:
    """Hands out turns to drivers; a user has one turn at a time, so events arrive in order.

    A busy user's turn goes to another draw, which flattens the law a little when the drivers
    are many and the service slow.
    """

    def __init__(self, catalogue: Catalogue, *, population: int, seed: int, run_id: str) -> None:
        self._catalogue = catalogue
        self._population = population
        self._seed = seed
        self._run_id = run_id
        self._rng = Random(f"{seed}:turns")
        self._law = Zipf(population)
        self._popularity = Zipf(len(catalogue.item_ids))
        self._users: dict[int, SimulatedUser] = {}
        self._busy: set[int] = set()
        self._closed = False

    def begin(self) -> Visit | None:
        """Draw a user who is not busy; the turn lasts until `end`. None after `close`.

        Raises RuntimeError when all are busy.
        """
        if self._closed:
            return None
        if len(self._busy) == self._population:
            raise RuntimeError("more drivers than users in the population")
        rank = self._law.draw(self._rng)
        while rank in self._busy:
            rank = self._law.draw(self._rng)
        self._busy.add(rank)
        if rank not in self._users:
            self._users[rank] = self._create(rank)
        return Visit(rank, self._users[rank].request())

    def end(self, visit: Visit, *, accepted: bool) -> None:
        """Finish a turn; events that were not accepted are sent again with the user's next."""
        if accepted:
            self._users[visit.rank].accepted()
        self._busy.remove(visit.rank)

    def close(self) -> None:
        """No more turns; those under way may end."""
        self._closed = True

    def _create(self, rank: int) -> SimulatedUser:
        # The run's id keeps runs from meeting each other's states; the events follow the seed.
        user_id = f"load-{self._run_id}-{rank}"
        rng = Random(f"{self._seed}:{rank}")
        return SimulatedUser(user_id, self._catalogue, self._popularity, rng)
