"""Plays a log against a service: the past first, then event by event.

Owns when each step is played, and the three requests it takes: what the service would show, how it
thinks the event's item will be liked, and the event itself. Never computes a figure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from loadtests.answer import Answer
from loadtests.catalogue import Catalogue
from loadtests.person import Event
from loadtests.replay.client import Client
from loadtests.replay.log import Log, Step
from loadtests.replay.outcome import Outcome, place_of
from loadtests.traffic import EVENT_ONLY, RANKER, RETRIEVER, Visit

USUAL_RETRIEVED: Final = 200
"""Where the service does not say how many items it retrieves."""

HISTORY_INCOMPLETE: Final = "history_incomplete"
"""What an answer is degraded by when the service holds fewer events than there were."""

_MOST_EVENTS = 1000  # told at once, where the service does not say how many it takes
_ATTEMPTS = 20
_PAUSE_S = 0.25

Send: TypeAlias = Callable[[Visit], Awaitable[tuple[Answer, dict[str, Any]]]]
"""Gives the answer and its whole body, recorded or not."""


class PlayError(Exception):
    """The service did not take events, however often they were sent: what follows would be asked
    of another history than the log's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """As the log has it, `speed_up` times as fast; None: as fast as it is answered."""

    speed_up: float | None
    users_at_once: int


class Player:
    """Plays one log to one service.

    Its states are a cache: what it says it no longer holds of a history is told again.
    """

    def __init__(self, client: Client, catalogue: Catalogue, log: Log, run_id: str) -> None:
        """`run_id` keeps the users of a replay from meeting those of another."""
        self._client, self._log, self._run_id = client, log, run_id
        # All that are scored are asked for: the list comes by value, and a rank is by retrieval.
        self._num_results = catalogue.retrieval_candidates or USUAL_RETRIEVED
        self._most_events = catalogue.max_events or _MOST_EVENTS
        self.num_told_again = 0
        """Histories of which the service held less than it was told."""

    async def tell_past(self, num_last: int, users_at_once: int) -> None:
        """Bring the service's histories to where the steps begin; not recorded.

        Raises:
            ExceptionGroup: of PlayError.
        """
        free = asyncio.Semaphore(users_at_once)

        async def tell(user: int) -> None:
            async with free:
                await self._tell_whole(user, len(self._log.past(user, num_last)), self._client.send)

        async with asyncio.TaskGroup() as group:
            for user in range(len(self._log.users)):
                group.create_task(tell(user))

    async def play(self, steps: list[Step], pace: Pace, on_step: Callable[[Outcome], None]) -> None:
        """All steps in order of time; one user's wait for each other.

        Raises:
            ExceptionGroup: of PlayError.
        """
        free = asyncio.Semaphore(pace.users_at_once)
        turns = {step.user: asyncio.Lock() for step in steps}
        first = steps[0].event["timestamp"]
        since_s = self._client.now_s

        async def play(step: Step, due_s: float | None) -> None:
            try:
                async with turns[step.user]:  # those who wait are served in order
                    on_step(await self._step(step, due_s))
            finally:
                free.release()

        async with asyncio.TaskGroup() as group:
            for step in steps:
                due_s = None
                if pace.speed_up is not None:
                    due_s = since_s + (step.event["timestamp"] - first) / pace.speed_up
                    await asyncio.sleep(max(0.0, due_s - self._client.now_s))
                await free.acquire()
                group.create_task(play(step, due_s))

    async def _step(self, step: Step, due_s: float | None) -> Outcome:
        """`due_s`: when its first request was to be sent; the others follow upon its answer."""
        item_id = step.event["item_id"]
        shown = await self._ask(step, due_s, user=RETRIEVER, num_results=self._num_results)
        liked = await self._ask(
            step, None, user=RANKER, candidates=[item_id], num_results=1, exclude_seen=False
        )
        await self._tell(step.user, (step.event,), self._client.record)
        rank, place = place_of(item_id, shown)
        return Outcome(
            rank=rank,
            place=place,
            action=step.event["action"],
            probabilities=next((each["actions"] for each in liked), None),
        )

    async def _ask(
        self, step: Step, due_s: float | None, *, user: str, **wanted: Any
    ) -> list[dict[str, Any]]:
        """The items of the answer; none where there is no answer."""
        body = {
            "user_id": self._user_id(step.user),
            "request_time": step.event["timestamp"],
            "history_size": step.num_past,
            "include": ["parts"],
            **wanted,
        }
        visit = Visit(user=user, kind="recommend", path="/recommend", body=body, people=())
        answer, told = await self._client.record(visit, due_s)
        if HISTORY_INCOMPLETE in answer.degraded:
            self.num_told_again += 1
            await self._tell_whole(step.user, step.num_past, self._client.record)
            _, told = await self._client.record(visit)
        items: list[dict[str, Any]] = told.get("items", [])
        return items

    async def _tell_whole(self, user: int, num_past: int, send: Send) -> None:
        """The first events of a user, in the place of what is held."""
        past = self._log.histories[user][:num_past]
        for start in range(0, num_past, self._most_events):
            part = past[start : start + self._most_events]
            await self._tell(user, part, send, mode="append" if start else "replace")

    async def _tell(
        self, user: int, events: Iterable[Event], send: Send, mode: str = "append"
    ) -> None:
        """Until they are taken: a service that is overloaded asks for that."""
        body = {"user_id": self._user_id(user), "events": list(events), "history_mode": mode}
        visit = Visit(user=EVENT_ONLY, kind="events", path="/events", body=body, people=())
        for _ in range(_ATTEMPTS):
            answer, _ = await send(visit)
            if answer.accepted:
                return
            await asyncio.sleep(_PAUSE_S)
        raise PlayError(
            f"events were refused {_ATTEMPTS} times, at last with {answer.status} {answer.code}"
        )

    def _user_id(self, user: int) -> str:
        return f"replay-{self._run_id}-{user}"
