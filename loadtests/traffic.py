"""Seeded traffic: whose turn it is, and with what kind of request.

Owns the population and who is busy. Never sends anything, and knows neither Locust nor asyncio:
any driver may begin turns and end them.

Only the order in which people take turns depends on how fast the service answers; what they do is
theirs (`loadtests.person`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from loadtests.catalogue import Catalogue
from loadtests.person import Person
from loadtests.zipf import Zipf

RETURNING: Final = "returning"
"""Somebody of the population: what is new and a list of items, of candidates or the catalogue."""
NEW: Final = "new"
"""Somebody seen for the first and last time, with a few events or none."""
RANKER: Final = "ranker"
"""Somebody of the population; always sends candidates."""
RETRIEVER: Final = "retriever"
"""Somebody of the population; never sends candidates."""
BULK: Final = "bulk"
"""Several of the population in one `POST /recommend/batch`."""
EVENT_ONLY: Final = "event-only"
"""Somebody of the population, who tells what is new and asks for nothing."""

MIX: Final[Mapping[str, float]] = {
    RETURNING: 0.5,
    NEW: 0.07,
    RANKER: 0.15,
    RETRIEVER: 0.1,
    BULK: 0.03,
    EVENT_ONLY: 0.15,
}
"""Shares of the turns."""

FIRST_EVENTS = (10, 150)
NEXT_EVENTS = (0, 3)
NEW_EVENTS = (0, 5)
CANDIDATES_SHARE = 0.5
BULK_PEOPLE = (2, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One turn: what to send, and for whom."""

    user: str  # of MIX
    kind: str  # recommend, events or batch
    path: str
    body: Mapping[str, Any]
    people: Sequence[Person] = field(repr=False)


class Traffic:
    """Hands out turns to drivers; a person has one turn at a time, so events arrive in order.

    A busy person's turn goes to another draw, which flattens the law a little when the drivers
    are many and the service slow.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        population: int,
        seed: int,
        run_id: str,
        past: tuple[int, int] = FIRST_EVENTS,
    ) -> None:
        """`run_id` keeps runs from meeting each other's states; the events follow the seed.

        `past`: between how many events people of the population begin with.
        """
        self._catalogue, self._past = catalogue, past
        self._population = population
        self._seed, self._run_id = seed, run_id
        self._rng = Random(f"{seed}:turns")
        self._law = Zipf(population)
        self._popularity = Zipf(len(catalogue.item_ids))
        self._people: dict[int, Person] = {}
        self._busy: set[str] = set()  # user ids
        self._num_new = 0
        self._closed = False

    def begin(self, user: str | None = None) -> Visit | None:
        """The next turn, of a kind of user of MIX or of one drawn; it lasts until `end`.

        None after `close`.

        Raises:
            RuntimeError: the whole population is busy.
        """
        if self._closed:
            return None
        user = user or self._rng.choices(list(MIX), list(MIX.values()))[0]
        if user == BULK:
            return self._bulk()
        if user == EVENT_ONLY:
            return _telling(self._returning(at_least=1))
        person = self._newcomer() if user == NEW else self._returning()
        return Visit(
            user=user,
            kind="recommend",
            path="/recommend",
            body=person.ask(with_candidates=self._with_candidates(user)),
            people=(person,),
        )

    def pasts(self) -> Iterator[Visit]:
        """A turn of each of the population, to tell what they did before; to be ended as others."""
        for rank in range(self._population):
            person = self._person(rank)
            self._busy.add(person.user_id)
            yield _telling(person)

    def end(self, visit: Visit, *, accepted: bool) -> None:
        """Finish a turn; events that were not accepted are sent again with the person's next."""
        for person in visit.people:
            if accepted:
                person.accepted()
            self._busy.discard(person.user_id)  # newcomers are not in it

    def close(self) -> None:
        """No more turns; those under way may end."""
        self._closed = True

    def _bulk(self) -> Visit:
        num_free = self._population - len(self._busy)
        most = self._catalogue.max_batch_users or num_free
        num_people = max(1, min(self._rng.randint(*BULK_PEOPLE), num_free, most))
        people = [self._returning() for _ in range(num_people)]
        asked = [each.ask(with_candidates=self._with_candidates(BULK)) for each in people]
        body = {"requests": asked}
        return Visit(user=BULK, kind="batch", path="/recommend/batch", body=body, people=people)

    def _with_candidates(self, user: str) -> bool:
        if user in (RANKER, RETRIEVER):
            return user == RANKER
        return self._rng.random() < CANDIDATES_SHARE

    def _returning(self, *, at_least: int = NEXT_EVENTS[0]) -> Person:
        if len(self._busy) == self._population:
            raise RuntimeError("more drivers than users in the population")
        person = self._person(self._law.draw(self._rng))
        while person.user_id in self._busy:
            person = self._person(self._law.draw(self._rng))
        self._busy.add(person.user_id)
        if not person.has_news:
            person.act(self._rng.randint(at_least, NEXT_EVENTS[1]))
        return person

    def _person(self, rank: int) -> Person:
        if rank not in self._people:
            self._people[rank] = self._created(f"{rank}", self._past)
        return self._people[rank]

    def _newcomer(self) -> Person:
        self._num_new += 1
        return self._created(f"new-{self._num_new}", NEW_EVENTS)

    def _created(self, name: str, num_past: tuple[int, int]) -> Person:
        seed = f"{self._seed}:{name}"
        past = Random(f"{seed}:past").randint(*num_past)
        user_id = f"load-{self._run_id}-{name}"
        return Person(user_id, self._catalogue, self._popularity, seed=seed, past=past)


def _telling(person: Person) -> Visit:
    return Visit(
        user=EVENT_ONLY, kind="events", path="/events", body=person.tell(), people=(person,)
    )
