"""What only the Redis store has: a server that others write to, and the ways to it."""

import asyncio
import traceback
from collections.abc import Callable

import pytest
import redis.asyncio

from cache import RedisStore, StateKey, StoreUnavailable
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, put, seconds_to_live
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio


async def test_stored_value_is_header_and_payload(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    entry = make_entry(ALICE, b"payload")
    await put(remote, ALICE, entry)
    assert await client.keys() == [ALICE.name.encode()]
    assert await client.get(ALICE.name) == entry.value()


async def test_every_key_expires_and_reading_renews(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    for version in (1, 2):
        await put(remote, ALICE, make_entry(ALICE, version=version))
        assert TTL_S - 60 < await client.ttl(ALICE.name) <= TTL_S
    await client.expire(ALICE.name, 30)
    assert await seconds_to_live(remote, ALICE) in range(1, 31)
    await remote.get(ALICE)
    assert TTL_S - 60 < await client.ttl(ALICE.name) <= TTL_S


async def test_swapped_values_are_misses(remote: RedisStore, client: redis.asyncio.Redis) -> None:
    await client.set(ALICE.name, make_entry(BOB).value())
    await client.set(BOB.name, make_entry(ALICE).value())
    assert await remote.get(ALICE) is None
    assert await remote.get(BOB) is None
    assert await put(remote, ALICE, make_entry(ALICE))
    assert await remote.get(ALICE) == make_entry(ALICE)


async def test_foreign_fingerprint_is_a_miss(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.set(ALICE.name, make_entry(StateKey("alice", bytes(16))).value())
    assert await remote.get(ALICE) is None


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
    remote: RedisStore, client: redis.asyncio.Redis, damage: Callable[[bytes], bytes]
) -> None:
    await client.set(ALICE.name, damage(make_entry(ALICE, version=7).value()))
    assert await remote.get(ALICE) is None
    assert await put(remote, ALICE, make_entry(ALICE, version=1))
    assert await remote.get(ALICE) == make_entry(ALICE, version=1)


async def test_value_of_another_type_is_a_miss_and_is_written_over(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.hset(ALICE.name, "field", "value")
    assert await remote.get(ALICE) is None
    assert await put(remote, ALICE, make_entry(ALICE))
    assert await remote.get(ALICE) == make_entry(ALICE)


async def test_refused_write_changes_nothing(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    await put(remote, ALICE, make_entry(ALICE, b"held"))
    await client.expire(ALICE.name, 30)
    assert not await remote.put(ALICE, make_entry(ALICE, b"late"))
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


async def test_delete_and_write_race_leaves_all_or_nothing(remote: RedisStore) -> None:
    for _ in range(20):
        await remote.delete(ALICE)
        await put(remote, ALICE, make_entry(ALICE, b"old"))
        new = make_entry(ALICE, b"new", version=2)
        stored, _ = await asyncio.gather(put(remote, ALICE, new), remote.delete(ALICE))
        assert await remote.get(ALICE) in ([new, None] if stored else [None])


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
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.mset({f"theirs:{n}": "x" for n in range(5_000)})
    keys = [StateKey("alice", bytes([n] * 16)) for n in range(3)]
    for key in keys:
        await put(remote, key, make_entry(key))
    assert await remote.delete(ALICE)
    assert not await client.keys("mf:*")
    assert await client.dbsize() == 5_000
