"""Appending to a stored value: exactly the held one grows, or nothing changes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio

from cache import Entry, RedisStore, StateKey, StateStore
from tests.cache.entries import ALICE, BOB, TTL_S, grown, make_entry, seconds_to_live

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("sizes", [(5, 1), (0, 7), (7, 0), (2_000_000, 3_000), (10, 262_144)])
async def test_a_value_grows_at_its_end(store: StateStore, sizes: tuple[int, int]) -> None:
    first, more = (bytes(i % 251 for i in range(size)) for size in sizes)
    entry = make_entry(ALICE, first)
    await store.put(ALICE, entry)
    for _ in range(3):
        append, entry = grown(entry, more)
        assert await store.append(ALICE, append)
        assert await store.get(ALICE) == entry
        assert await store.head(ALICE) == entry.header
    ttl_s = await seconds_to_live(store, ALICE)
    assert ttl_s is not None
    assert TTL_S - 60 < ttl_s <= TTL_S


async def test_nothing_is_appended_to_anything_else(store: StateStore) -> None:
    held = make_entry(ALICE, b"held")
    append, _ = grown(held, b"more")
    assert not await store.append(ALICE, append)  # nothing is there
    assert await store.get(ALICE) is None
    others = (
        make_entry(ALICE, b"eld?"),
        make_entry(ALICE, b"held", version=2),
        Entry(replace(held.header, prefix_hash=bytes([1] * 16)), b"held"),
    )
    for other in others:
        await store.delete(ALICE)
        await store.put(ALICE, other)
        assert not await store.append(ALICE, append)
        assert await store.get(ALICE) == other


async def test_appending_twice_is_appending_once(store: StateStore) -> None:
    """A caller that did not hear of its success tries again."""
    held = make_entry(ALICE, b"held")
    await store.put(ALICE, held)
    append, after = grown(held, b"more")
    assert await store.append(ALICE, append)
    assert not await store.append(ALICE, append)
    assert await store.get(ALICE) == after


async def test_one_of_concurrent_appends_wins(store: StateStore) -> None:
    held = make_entry(ALICE, b"held")
    await store.put(ALICE, held)
    for _ in range(20):
        tries = [grown(held, b"writer %d" % i) for i in range(4)]
        won = await asyncio.gather(*(store.append(ALICE, append) for append, _ in tries))
        assert sum(won) == 1
        held = tries[won.index(True)][1]
        assert await store.get(ALICE) == held


async def test_the_header_of_nothing_is_none(store: StateStore) -> None:
    assert await store.head(ALICE) is None
    await store.put(BOB, make_entry(BOB))
    assert await store.head(ALICE) is None


async def test_an_append_for_another_user_or_model_is_refused(store: StateStore) -> None:
    append, _ = grown(make_entry(ALICE), b"more")
    for key in (BOB, StateKey("alice", bytes(16))):
        with pytest.raises(ValueError, match="another user or fingerprint"):
            await store.append(key, append)


def test_an_append_must_add_up() -> None:
    held = make_entry(ALICE, b"held").header
    append, _ = grown(make_entry(ALICE, b"held"), b"more")
    with pytest.raises(ValueError, match="next version"):
        replace(append, held=replace(held, version=2))
    with pytest.raises(ValueError, match="payload length"):
        replace(append, data=b"mor")


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
async def remote(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore.from_url(redis_url, ttl_s=TTL_S, timeout_s=10.0)
    yield made
    await made.close()


async def test_bytes_that_are_not_the_held_values_length_stay(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    """A payload cut short or grown behind a sound header: the value is no longer what was held."""
    held = make_entry(ALICE, b"held")
    append, _ = grown(held, b"more")
    for value in (held.value()[:-1], held.value() + b"x"):
        await client.set(ALICE.name, value)
        assert not await remote.append(ALICE, append)
        assert await client.get(ALICE.name) == value


async def test_a_corrupt_payload_stays_a_miss_after_an_append(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    held = make_entry(ALICE, b"held")
    await client.set(ALICE.name, held.value()[:-1] + b"!")
    assert await remote.append(ALICE, grown(held, b"more")[0])
    assert await remote.get(ALICE) is None


async def test_another_kind_of_value_is_left_alone(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    await client.rpush(ALICE.name, "theirs")
    assert not await remote.append(ALICE, grown(make_entry(ALICE), b"more")[0])
    assert await remote.head(ALICE) is None
    assert await client.lrange(ALICE.name, 0, -1) == [b"theirs"]


async def test_a_long_tail_is_not_for_a_script(remote: RedisStore) -> None:
    held = make_entry(ALICE, b"held")
    await remote.put(ALICE, held)
    assert not await remote.append(ALICE, grown(held, bytes((1 << 18) + 1))[0])
    assert await remote.get(ALICE) == held


async def test_every_value_expires_and_looking_at_the_header_renews(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    held = make_entry(ALICE, b"held")
    await remote.put(ALICE, held)
    for renew in (lambda: remote.head(ALICE), lambda: remote.append(ALICE, grown(held, b"m")[0])):
        await client.expire(ALICE.name, 30)
        await renew()
        assert TTL_S - 60 < await client.ttl(ALICE.name) <= TTL_S
