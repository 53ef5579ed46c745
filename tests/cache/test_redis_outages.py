"""A server that hangs, dies, is full or has no connection left: told, and left alone at last."""

import asyncio
import time
import zlib

import anyio
import pytest
import redis.asyncio

from cache import BreakerChange, BreakerState, Entry, RedisStore, StateKey, StoreUnavailable
from cache.breaker import NUM_FAILURES
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, put
from tests.cache.operations import OPERATIONS
from tests.cache.proxy import Proxy, store_behind
from tests.cache.waiting import NO_HANG_S, eventually
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_paused_server(spare_redis_server: RedisServer, operation: str) -> None:
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=0.2)
    await store.ping()
    spare_redis_server.pause()
    for _ in range(2):  # Over the connection that is open, then over a new one.
        with (
            anyio.fail_after(NO_HANG_S),
            pytest.raises(StoreUnavailable, match="raise the timeout"),
        ):
            await OPERATIONS[operation](store)
    spare_redis_server.resume()
    await eventually(store.ping)
    await store.close()


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_killed_server(spare_redis_server: RedisServer, operation: str) -> None:
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=5.0)
    await store.ping()
    spare_redis_server.kill()
    for _ in range(2):
        with (
            anyio.fail_after(NO_HANG_S),
            pytest.raises(StoreUnavailable, match="check that it runs"),
        ):
            await OPERATIONS[operation](store)
    spare_redis_server.start()
    await eventually(store.ping)
    assert await store.get(ALICE) is None
    await store.close()


async def test_busy_pool(spare_redis_server: RedisServer) -> None:
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=0.3)
    await store.ping()
    spare_redis_server.pause()
    with anyio.fail_after(NO_HANG_S):
        results = await asyncio.gather(
            *(store.get(ALICE) for _ in range(100)), return_exceptions=True
        )
    assert {type(result) for result in results} == {StoreUnavailable}
    assert any("all 16 connections are busy" in str(result) for result in results)
    spare_redis_server.resume()
    await eventually(store.ping)
    await store.close()


async def test_full_server_is_unavailable_for_writes_and_readable(
    spare_redis_server: RedisServer,
) -> None:
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=10.0)
    await put(store, ALICE, make_entry(ALICE))
    async with redis.asyncio.Redis.from_url(spare_redis_server.url) as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreUnavailable, match="allkeys-lru"):
        await put(store, BOB, make_entry(BOB, bytes(2 << 20)))
    assert await store.get(ALICE) == make_entry(ALICE)
    assert await store.get(BOB) is None
    await store.close()


async def test_a_silent_server_is_left_alone_though_nobody_waits_for_long(faulty: Proxy) -> None:
    store = store_behind(faulty, timeout_s=0.08)
    assert await eventually(lambda: put(store, ALICE, make_entry(ALICE)))
    faulty.is_silent = True
    with anyio.fail_after(NO_HANG_S):
        while not store.num_skipped_servers:
            with pytest.raises(StoreUnavailable):
                await store.get(ALICE, timeout_s=0.04)
    faulty.is_silent = False
    assert await eventually(lambda: store.get(ALICE)) == make_entry(ALICE)
    await store.close()


async def test_a_server_that_is_dead_is_left_alone_then_found_again(
    spare_redis_server: RedisServer,
) -> None:
    changes: list[BreakerChange] = []
    store = RedisStore.from_url(
        spare_redis_server.url, ttl_s=TTL_S, timeout_s=5.0, on_breaker=changes.append
    )
    assert await put(store, ALICE, make_entry(ALICE))
    spare_redis_server.kill()
    for _ in range(NUM_FAILURES):
        with pytest.raises(StoreUnavailable):
            await store.get(ALICE)
    assert store.num_skipped_servers == 1
    with pytest.raises(StoreUnavailable, match="given a pause"):
        await store.get(ALICE)
    opened = BreakerChange(changes[0].server, BreakerState.CLOSED, BreakerState.OPEN)
    assert changes[0] == opened
    assert opened.server in spare_redis_server.url
    spare_redis_server.start()
    assert await eventually(lambda: put(store, BOB, make_entry(BOB)))
    assert await store.get(BOB) == make_entry(BOB)
    assert store.num_skipped_servers == 0
    assert (changes[-1].before, changes[-1].after) == (BreakerState.HALF_OPEN, BreakerState.CLOSED)
    await store.close()


async def test_a_server_that_hangs_is_left_alone(faulty: Proxy) -> None:
    store = store_behind(faulty, timeout_s=0.1)
    faulty.is_silent = True
    results = await asyncio.gather(*(store.get(ALICE) for _ in range(40)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert store.num_skipped_servers == 1
    before = faulty.num_connections
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            await store.get(ALICE)
    # Skipped, but for a probe now and then.
    assert faulty.num_connections - before < 20
    faulty.is_silent = False
    assert await eventually(lambda: store.get(ALICE)) is None
    await store.close()


async def test_a_server_that_pauses_its_clients(spare_redis_server: RedisServer) -> None:
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=0.2)
    assert await put(store, ALICE, make_entry(ALICE))
    async with redis.asyncio.Redis.from_url(spare_redis_server.url) as client:
        await client.client_pause(600_000, all=False)
        with pytest.raises(StoreUnavailable, match="raise the timeout"):
            await store.get(ALICE)
        await client.client_unpause()
    assert await eventually(lambda: store.get(ALICE)) == make_entry(ALICE)
    await store.close()


async def test_error_replies_open_no_breaker(spare_redis_server: RedisServer) -> None:
    """A full server can still be read."""
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=5.0)
    assert await put(store, ALICE, make_entry(ALICE))
    async with redis.asyncio.Redis.from_url(spare_redis_server.url) as client:
        await client.config_set("maxmemory", "1mb")
    for _ in range(3 * NUM_FAILURES):
        with pytest.raises(StoreUnavailable, match="allkeys-lru"):
            await put(store, BOB, make_entry(BOB, bytes(2 << 20)))
    assert store.num_skipped_servers == 0
    assert await store.get(ALICE) == make_entry(ALICE)
    (policy,) = (await store.memory_policies()).values()
    assert (policy.max_bytes, policy.evicts) == (1 << 20, False)
    await store.close()


async def test_killed_in_the_middle_of_writes(spare_redis_server: RedisServer) -> None:
    """Every writer ends with an answer or as unavailable; what is found is whole and its own."""
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=2.0)
    stored, refused = asyncio.Event(), asyncio.Event()
    is_over = False

    async def write(number: int) -> None:
        key = StateKey(f"user {number}", FINGERPRINT)
        version = 1
        while not is_over:
            payload = bytes([number, version % 256]) * 100_000
            try:
                await put(store, key, make_entry(key, payload, version=version))
                stored.set()
                held = await store.get(key)
            except StoreUnavailable:
                refused.set()
                await asyncio.sleep(0.005)
                continue
            assert_whole(held, number)
            version = held.header.version + 1 if held else 1

    tasks = [asyncio.create_task(write(number)) for number in range(6)]
    try:
        for _ in range(3):
            for _ in range(12):
                stored.clear()
                await wait_for(stored)
            spare_redis_server.kill()
            refused.clear()
            await wait_for(refused)
            await asyncio.to_thread(spare_redis_server.start)
        assert await eventually(lambda: put(store, ALICE, make_entry(ALICE)))
    finally:
        is_over = True
        await asyncio.gather(*tasks)
    await store.close()


async def wait_for(event: asyncio.Event) -> None:
    with anyio.fail_after(NO_HANG_S):
        await event.wait()


def assert_whole(held: Entry | None, number: int) -> None:
    if held is not None:
        payload = bytes(held.payload)
        assert set(payload[::2]) == {number}
        assert len(set(payload[1::2])) == 1
        assert zlib.crc32(payload) == held.header.payload_crc32


@pytest.mark.parametrize("timeout_s", [None, 0.02])
@pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": use}) for use in (False, True)],
    ids=["asyncio", "uvloop"],
)
async def test_a_loop_that_is_held_up_says_nothing_about_the_server(
    spare_redis_server: RedisServer, timeout_s: float | None
) -> None:
    """Answers lie there while timers run out, those of the store and those of its callers."""
    changes: list[BreakerChange] = []
    url = spare_redis_server.url
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=0.05, on_breaker=changes.append)
    assert await eventually(lambda: put(store, ALICE, make_entry(ALICE)))
    for _ in range(3 * NUM_FAILURES):
        asked = asyncio.create_task(store.get(ALICE, timeout_s=timeout_s))
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - on purpose
        assert await asked == make_entry(ALICE)
    assert changes == []
    await store.close()
