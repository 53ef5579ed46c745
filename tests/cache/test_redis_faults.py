"""A network and a server that fail in the middle: misses, whole states, and a pause in asking."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest
import redis.asyncio

from cache import BreakerChange, BreakerState, Entry, RedisStore, StateKey, StoreUnavailable
from cache.breaker import NUM_FAILURES
from cache.redis.client import RedisClient
from cache.redis.node import Session
from tests.cache.entries import ALICE, BOB, FINGERPRINT, make_entry, put
from tests.cache.operations import OPERATIONS
from tests.cache.proxy import Proxy, proxy
from tests.cache.waiting import NO_HANG_S, eventually, until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

TTL_S = 100
PAYLOAD_BYTES = 5000


@pytest.fixture
async def faulty(spare_redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxy(spare_redis_server.port) as made:
        yield made


def store_behind(faulty: Proxy, timeout_s: float = 5.0, max_connections: int = 16) -> RedisStore:
    url = f"redis://127.0.0.1:{faulty.port}"
    return RedisStore.from_url(
        url, ttl_s=TTL_S, timeout_s=timeout_s, max_connections=max_connections
    )


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


REPLIES = [b":5", b"+OK", b"$-1", b"*-1", b"*0", b"*1\r\n:1", b"$3\r\nabc", b"-ERR no", b"rubbish"]
REPLIES += [b"-MOVED", b"-MOVED 1", b"-MOVED 1 :x", b"-ASK 1 nowhere", b"-MOVED 1 127.0.0.1:1"]
REPLIES += [b"-NOAUTH", b"\x00", b"*1\r\n*0", b"*1\r\n$1\r\nx"]
REPLIES += [  # What a step of a scan, an address, slots and INFO are not
    b"*2\r\n$1\r\nx\r\n*0",
    b"*2\r\n:0\r\n*0",
    b"*2\r\n$1\r\n0\r\n*1\r\n:5",
    b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\n\xff",
    b"*2\r\n$1\r\n\xff\r\n$1\r\n1",
    b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n99999",
    b"*3\r\n:0\r\n:16383\r\n*1\r\n$1\r\nh",
    b"*1\r\n*3\r\n:0\r\n:9\r\n*0",
    b"*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$1\r\n\xff\r\n:1",
    b"*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$-1\r\n:99999",
    b"*1\r\n*3\r\n:0\r\n:9999999999\r\n*2\r\n$1\r\nh\r\n:1",
    b"*1\r\n*3\r\n:-9\r\n:9\r\n*2\r\n$1\r\nh\r\n:1",
    b"$34\r\nmaxmemory:-\xff\r\nmaxmemory_policy:-",
]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("kind", ["redis://{}", "redis+cluster://{}", "redis+sentinel://{}/main"])
async def test_whatever_a_server_answers_is_a_miss(kind: str, reply: bytes) -> None:
    """Nothing but StoreUnavailable leaves the store, and no state but a whole one is found."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while await reader.read(1 << 16):
                writer.write((reply + b"\r\n") * 3)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name, operation in OPERATIONS.items():
            # One each, so that no breaker stands before the later operations.
            store = RedisStore.from_url(kind.format(address), ttl_s=TTL_S, timeout_s=0.1)
            for _ in range(2):
                with suppress(StoreUnavailable):
                    found = await operation(store)
                    assert found is None or name not in ("get", "head", "peek", "look", "scan")
            await store.close()


@pytest.mark.parametrize("timeout_s", [None, NO_HANG_S])
async def test_a_bug_is_no_outage_and_leaves_no_reply_behind(
    redis_url: str, timeout_s: float | None
) -> None:
    client = RedisClient.from_url(redis_url, timeout_s=NO_HANG_S, max_connections=1)
    store = RedisStore(client, ttl_s=TTL_S)
    await put(store, ALICE, make_entry(ALICE))

    async def typing_error(session: Session) -> None:
        connection = session.connection
        await connection.send_packed_command(connection.pack_commands([("GET", ALICE.name)]))
        raise NameError("name 'undefined' is not defined")

    async def no_command(session: Session) -> None:
        await session.call(("GET", None))  # type: ignore[arg-type]

    for bug, raised in ((typing_error, NameError), (no_command, redis.DataError)):
        for _ in range(NUM_FAILURES):
            with pytest.raises(raised):
                await client.run(ALICE.name, bug, is_read=True, timeout_s=timeout_s)
            with pytest.raises(raised):
                await client.everywhere(bug)
            assert await store.get(BOB) is None
    assert client.num_skipped == 0
    await store.close()
