"""What only the Redis store has: a server that others write to, that hangs, and that dies."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import anyio
import pytest
import redis.asyncio

from cache import Entry, RedisStore, StateKey, StoreUnavailable
from tests.cache.entries import ALICE, BOB, FINGERPRINT, make_entry, put, seconds_to_live
from tests.cache.operations import OPERATIONS
from tests.cache.waiting import NO_HANG_S, eventually
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

TTL_S = 100


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore.from_url(redis_url, ttl_s=TTL_S, timeout_s=10.0)
    yield made
    await made.close()


async def test_stored_value_is_header_and_payload(
    store: RedisStore, client: redis.asyncio.Redis
) -> None:
    entry = make_entry(ALICE, b"payload")
    await put(store, ALICE, entry)
    assert await client.keys() == [ALICE.name.encode()]
    assert await client.get(ALICE.name) == entry.value()


async def test_every_key_expires_and_reading_renews(
    store: RedisStore, client: redis.asyncio.Redis
) -> None:
    for version in (1, 2):
        await put(store, ALICE, make_entry(ALICE, version=version))
        assert TTL_S - 60 < await client.ttl(ALICE.name) <= TTL_S
    await client.expire(ALICE.name, 30)
    assert await seconds_to_live(store, ALICE) in range(1, 31)
    await store.get(ALICE)
    assert TTL_S - 60 < await client.ttl(ALICE.name) <= TTL_S


async def test_swapped_values_are_misses(store: RedisStore, client: redis.asyncio.Redis) -> None:
    await client.set(ALICE.name, make_entry(BOB).value())
    await client.set(BOB.name, make_entry(ALICE).value())
    assert await store.get(ALICE) is None
    assert await store.get(BOB) is None
    assert await put(store, ALICE, make_entry(ALICE))
    assert await store.get(ALICE) == make_entry(ALICE)


async def test_foreign_fingerprint_is_a_miss(
    store: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.set(ALICE.name, make_entry(StateKey("alice", bytes(16))).value())
    assert await store.get(ALICE) is None


def with_flipped_payload(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        with_flipped_payload,
        lambda value: value[:-1],
        lambda value: value[:50],
        lambda value: value + b"\x00",
        lambda _: b"",
        lambda _: b"of another program",
    ],
    ids=["payload", "truncated", "short header", "longer", "empty", "foreign"],
)
async def test_damaged_value_is_a_miss_and_is_written_over(
    store: RedisStore, client: redis.asyncio.Redis, damage: Callable[[bytes], bytes]
) -> None:
    await client.set(ALICE.name, damage(make_entry(ALICE, version=7).value()))
    assert await store.get(ALICE) is None
    assert await put(store, ALICE, make_entry(ALICE, version=1))
    assert await store.get(ALICE) == make_entry(ALICE, version=1)


async def test_value_of_another_type_is_a_miss_and_is_written_over(
    store: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.hset(ALICE.name, "field", "value")
    assert await store.get(ALICE) is None
    assert await put(store, ALICE, make_entry(ALICE))
    assert await store.get(ALICE) == make_entry(ALICE)


async def test_refused_write_changes_nothing(
    store: RedisStore, client: redis.asyncio.Redis
) -> None:
    await put(store, ALICE, make_entry(ALICE, b"held"))
    await client.expire(ALICE.name, 30)
    assert not await store.put(ALICE, make_entry(ALICE, b"late"))
    assert await client.get(ALICE.name) == make_entry(ALICE, b"held").value()
    assert await client.ttl(ALICE.name) <= 30


async def test_one_of_two_replicas_wins(redis_url: str) -> None:
    replicas = [RedisStore.from_url(redis_url, ttl_s=TTL_S, timeout_s=10.0) for _ in range(2)]
    for round_ in range(30):
        key = StateKey(f"user {round_}", FINGERPRINT)
        entries = [make_entry(key, payload) for payload in (b"first", b"second")]
        stored = await asyncio.gather(
            *(put(replica, key, entry) for replica, entry in zip(replicas, entries, strict=True))
        )
        assert sorted(stored) == [False, True]
        for replica in replicas:
            assert await replica.get(key) == entries[stored.index(True)]
    for replica in replicas:
        await replica.close()


async def test_delete_and_write_race_leaves_all_or_nothing(store: RedisStore) -> None:
    for _ in range(20):
        await store.delete(ALICE)
        await put(store, ALICE, make_entry(ALICE, b"old"))
        new = make_entry(ALICE, b"new", version=2)
        stored, _ = await asyncio.gather(put(store, ALICE, new), store.delete(ALICE))
        assert await store.get(ALICE) in ([new, None] if stored else [None])


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


async def test_unix_socket(spare_redis_server: RedisServer) -> None:
    url = f"unix://{spare_redis_server.socket_path}?db=3"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    assert await put(store, ALICE, make_entry(ALICE))
    assert await store.get(ALICE) == make_entry(ALICE)
    await store.close()


async def test_url_that_asks_for_decoded_replies(redis_url: str) -> None:
    url = f"{redis_url}?decode_responses=yes"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    entry = make_entry(ALICE, bytes(range(256)))
    assert await put(store, ALICE, entry)
    assert not await put(store, ALICE, entry)
    assert await store.get(ALICE) == entry
    await store.close()


async def test_messages_keep_credentials_secret(spare_redis_server: RedisServer) -> None:
    address = spare_redis_server.url.removeprefix("redis://").removesuffix("/0")
    store = RedisStore.from_url(f"redis://somebody:hush%21@{address}", ttl_s=TTL_S, timeout_s=5.0)
    with pytest.raises(StoreUnavailable, match="check the user name and password") as refused:
        await store.ping()
    spare_redis_server.kill()
    with pytest.raises(StoreUnavailable, match="check that it runs") as unreachable:
        await store.ping()
    for raised in (refused, unreachable):
        assert address in str(raised.value)
        assert_keeps_secret(raised)
    await store.close()


async def test_server_that_echoes_the_credentials() -> None:
    """As a server does that does not know AUTH, or has renamed it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"-ERR unknown command 'AUTH', with args: 'somebody' 'hush!'\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"redis://somebody:hush%21@127.0.0.1:{port}"
        store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0)
        with pytest.raises(StoreUnavailable, match="unknown command 'AUTH'") as raised:
            await store.ping()
        assert_keeps_secret(raised)
        await store.close()


def assert_keeps_secret(raised: pytest.ExceptionInfo[StoreUnavailable]) -> None:
    """Neither the message nor the logged traceback, with its chain of causes, shows them."""
    logged = "".join(traceback.format_exception(raised.value))
    assert "hush" not in logged
    assert "somebody" not in logged


async def test_forgetting_finds_a_user_among_many_keys(
    store: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.mset({f"theirs:{n}": "x" for n in range(5_000)})
    keys = [StateKey("alice", bytes([n] * 16)) for n in range(3)]
    for key in keys:
        await put(store, key, make_entry(key))
    assert await store.delete(ALICE)
    assert not await client.keys("mf:*")
    assert await client.dbsize() == 5_000
