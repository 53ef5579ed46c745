"""A state made of the user's state under another model: read without a trace, written if nothing
has changed meanwhile."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio

from cache import Entry, Header, RedisStore, StateKey
from tests.cache.entries import ALICE, BOB, TTL_S, grown, make_entry, put

pytestmark = pytest.mark.anyio

HEIR = replace(ALICE, fingerprint=bytes(16))


async def derive(store: RedisStore, entry: Entry, source: Header, *, ttl_s: int = 40) -> bool:
    """As a writer does that has just loaded the key, beginning the entry's own lineage."""
    await store.load(HEIR, draw=lambda: entry.header.lineage)
    return await store.derive(HEIR, entry, source, ttl_s=ttl_s)


@pytest.fixture(params=["one server", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    if request.param == "cluster":
        url = request.getfixturevalue("nodes").url
    else:
        url = request.getfixturevalue("redis_url")
    made = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    yield made
    await made.close()


async def test_a_derived_state_is_read_back(store: RedisStore) -> None:
    source, made = make_entry(ALICE), make_entry(HEIR, b"made of it")
    await put(store, ALICE, source)
    assert await store.peek(ALICE) == (source, TTL_S)
    assert await derive(store, made, source.header)
    assert await store.peek(HEIR) == (made, 40)
    assert await store.peek(ALICE) == (source, TTL_S)


async def test_a_state_that_is_there_stays(store: RedisStore) -> None:
    source, present = make_entry(ALICE), make_entry(HEIR, b"newer")
    await put(store, ALICE, source)
    await put(store, HEIR, present)
    assert not await derive(store, make_entry(HEIR), source.header)
    assert await store.get(HEIR) == present


async def test_what_changed_or_was_forgotten_meanwhile_is_not_derived_from(
    store: RedisStore,
) -> None:
    source = make_entry(ALICE)
    await put(store, ALICE, source)
    append, _ = grown(source, b"more")
    assert await store.append(ALICE, append)
    assert not await derive(store, make_entry(HEIR), source.header)
    assert await store.delete(ALICE)
    assert not await derive(store, make_entry(HEIR), append.header)
    assert await store.get(HEIR) is None


async def test_peeking_renews_nothing_and_tells_of_sound_states_only(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    await put(remote, ALICE, make_entry(ALICE))
    await client.expire(ALICE.name, 30)
    assert await remote.peek(ALICE) == (make_entry(ALICE), 30)
    assert await client.ttl(ALICE.name) == 30
    await client.setrange(ALICE.name, 110, b"\0")
    await client.set(BOB.name, make_entry(ALICE).value(), ex=9)
    await client.lpush(HEIR.name, "a list")
    for key in (ALICE, BOB, HEIR, StateKey("nobody", bytes(16))):
        assert await remote.peek(key) is None


async def test_only_the_lineage_that_was_loaded_is_followed(
    remote: RedisStore, client: redis.asyncio.Redis
) -> None:
    """A writer that began the key is not pushed aside, and damaged bytes make way."""
    source, made = make_entry(ALICE), make_entry(HEIR)
    await put(remote, ALICE, source)
    assert not await remote.derive(HEIR, made, source.header, ttl_s=40)
    await remote.load(HEIR, draw=lambda: bytes(16))
    assert not await derive(remote, made, source.header)
    await client.set(HEIR.name, "damaged")
    assert await derive(remote, made, source.header, ttl_s=0)
    assert await remote.peek(HEIR) == (made, 1)


async def test_only_the_keys_own_state_is_taken(remote: RedisStore) -> None:
    with pytest.raises(ValueError, match="another user or fingerprint"):
        await remote.derive(HEIR, make_entry(BOB), make_entry(ALICE).header, ttl_s=40)
