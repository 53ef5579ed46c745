"""Calls that end in the middle, cut, timed out or cancelled: misses, and whole states."""

import asyncio
from contextlib import suppress

import anyio
import pytest
import redis.asyncio

from cache import Entry, RedisStore, StateKey, StoreUnavailable
from cache.breaker import NUM_FAILURES
from cache.redis.client import RedisClient
from cache.redis.node import Session
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, put
from tests.cache.proxy import Proxy, proxy, store_behind
from tests.cache.waiting import NO_HANG_S, until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

PAYLOAD_BYTES = 5000


@pytest.mark.parametrize("num_bytes", [0, 1, 5, 8, 100, 112, 3000, PAYLOAD_BYTES + 100])
async def test_a_reply_cut_anywhere_is_unavailable_then_right_again(
    faulty: Proxy, num_bytes: int
) -> None:
    store = store_behind(faulty)
    entry = make_entry(ALICE, bytes(PAYLOAD_BYTES))
    assert await put(store, ALICE, entry)
    # The second attempt of a read meets the cut as well.
    faulty.replies_left = num_bytes
    with pytest.raises(StoreUnavailable, match="check that it runs"):
        await store.get(ALICE)
    faulty.replies_left = None
    assert await store.get(ALICE) == entry
    await store.close()


@pytest.mark.parametrize("num_bytes", [0, 3, 5, 8, 60, 109, 112, 115, 120, 124])
async def test_a_write_cut_anywhere_is_whole_or_absent(faulty: Proxy, num_bytes: int) -> None:
    store = store_behind(faulty)
    old, new = make_entry(ALICE, b"old"), make_entry(ALICE, b"new", version=2)
    assert await put(store, ALICE, old)
    faulty.replies_left = num_bytes
    with pytest.raises(StoreUnavailable):
        await put(store, ALICE, new)
    faulty.replies_left = None
    assert await store.get(ALICE) in (old, new)
    await store.close()


async def test_a_lost_connection_costs_a_read_nothing(faulty: Proxy) -> None:
    """One more attempt, over a new connection."""
    store = store_behind(faulty, max_connections=1)
    assert await put(store, ALICE, make_entry(ALICE))

    async def heal() -> None:
        await until(lambda: faulty.replies_left == 0)
        faulty.replies_left = None

    faulty.replies_left = 7
    healing = asyncio.create_task(heal())
    assert await store.get(ALICE) == make_entry(ALICE)
    await healing
    assert faulty.num_connections == 2
    await store.close()


async def test_nothing_is_repeated_after_a_timeout(faulty: Proxy) -> None:
    store = store_behind(faulty, timeout_s=0.2)
    assert await put(store, ALICE, make_entry(ALICE))
    faulty.is_silent = True
    with pytest.raises(StoreUnavailable, match="raise the timeout"):
        await store.get(ALICE)
    assert faulty.num_connections == 1
    with pytest.raises(StoreUnavailable, match="raise the timeout"):
        await store.get(ALICE)
    assert faulty.num_connections == 2
    await store.close()


async def test_a_write_that_nobody_takes_is_given_up(faulty: Proxy) -> None:
    """And not repeated, whatever it was: the first may be taken yet."""
    url = f"redis://127.0.0.1:{faulty.port}"
    client = RedisClient.from_url(url, timeout_s=0.2, max_connections=1)

    async def write(session: Session) -> None:
        await session.call(("SET", "k", bytes(64 << 20)))

    await client.run("k", lambda session: session.call(("PING",)))
    faulty.is_deaf = True
    with anyio.fail_after(NO_HANG_S), pytest.raises(StoreUnavailable, match="writing a command"):
        await client.run("k", write, is_read=True)
    assert faulty.num_connections == 1
    await client.close()


async def test_a_caller_with_little_time_waits_no_longer(faulty: Proxy) -> None:
    """Against a timeout so long that the test would hang; and it opens no breaker."""
    store = store_behind(faulty, timeout_s=1000.0)
    assert await put(store, ALICE, make_entry(ALICE))
    faulty.is_silent = True
    with anyio.fail_after(NO_HANG_S):
        for timeout_s in (0.05, 0.0, *[0.01] * 3 * NUM_FAILURES):
            with pytest.raises(StoreUnavailable, match="no time left"):
                await store.get(ALICE, timeout_s=timeout_s)
        for call in (
            store.put(ALICE, make_entry(ALICE, version=2), timeout_s=0.01),
            store.load(ALICE, timeout_s=0.01),
            store.delete(ALICE, timeout_s=0.01),
            store.look(ALICE, timeout_s=0.01),
        ):
            with pytest.raises(StoreUnavailable, match="no time left"):
                await call
    faulty.is_silent = False
    assert store.num_skipped_servers == 0
    await store.get(ALICE)
    await store.close()


async def test_more_time_than_the_store_s_own_does_not_lengthen_it(faulty: Proxy) -> None:
    store = store_behind(faulty, timeout_s=0.1)
    assert await put(store, ALICE, make_entry(ALICE))
    faulty.is_silent = True
    with anyio.fail_after(NO_HANG_S), pytest.raises(StoreUnavailable, match="raise the timeout"):
        await store.get(ALICE, timeout_s=1000.0)
    await store.close()


async def test_a_cancelled_greeting_leaves_no_reply_behind(spare_redis_server: RedisServer) -> None:
    """AUTH and SELECT on their way when the caller leaves; the next must not read their replies."""
    async with proxy(spare_redis_server.port) as faulty:
        url = f"redis://127.0.0.1:{faulty.port}/3"
        store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0, max_connections=1)
        for i in range(30):
            task = asyncio.create_task(store.get(ALICE))
            for _ in range(i):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            key = StateKey(str(i), FINGERPRINT)
            assert await put(store, key, make_entry(key))
            assert await store.get(key) == make_entry(key)
            # Begin the next round without a connection.
            await store.close()
            store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0, max_connections=1)
        async with redis.asyncio.Redis(port=spare_redis_server.port, db=3) as client:
            assert await client.dbsize() == 30
        await store.close()


async def test_cancelled_reads_never_answer_another_caller(redis_url: str) -> None:
    """One connection, so that every read has to follow the cancelled one's reply."""
    store = RedisStore.from_url(redis_url, ttl_s=TTL_S, timeout_s=10.0, max_connections=1)
    large, small = make_entry(ALICE, bytes(8 << 20)), make_entry(BOB, b"small")
    await put(store, ALICE, large)
    await put(store, BOB, small)
    num_cancelled = 0
    for i in range(30):
        task = asyncio.create_task(store.get(ALICE))
        await asyncio.sleep(i * 0.0002)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        num_cancelled += task.cancelled()
        assert await store.get(BOB) == small
    assert num_cancelled > 0
    assert await store.get(ALICE) == large
    await store.close()


async def test_cancelled_writes_are_whole_or_absent(redis_url: str) -> None:
    store = RedisStore.from_url(redis_url, ttl_s=TTL_S, timeout_s=10.0, max_connections=1)
    written: list[Entry] = []
    held: Entry | None = None
    for i in range(30):
        version = held.header.version + 1 if held else 1
        new = make_entry(ALICE, bytes([i]) * (1 << 20), version=version)
        written.append(new)
        task = asyncio.create_task(put(store, ALICE, new))
        await asyncio.sleep(i * 0.0001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        found = await store.get(ALICE)
        # What was sent before the cancellation may still arrive after this read, but whole.
        assert found in written or (found is None and held is None)
        held = found
    assert held is not None
    await store.close()
