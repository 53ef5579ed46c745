"""One simulated person: what they did, when, and what is asked for them.

Owns a person's clock and the events that the service has not taken yet. Never sends anything.

What a person does depends on the seed and the person alone, not on how often and by which kind of
request the service is asked meanwhile: doing and asking draw from random numbers of their own.
"""

from random import Random
from typing import TypedDict

from loadtests.catalogue import Catalogue
from loadtests.zipf import Zipf

# People live in their own time, far in the past: a busy one lives through years in one run,
# and none may reach the service's present.
EPOCH_S = 1_000_000_000
EPOCH_SPREAD_S = 30 * 86_400
SESSION_SHARE = 0.85
SESSION_GAP_S = (5, 180)
BREAK_MIN_S = 3_600
BREAK_MEAN_S = 1.5 * 86_400

# Most rankers hand over around a hundred candidates, some several times as many.
CANDIDATES_MEDIAN = 100
CANDIDATES_SIGMA = 0.6
CANDIDATES_MOST = 500
NUM_RESULTS = 10


class Event(TypedDict):
    """One event as the service takes it; the timestamp in Unix seconds."""

    item_id: str
    action: str
    timestamp: int


class Told(TypedDict):
    """The body of one `POST /events`."""

    user_id: str
    events: list[Event]


class Asked(Told, total=False):
    """The body of one `POST /recommend`; request_time in Unix seconds."""

    candidates: list[str]
    num_results: int
    exclude_seen: bool
    request_time: int


class Person:
    """An identity, a clock that only moves forward, and events not yet accepted."""

    def __init__(
        self, user_id: str, catalogue: Catalogue, popularity: Zipf, *, seed: str, past: int
    ) -> None:
        """`past`: how many events there are before the first request."""
        self.user_id = user_id
        self._catalogue = catalogue
        self._popularity = popularity
        self._doing, self._asking = Random(f"{seed}:doing"), Random(f"{seed}:asking")
        self._now_s = EPOCH_S + self._doing.randrange(EPOCH_SPREAD_S)
        self._unsent: list[Event] = []
        self.act(past)

    @property
    def has_news(self) -> bool:
        """Whether there are events that the service has not taken."""
        return bool(self._unsent)

    def act(self, num_events: int) -> None:
        """Do something, as far as one request can tell of it."""
        if most := self._catalogue.max_events:
            num_events = min(num_events, most - len(self._unsent))
        self._unsent += [self._event() for _ in range(num_events)]

    def tell(self) -> Told:
        """What is new. Until `accepted`, the same events are carried again, as a client retries."""
        return Told(user_id=self.user_id, events=list(self._unsent))

    def ask(self, *, with_candidates: bool) -> Asked:
        """What is new, and what to rank: candidates, or the catalogue."""
        asked = Asked(
            user_id=self.user_id,
            events=list(self._unsent),
            num_results=NUM_RESULTS,
            # A busy person has seen every sampled item: leaving those out would leave no work.
            exclude_seen=False,
            request_time=self._now_s + 1,
        )
        if with_candidates:
            asked["candidates"] = self._candidates()
        return asked

    def accepted(self) -> None:
        self._unsent = []

    def _event(self) -> Event:
        self._now_s += self._gap_s()
        item_ids = self._catalogue.item_ids
        return Event(
            item_id=item_ids[self._popularity.draw(self._doing)],
            action=self._doing.choice(self._catalogue.actions),
            timestamp=self._now_s,
        )

    def _gap_s(self) -> int:
        """Seconds to the next event: mostly within a session, now and then hours or days."""
        if self._doing.random() < SESSION_SHARE:
            return self._doing.randint(*SESSION_GAP_S)
        return BREAK_MIN_S + int(self._doing.expovariate(1 / BREAK_MEAN_S))

    def _candidates(self) -> list[str]:
        item_ids = self._catalogue.item_ids
        drawn = round(CANDIDATES_MEDIAN * self._asking.lognormvariate(0, CANDIDATES_SIGMA))
        most = min(len(item_ids), self._catalogue.max_candidates or len(item_ids), CANDIDATES_MOST)
        return self._asking.sample(item_ids, max(1, min(drawn, most)))
