"""Owns a product that asks the service: it knows every history, and repairs what the service lost.

It sends what is new, tells with each request how many events there are, and sends the whole history
the next time when an answer says that fewer are held or that nothing could be stored. Never judges
an answer: it keeps what is needed to do so.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from loadtests.answer import Answer
from loadtests.traffic import Traffic, Visit

EVENTS_SHARE: Final = 0.3
NEW_SHARE: Final = 0.1
_LOST: Final = {"store_unavailable", "history_incomplete", "not_stored"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer of `/recommend`, and what was known when it was asked for."""

    at_s: float
    user_id: str
    num_known: int  # events, those that came with the request included
    num_carried: int
    request_time: int
    body: Mapping[str, Any]


@dataclass(slots=True)
class _Known:
    """A user's history, in order of time."""

    events: list[Mapping[str, Any]] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    """Times of events that the service said it had stored, or was seen to hold."""
    is_whole: bool = True
    """Whether the service may be taken to hold all that it was sent."""

    def learn(self, events: list[Mapping[str, Any]]) -> None:
        """Those that were not accepted come again."""
        last = self.events[-1]["timestamp"] if self.events else -1
        self.events += [event for event in events if event["timestamp"] > last]


class Product:
    """Turns for an open load. `began_s` is the run's beginning, of `time.perf_counter`."""

    def __init__(self, traffic: Traffic, *, seed: int, began_s: float) -> None:
        self._traffic, self._began_s = traffic, began_s
        self._draw = Random(f"{seed}:product")
        self._known: dict[str, _Known] = {}
        self.given: list[Given] = []

    def begin(self) -> Visit | None:
        users = ("event-only", "new", "returning")
        weights = (EVENTS_SHARE, NEW_SHARE, 1 - EVENTS_SHARE - NEW_SHARE)
        visit = self._traffic.begin(self._draw.choices(users, weights)[0])
        if visit is None:
            return None
        body = dict(visit.body)
        known = self._known.setdefault(body["user_id"], _Known())
        known.learn(body["events"])
        if not known.is_whole:
            body |= {"events": list(known.events), "history_mode": "replace"}
        if visit.kind == "recommend":
            body["history_size"] = len(known.events)
        return replace(visit, body=body)

    def end(self, visit: Visit, answer: Answer, body: bytes) -> None:
        self._traffic.end(visit, accepted=answer.accepted)
        known = self._known[visit.body["user_id"]]
        is_replaced = "history_mode" in visit.body
        if not answer.is_ok:
            return
        lost = _LOST.intersection(answer.degraded) or answer.cache_status == "error"
        known.is_whole = not lost and (known.is_whole or is_replaced)
        if visit.kind == "recommend":
            self._keep(visit, known, answer, json.loads(body))
        elif not lost:
            known.acknowledged |= {event["timestamp"] for event in visit.body["events"]}

    def acknowledged(self) -> dict[str, int]:
        """By user, how many events the service has to hold."""
        return {
            user_id: len(known.acknowledged)
            for user_id, known in self._known.items()
            if known.acknowledged
        }

    def history(self, given: Given) -> list[Mapping[str, Any]]:
        """As it was known when the answer was given."""
        return self._known[given.user_id].events[: given.num_known]

    def _keep(self, visit: Visit, known: _Known, answer: Answer, body: Mapping[str, Any]) -> None:
        given = Given(
            at_s=time.perf_counter() - self._began_s,
            user_id=visit.body["user_id"],
            num_known=len(known.events),
            num_carried=len(visit.body["events"]),
            request_time=visit.body["request_time"],
            body=body,
        )
        self.given.append(given)
        if answer.complete and answer.cache_status == "hit":
            # All that `history_size` told of was held, but for what came with the request.
            held = known.events[: given.num_known - given.num_carried]
            known.acknowledged |= {event["timestamp"] for event in held}
