"""Owns the fixture of the stores' tests: each of them, empty."""

from collections.abc import AsyncIterator

import pytest

from cache import MemoryStore, RedisStore, StateStore
from tests.cache.entries import TTL_S


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    made: StateStore
    if request.param == "memory":
        made = MemoryStore(max_bytes=1 << 26, ttl_s=TTL_S)
    else:
        url = request.getfixturevalue("redis_url")
        made = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    assert made.tier == request.param
    yield made
    await made.close()
