"""Owns the traffic of a benchmark: returning users, each with a history and one event a request.

Never sends anything, and never imports torch: the client's process is to be light. A user's events
depend on the seed and the user alone, so that every contender gets the same.
"""

from dataclasses import asdict, dataclass
from random import Random
from typing import Any, NamedTuple

_START_S = 1_500_000_000
_MAX_GAP_S = 7200
NUM_RESULTS = 10


class Happened(NamedTuple):
    """An event in indices of the checkpoint's items and actions; `timestamp` in Unix seconds."""

    item: int
    action: int  # from 1; 0 where the model knows no actions
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the users are like."""

    num_users: int
    num_events: int  # before the first request, at least
    num_candidates: int
    num_items: int
    num_actions: int
    budget_ms: float
    seed: int
    num_phases: int = 1
    """Users begin with none to this many less one events more, spread evenly. Without that their
    windows are rebuilt all at once, and what a request takes depends on when it is sent."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Visitor:
    """One returning user."""

    def __init__(self, plan: Plan, place: int) -> None:
        self.user_id = f"user-{place}"
        self._plan, self._rng = plan, Random(f"{plan.seed}:{place}")
        self._now_s = _START_S
        num_more = place * plan.num_phases // plan.num_users
        self.history = [self.next_event() for _ in range(plan.num_events + num_more)]
        self.candidates = self._rng.sample(range(plan.num_items), plan.num_candidates)

    def next_event(self) -> Happened:
        """What the user does next."""
        rng, plan = self._rng, self._plan
        self._now_s += 1 + rng.randrange(_MAX_GAP_S)
        action = rng.randint(min(1, plan.num_actions), plan.num_actions)
        return Happened(rng.randrange(plan.num_items), action, self._now_s)


def request_time(event: Happened) -> int:
    """Of a request that brings this event, Unix seconds."""
    return event.timestamp + 60


def visitors(plan: Plan) -> list[Visitor]:
    return [Visitor(plan, place) for place in range(plan.num_users)]
