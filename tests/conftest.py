"""Owns the fixtures that more than one package's tests use."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio

from cache import RedisStore
from tests.cache.entries import TTL_S
from tests.redis_server import RedisServer, given_server, started

# Networks in tests are tiny: threads that spin for each other cost more than they give, above all
# beside the services that tests start. Set before anything imports torch, and inherited by those.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Triton's kernels run in its interpreter, on the CPU; set before anything imports Triton.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server that tests share; they leave it running."""
    given = given_server()
    if given is not None:
        yield given
        return
    with started() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty database."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture
def spare_redis_server() -> Iterator[RedisServer]:
    """A running server of this test's own, to kill and to pause."""
    with started() as server:
        yield server


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Redis-py's own client, to look and to meddle behind the store's back."""
    async with redis.asyncio.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
async def remote(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore.from_url(redis_url, ttl_s=TTL_S, timeout_s=10.0)
    yield made
    await made.close()
