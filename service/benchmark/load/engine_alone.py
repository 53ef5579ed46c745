"""Owns the engine without a service: the same requests as method calls, in a process of its own.

`python -m service.benchmark.load.engine_alone CHECKPOINT THREADS` reads messages and answers each
(`worker.py`). The first is the plan, whose answer names the kernels. Only the engine's calls are
timed: histories are merged and jobs made beforehand.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.allocator import keep_freed_memory
from model.checkpoint import load
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch, microbatches
from model.engine.state import UserState
from model.history import Event, History
from service.benchmark.engine.passes import of_live
from service.benchmark.load.traffic import Plan, Visitor, request_time, visitors

MICROBATCH = 512


class _Held:
    """A user's state, and what the user does next."""

    def __init__(self, engine: Engine, visitor: Visitor) -> None:
        self._visitor, self._window = visitor, engine.config.window
        history = History.of(Event(*event) for event in visitor.history)
        (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history)])
        self.state: UserState = encoded.state
        self.candidates: Tensor = torch.tensor(visitor.candidates, device=engine.device)

    def next_job(self) -> EncodeJob:
        event = self._visitor.next_event()
        history, _ = self.state.history.merge([Event(*event)], self._window)
        return EncodeJob(self.state, history, request_time(event))


class EngineAlone:
    """All users of a plan, taken in turns."""

    def __init__(self, engine: Engine, plan: Plan) -> None:
        self._engine = engine
        self._users = [_Held(engine, visitor) for visitor in visitors(plan)]

    def requests(self, together: int, seconds: float) -> list[float]:
        """So many requests at a time, for `seconds` in all; the seconds of each time."""
        times: list[float] = []
        while sum(times) < seconds:
            users, self._users = self._users[:together], self._users[together:]
            self._users += users
            jobs = [user.next_job() for user in users]
            began = time.perf_counter()
            states = run_engine(self._engine, jobs, [user.candidates for user in users])
            times.append(time.perf_counter() - began)
            for state, user in zip(states, users, strict=True):
                user.state = state
        return times


def run_engine(
    engine: Engine, jobs: Sequence[EncodeJob], candidates: Sequence[Tensor]
) -> list[UserState]:
    """All calls for these requests, each with its own (M,) candidates; the states they leave."""
    encoded = engine.encode(jobs)
    lives = [of_live(each.live) for each in encoded]
    engine.retrieve_all(lives)
    batches: list[Microbatch] = []
    for live, items in zip(lives, candidates, strict=True):
        batches += microbatches(live, items, MICROBATCH)
    engine.score(batches)
    return [each.state for each in encoded]


def main(folder: Path, threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
    plan = Plan(**json.loads(sys.stdin.readline())["plan"])
    engine = Engine(load(folder).network)
    alone = EngineAlone(engine, plan)
    _say(engine.kernels)
    for line in sys.stdin:
        _say(alone.requests(**json.loads(line)))


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
