"""Owns the fixtures of the stores' tests: each of them, and each kind of server, empty."""

from collections.abc import AsyncIterator, Iterator

import pytest

from cache import MemoryStore, RedisStore, StateStore
from tests.cache.entries import TTL_S
from tests.cache.proxy import Proxy, proxy
from tests.redis_server import RedisServer
from tests.redis_topologies import Cluster, SentinelPair, client_of, cluster, sentinel_pair


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


@pytest.fixture
async def faulty(spare_redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """A network before a server, that fails when told to."""
    async with proxy(spare_redis_server.port) as made:
        yield made


@pytest.fixture(scope="package")
def shared_cluster() -> Iterator[Cluster]:
    with cluster(3) as made:
        yield made


@pytest.fixture
def nodes(shared_cluster: Cluster) -> Cluster:
    """Servers of a cluster that all run, at the beginning and at the end of the test."""
    for node in shared_cluster.nodes:
        with client_of(node) as client:
            client.flushall()
    return shared_cluster


@pytest.fixture(scope="package")
def shared_pair() -> Iterator[SentinelPair]:
    with sentinel_pair() as made:
        yield made


@pytest.fixture
def pair(shared_pair: SentinelPair) -> SentinelPair:
    """Both of its servers run, at the beginning and at the end of the test."""
    with client_of(shared_pair.primary) as client:
        client.flushall()
    return shared_pair
