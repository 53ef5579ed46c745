"""States behind sentinels: the primary is found, and found again after a failover."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from cache import RedisStore, StateKey, StoreUnavailable
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, put
from tests.cache.waiting import eventually
from tests.redis_topologies import SentinelPair, client_of, sentinel_pair

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(pair: SentinelPair) -> AsyncIterator[RedisStore]:
    made = RedisStore.from_url(pair.url, ttl_s=TTL_S, timeout_s=5.0)
    yield made
    await made.close()


async def test_states_are_on_the_primary(store: RedisStore, pair: SentinelPair) -> None:
    assert await put(store, ALICE, make_entry(ALICE))
    assert not await put(store, ALICE, make_entry(ALICE))
    assert await store.get(ALICE) == make_entry(ALICE)
    assert await store.look(ALICE) is not None
    with client_of(pair.primary) as client:
        assert client.exists(ALICE.name)
    assert await store.delete(ALICE)
    assert await store.get(ALICE) is None
    await store.ping()


async def test_a_demoted_primary_costs_no_request(store: RedisStore, pair: SentinelPair) -> None:
    """Its connections close, or it refuses as READONLY: either way the sentinel is asked again."""
    assert await put(store, ALICE, make_entry(ALICE, b"before"))
    pair.fail_over()
    assert await store.get(ALICE) in (make_entry(ALICE, b"before"), None)
    assert await put(store, BOB, make_entry(BOB, b"after"))
    with client_of(pair.primary) as client:
        assert client.exists(BOB.name)


async def test_a_replica_that_was_the_primary_is_not_written_to(
    store: RedisStore, pair: SentinelPair
) -> None:
    """Demoted with the connections left open, so that only its READONLY tells."""
    (replica,) = (server for server in pair.servers if server is not pair.primary)
    wrong = RedisStore.from_url(replica.url, ttl_s=TTL_S, timeout_s=5.0)
    with pytest.raises(StoreUnavailable, match="this is a replica"):
        await wrong.get(ALICE)
    await wrong.close()
    route: Any = store._client._route
    await store.ping()
    route._primary = route._primary._replace(port=replica.port)
    key = StateKey("seen by no replica", FINGERPRINT)
    assert await put(store, key, make_entry(key))
    assert await store.get(key) == make_entry(key)
    with client_of(pair.primary) as client:
        assert client.exists(key.name)


async def test_requests_in_the_middle_of_a_failover(pair: SentinelPair) -> None:
    """Some are misses; none raises anything else, and what is found is somebody's own."""
    store = RedisStore.from_url(pair.url, ttl_s=TTL_S, timeout_s=1.0)
    is_over = False
    num_asked = 0

    async def use(number: int) -> None:
        nonlocal num_asked
        key = StateKey(f"user {number}", FINGERPRINT)
        version = 1
        while not is_over:
            num_asked += 1
            try:
                found = await store.get(key)
                assert found is None or found.payload == key.name.encode()
                version = found.header.version + 1 if found else 1
                await put(store, key, make_entry(key, key.name.encode(), version=version))
            except StoreUnavailable:
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(use(number)) for number in range(8)]
    try:
        await asyncio.to_thread(pair.fail_over)
    finally:
        is_over = True
        await asyncio.gather(*tasks)
    assert num_asked > 0
    key = StateKey("another", FINGERPRINT)
    assert await eventually(lambda: put(store, key, make_entry(key)))
    await store.close()


async def test_a_failover_with_the_primary_dead() -> None:
    with sentinel_pair() as pair:
        store = RedisStore.from_url(pair.url, ttl_s=TTL_S, timeout_s=1.0)
        assert await put(store, ALICE, make_entry(ALICE))
        dead = pair.primary
        dead.kill()
        with pytest.raises(StoreUnavailable, match="check that it runs"):
            await store.get(ALICE)
        assert await eventually(lambda: put(store, BOB, make_entry(BOB)))
        assert pair.primary is not dead
        await store.close()


async def test_sentinels_that_are_away_are_passed_over(pair: SentinelPair) -> None:
    here = pair.url.partition("127")[2]
    url = f"redis+sentinel://127.0.0.1:1,127{here}"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0)
    assert await put(store, ALICE, make_entry(ALICE))
    await store.close()
    store = RedisStore.from_url("redis+sentinel://127.0.0.1:1/main", ttl_s=TTL_S, timeout_s=5.0)
    for _ in range(10):
        with pytest.raises(StoreUnavailable, match=r"127.0.0.1:1 is unavailable"):
            await store.get(ALICE)
    assert store.num_skipped_servers == 1
    await store.close()


async def test_an_unknown_service_is_named_as_the_trouble(pair: SentinelPair) -> None:
    store = RedisStore.from_url(pair.url.replace("/main", "/other"), ttl_s=TTL_S, timeout_s=5.0)
    with pytest.raises(StoreUnavailable, match="check the service name"):
        await store.get(ALICE)
    await store.close()


async def test_passwords_of_servers_and_sentinels() -> None:
    with sentinel_pair("hush-data", "hush-sentinel") as pair:
        store = RedisStore.from_url(pair.url, ttl_s=TTL_S, timeout_s=5.0)
        assert await put(store, ALICE, make_entry(ALICE))
        assert await store.get(ALICE) == make_entry(ALICE)
        await store.close()
        for part in ("hush-data", "hush-sentinel"):
            wrong = RedisStore.from_url(
                pair.url.replace(part, f"wrong-{part}"), ttl_s=TTL_S, timeout_s=5.0
            )
            with pytest.raises(StoreUnavailable, match="check the user name and pass") as raised:
                await wrong.get(ALICE)
            assert "hush" not in str(raised.value)
            await wrong.close()


async def test_the_replica_holds_what_was_written(store: RedisStore, pair: SentinelPair) -> None:
    assert await put(store, ALICE, make_entry(ALICE))
    async with redis.asyncio.Redis(port=pair.primary.port) as client:
        assert await client.wait(1, 5000) == 1
