"""A Redis that makes room by itself: misses, and nothing that a client could call an error."""

import random
from pathlib import Path

import pytest
import redis

from model.checkpoint import Checkpoint
from tests.redis_server import RedisServer
from tests.service.builders import ITEM_IDS, JSON, assert_right, make_events, serving

pytestmark = pytest.mark.anyio

ASKED: JSON = {"candidates": ITEM_IDS[::20], "exclude_seen": False, "include": ["parts"]}
NUM_REQUESTS, NUM_USERS = 300, 60
ROOM_BYTES, OTHERS_BYTES = 2_000_000, 40_000
"""Of the server, and of what others write to it between two requests."""


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-random"])
async def test_states_that_are_evicted_while_they_are_in_use_are_misses(
    folder: Path, spare_redis_server: RedisServer, checkpoint: Checkpoint, policy: str
) -> None:
    users = random.Random(0)
    num_events, statuses = dict[int, int](), set[str]()
    limits = {"store_timeout_ms": 10_000, "max_budget_ms": 60_000}
    with redis.Redis.from_url(spare_redis_server.url) as client:
        client.config_set("maxmemory-policy", policy)
        async with serving(folder, store=spare_redis_server.url, **limits) as service:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + ROOM_BYTES)
            for number in range(NUM_REQUESTS):
                client.set(f"other {number}", bytes(OTHERS_BYTES), ex=100)
                user = users.randrange(NUM_USERS)
                # Short of the window, so that all of them are held.
                num_events[user] = min(num_events.get(user, 3) + 1, 12)
                events = make_events(num_events[user])
                answer = await service.recommend(user_id=f"u{user}", events=events, **ASKED)
                statuses.add(answer["cache"]["status"])
                assert (answer["complete"], answer["degraded"]) == (True, [])
                assert_right(answer, checkpoint, events)
            await service.runtime.recommender().drain()
            metrics = (await service.client.get("/metrics")).text
        assert client.info("stats")["evicted_keys"] > NUM_USERS
    assert statuses == {"hit", "miss"}
    assert 'mfalcon_store_errors_total{op="' not in metrics
    assert 'status="500"' not in metrics
