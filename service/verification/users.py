"""Owns the users that verification samples: real demo histories, and made-up ones with every
awkwardness a history can have. Seeded, so that a finding can be shown again.

Never computes scores.
"""

import json
import random
import uuid
from dataclasses import dataclass
from pathlib import Path

import torch

from model.checkpoint import Checkpoint
from model.history import EMPTY, Event, History
from model.training.demo import FILE

_START_S = 1_500_000_000
_GAPS_S = (0, 0, 1, 7, 60, 61, 3_600, 86_400, 5_000_000)


@dataclass(frozen=True, slots=True)
class VerifiedUser:
    """A user's events in order of time, what is asked, and when."""

    user_id: str
    events: list[Event]
    history: History  # the events in one piece, cut to the window
    request_time: int  # Unix seconds
    candidates: list[int]

    def candidate_tensor(self) -> torch.Tensor:
        return torch.tensor(self.candidates)


def sample_users(
    checkpoint: Checkpoint, folder: Path, count: int, num_candidates: int, seed: int
) -> list[VerifiedUser]:
    """Histories of 0, 1, 2 events, of a full window, one more, and of any length between."""
    rng, run_id = random.Random(seed), uuid.uuid4().hex[:12]  # never an earlier run's states
    capacity = checkpoint.config.window.capacity
    special = [0, 1, 2, capacity, capacity + 1, 2 * capacity + 3]
    real = _demo_events(checkpoint, folder)
    users = []
    for number in range(count):
        if number < len(special):
            events = _made_up(checkpoint, rng, special[number])
        elif real and number % 2:
            events = real[number // 2 % len(real)]
        else:
            events = _made_up(checkpoint, rng, rng.randint(3, capacity + capacity // 2))
        history, _ = EMPTY.merge(events, checkpoint.config.window)
        last = events[-1].timestamp if events else _START_S
        users.append(
            VerifiedUser(
                user_id=f"verify-{run_id}-{number}",
                events=events,
                history=history,
                request_time=last + rng.choice(_GAPS_S),
                candidates=_candidates(checkpoint, rng, events, num_candidates),
            )
        )
    return users


def example_histories(checkpoint: Checkpoint, folder: Path) -> list[History]:
    """Those that come with a checkpoint, cut to its window; none if there are none."""
    window = checkpoint.config.window
    return [EMPTY.merge(events, window)[0] for events in _demo_events(checkpoint, folder)]


def _made_up(checkpoint: Checkpoint, rng: random.Random, length: int) -> list[Event]:
    """Ties in time, jumps of months, events without an action; no event twice."""
    events: dict[Event, None] = {}
    now = _START_S
    while len(events) < length:
        now += rng.choice(_GAPS_S)
        item = rng.randrange(len(checkpoint.items))
        events[Event(item, rng.randrange(len(checkpoint.config.actions) + 1), now)] = None
    return list(events)


def _candidates(
    checkpoint: Checkpoint, rng: random.Random, events: list[Event], count: int
) -> list[int]:
    """A third of them the user has had, as far as there are so many, in the window or before."""
    had = sorted({event.item for event in events})
    some = rng.sample(had, min(len(had), count // 3))
    others = sorted(set(range(len(checkpoint.items))).difference(some))
    candidates = some + rng.sample(others, count - len(some))
    rng.shuffle(candidates)
    return candidates


def _demo_events(checkpoint: Checkpoint, folder: Path) -> list[list[Event]]:
    path = folder / FILE
    if not path.is_file():
        return []
    index, actions = checkpoint.items.index, checkpoint.config.action_index
    return [
        [
            Event(index[event["item_id"]], actions[event["action"]], event["timestamp"])
            for event in body["events"]
        ]
        for body in json.loads(path.read_text(encoding="utf-8"))
    ]
