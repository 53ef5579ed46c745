"""Owns one of several processes that add events of the same users at once, each as a replica does.

Run as a program with the checkpoint's folder, the store's URL, the number of users, how many
writers there are and which of them this is; exits with 1 if an event was not stored.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cache import RedisStore
from model.checkpoint import Checkpoint, load
from model.engine.engine import Engine
from model.history import Event
from service.codec import StateCodec
from service.device_tier import DeviceTier
from service.metrics import Metrics
from service.served_model import engine_thread
from service.settings import Settings
from service.states import UserStates
from service.updates import Offer, Updates

EVENTS_PER_USER = 100
_USERS_AT_ONCE = 4
_OFFER = 5
"""Events at most in one offer."""


def events_of(user: int, num_items: int) -> list[Event]:
    """A user's whole history in order of time, the same wherever it is made."""
    draw = random.Random(user)
    return [
        Event(draw.randrange(num_items), draw.randrange(4), 1_500_000_000 + 1000 * number)
        for number in range(EVENTS_PER_USER)
    ]


def share_of(user: int, writer: int, num_writers: int, num_items: int) -> list[list[Event]]:
    """The offers of one writer: its part of the history, and now and then another's event."""
    draw = random.Random(user * num_writers + writer)
    history = events_of(user, num_items)
    owners = random.Random(user)
    mine = [
        event
        for event in history
        if owners.randrange(num_writers) == writer or draw.random() < 0.05
    ]
    offers = []
    while mine:
        size = draw.randint(1, _OFFER)
        offers.append(mine[:size])
        mine = mine[size:]
    return offers


@asynccontextmanager
async def replica(checkpoint: Checkpoint, url: str) -> AsyncIterator[tuple[UserStates, Updates]]:
    """What a service has between a request and the store."""
    store = RedisStore.from_url(url, ttl_s=3600, timeout_s=30.0)
    engine = Engine(checkpoint.network)
    thread = engine_thread(engine, Settings(), Metrics())
    codec = StateCodec(checkpoint.config, checkpoint.digests().fingerprint, engine.pool)
    device = DeviceTier(1 << 24)
    states = UserStates(store, codec, engine.empty_state, device, Metrics())
    try:
        yield states, Updates(checkpoint, thread, states, Metrics())
    finally:
        await thread.close()
        await store.close()


async def write(checkpoint: Checkpoint, url: str, users: int, writers: int, writer: int) -> int:
    """How many offers were not stored."""
    num_lost, places = 0, asyncio.Semaphore(_USERS_AT_ONCE)
    async with replica(checkpoint, url) as (states, updates):

        async def write_user(user: int) -> None:
            nonlocal num_lost
            async with places:
                for events in share_of(user, writer, writers, checkpoint.config.num_items):
                    async with states.turn(str(user)):
                        loaded = await states.load(str(user))
                        offer = Offer(events, replace=False, missing_item_ids=[])
                        applied = updates.apply(offer, loaded.stored.state.history)
                        outcome = await updates.store(str(user), loaded, applied)
                        num_lost += not outcome.stored

        await asyncio.gather(*(write_user(user) for user in range(users)))
    return num_lost


if __name__ == "__main__":
    folder, url, *numbers = sys.argv[1:]
    users, writers, writer = map(int, numbers)
    sys.exit(min(1, asyncio.run(write(load(Path(folder)), url, users, writers, writer))))
