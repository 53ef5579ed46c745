"""Owns the made-up users of a benchmark: seeded histories, and states that the engine made of them.

Each user's keys and values lie in pages of their own, as users' do: those of one user, many times
over, would be found in the processor's cache.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import History
from service.benchmark.shapes import NUM_ITEMS, Shape

MANY_NEW = 16
"""Events in the longer of the two extends."""

_START_S = 1_500_000_000


@dataclass(frozen=True, slots=True)
class User:
    """One who returns with a request."""

    history: History
    request_time: int  # Unix seconds
    candidates: Tensor  # (M,) int64
    without_newest: dict[int, UserState]  # by how many of the newest events it lacks: 1 or MANY_NEW
    live: LiveUser

    def job(self, state: UserState) -> EncodeJob:
        """Bring `state` to the whole history and run the pending row."""
        return EncodeJob(state, self.history, self.request_time)


def make_users(engine: Engine, shape: Shape, count: int) -> list[User]:
    """They share all but their last events, so that one prefill is enough for all of them."""
    num_shared = shape.num_events - MANY_NEW - 1
    shared = random_history(num_shared)
    base = state_of(engine, shared)
    return [_user(engine, shape, shared, base) for _ in range(count)]


def _user(engine: Engine, shape: Shape, shared: History, base: UserState) -> User:
    history = random_history(shape.num_events, shared)
    state = UserState(shared, engine.pool.hold(base.keys, base.values))  # a copy
    states = {}
    for lacking in (MANY_NEW, 1):
        state = state_of(engine, history.cut(0, len(history) - lacking), state)
        states[lacking] = state
    candidates = torch.randint(NUM_ITEMS, (shape.num_candidates,)).to(engine.device)
    live = go_live(engine, history, state)
    return User(history, after(history), candidates, states, live)


def random_history(num_events: int, begin: History | None = None) -> History:
    """`num_events` events up to two hours apart, the first of which are those of `begin`."""
    count = num_events - (0 if begin is None else len(begin))
    start = _START_S if begin is None else int(begin.timestamps[-1])
    items = torch.randint(NUM_ITEMS, (count,))
    actions = torch.randint(1, 4, (count,))
    timestamps = torch.randint(7_200, (count,)).cumsum(0) + start
    if begin is None:
        return History(items, actions, timestamps)
    return History(
        torch.cat((begin.items, items)),
        torch.cat((begin.actions, actions)),
        torch.cat((begin.timestamps, timestamps)),
    )


def after(history: History) -> int:
    """A request time, Unix seconds."""
    return int(history.timestamps[-1]) + 60


def state_of(engine: Engine, history: History, start: UserState | None = None) -> UserState:
    job = EncodeJob(engine.empty_state() if start is None else start, history)
    return engine.encode([job])[0].state


def go_live(engine: Engine, history: History, state: UserState) -> LiveUser:
    live = engine.encode([EncodeJob(state, history, after(history))])[0].live
    assert live is not None
    return live
