"""What a delete has dropped stays gone: no write made from it is taken, however late it comes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio

from cache import Entry, MemoryStore, RedisStore, StateKey, StateStore, StoreFull
from cache.redis.node import Command, Session
from tests.cache.entries import ALICE, BOB, LINEAGE, TTL_S, grown, make_entry, put
from tests.redis_server import RedisServer
from tests.redis_topologies import Cluster

pytestmark = pytest.mark.anyio

OTHER_MODEL = StateKey("alice", bytes(16))


@pytest.fixture(params=["memory", "redis", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    made: StateStore
    if request.param == "memory":
        made = MemoryStore(max_bytes=1 << 26, ttl_s=TTL_S)
    elif request.param == "redis":
        url = request.getfixturevalue("redis_url")
        made = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    else:
        url = request.getfixturevalue("nodes").url
        made = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    yield made
    await made.close()


async def first_write(store: StateStore) -> Entry:
    """What a user's first writer is about to put."""
    await store.load(ALICE, draw=lambda: LINEAGE)
    return make_entry(ALICE)


async def later_write(store: StateStore) -> Entry:
    await put(store, ALICE, make_entry(ALICE))
    return make_entry(ALICE, b"more", version=2)


@pytest.mark.parametrize("begin", [first_write, later_write])
async def test_a_write_in_flight_during_a_delete_is_refused(
    store: StateStore, begin: Callable[[StateStore], Awaitable[Entry]]
) -> None:
    late = await begin(store)
    await store.delete(ALICE)
    assert not await store.put(ALICE, late)
    # Nor when the user has come back: another lineage, if with the same versions.
    found = await store.load(ALICE)
    assert (found.entry, found.version) == (None, 0)
    assert found.lineage != LINEAGE
    assert not await store.put(ALICE, late)
    held = None
    for version in (1, 2):
        held = make_entry(ALICE, b"new", version=version, lineage=found.lineage)
        assert await store.put(ALICE, held)
        assert not await store.put(ALICE, late)
    assert await store.get(ALICE) == held


async def test_an_append_in_flight_during_a_delete_is_refused(store: StateStore) -> None:
    held = make_entry(ALICE, b"held")
    await put(store, ALICE, held)
    append, _ = grown(held, b"more")
    await store.delete(ALICE)
    assert not await store.append(ALICE, append)
    # The same bytes once more, sent again by the product: still not what was appended to.
    again = make_entry(ALICE, b"held", lineage=(await store.load(ALICE)).lineage)
    assert await store.put(ALICE, again)
    assert not await store.append(ALICE, append)
    assert await store.get(ALICE) == again


async def test_a_delete_under_one_model_reaches_the_writers_of_all(store: StateStore) -> None:
    """A state that is about to be made from that of another model is one of them."""
    await put(store, ALICE, make_entry(ALICE))
    await store.load(OTHER_MODEL, draw=lambda: LINEAGE)
    assert await store.get(ALICE) is not None
    assert await store.delete(ALICE)
    assert not await store.put(OTHER_MODEL, make_entry(OTHER_MODEL))
    assert await store.get(OTHER_MODEL) is None


async def test_a_state_made_behind_the_scan_is_found(store: StateStore) -> None:
    """The delete knows only the third model's key; the others it has to come across."""
    third = StateKey("alice", bytes([3] * 16))
    for number in range(1500):
        await store.load(StateKey(f"user {number}", bytes(16)))
    for round_ in range(20):
        await put(store, ALICE, make_entry(ALICE))

        async def make_from_another(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            await store.load(OTHER_MODEL, draw=lambda: LINEAGE)
            if await store.get(ALICE) is not None:
                await asyncio.sleep(delay_s)
                await store.put(OTHER_MODEL, make_entry(OTHER_MODEL))

        await asyncio.gather(store.delete(third), make_from_another(round_ * 0.0002))
        assert await store.get(ALICE) is None
        assert await store.get(OTHER_MODEL) is None


async def test_a_key_that_is_only_begun_holds_nothing(store: StateStore) -> None:
    found = await store.load(ALICE)
    assert await store.load(ALICE) == found
    assert await store.get(ALICE) is None
    assert await store.head(ALICE) is None
    assert await store.look(ALICE) is None
    assert not await store.append(ALICE, grown(make_entry(ALICE), b"more")[0])
    assert not await store.delete(ALICE)
    assert await store.load(ALICE) != found


async def test_a_load_finds_what_is_held(store: StateStore) -> None:
    await put(store, ALICE, make_entry(ALICE))
    found = await store.load(ALICE)
    assert (found.entry, found.lineage, found.version) == (make_entry(ALICE), LINEAGE, 1)
    assert (await store.load(BOB)).entry is None


async def test_those_who_load_at_once_begin_the_same_lineage(store: StateStore) -> None:
    found = await asyncio.gather(*(store.load(ALICE) for _ in range(8)))
    assert len({one.lineage for one in found}) == 1


@pytest.mark.parametrize(
    "forget",
    [lambda store: store.delete(ALICE), lambda store: store.forget("alice")],
    ids=["of a key", "of no key"],
)
async def test_nothing_of_a_forgotten_user_is_left(
    remote: RedisStore,
    client: redis.asyncio.Redis,
    forget: Callable[[RedisStore], Awaitable[bool]],
) -> None:
    for key in (ALICE, OTHER_MODEL, BOB):
        await put(remote, key, make_entry(key))
    await remote.load(StateKey("alice", bytes([5] * 16)))
    assert await forget(remote)
    assert await client.keys() == [BOB.name.encode()]
    assert not await forget(remote)


async def test_a_user_of_a_cluster_is_forgotten_without_a_key(nodes: Cluster) -> None:
    store = RedisStore.from_url(nodes.url, ttl_s=TTL_S, timeout_s=10.0)
    for key in (ALICE, OTHER_MODEL):
        await put(store, key, make_entry(key))
    assert await store.forget("alice")
    assert [held async for held in store.scan("alice")] == []
    await store.close()


LOOKS: dict[str, Callable[[StateStore], Awaitable[object]]] = {
    "load": lambda store: store.load(ALICE),
    "get": lambda store: store.get(ALICE),
    "head": lambda store: store.head(ALICE),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_a_begun_key_goes_soon_however_often_it_is_found_and_a_state_stays(
    redis_url: str,
    client: redis.asyncio.Redis,
    look: Callable[[StateStore], Awaitable[object]],
) -> None:
    store = RedisStore.from_url(redis_url, ttl_s=10_000, timeout_s=10.0)
    await store.load(ALICE, draw=lambda: LINEAGE)
    assert 500 < await client.ttl(ALICE.name) <= 600
    await client.expire(ALICE.name, 30)
    await look(store)
    assert 500 < await client.ttl(ALICE.name) <= 600
    await store.put(ALICE, make_entry(ALICE))
    assert 9_900 < await client.ttl(ALICE.name) <= 10_000
    await client.expire(ALICE.name, 30)
    before = await num_scripts(client)
    await look(store)
    assert 9_900 < await client.ttl(ALICE.name) <= 10_000
    assert await num_scripts(client) == before  # it would be a round trip more
    await store.close()


async def num_scripts(client: redis.asyncio.Redis) -> int:
    told = await client.info("commandstats")
    return int(told.get("cmdstat_eval", {}).get("calls", 0))


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_a_key_that_was_found_begun_and_is_a_state_by_now_stays(
    redis_url: str,
    client: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
    look: Callable[[StateStore], Awaitable[object]],
) -> None:
    store = RedisStore.from_url(redis_url, ttl_s=10_000, timeout_s=10.0)
    await store.load(ALICE, draw=lambda: LINEAGE)
    call = Session.call

    async def call_and_be_overtaken(session: Session, *commands: Command) -> list[Any]:
        replies = await call(session, *commands)
        if commands[0][0] in ("GETEX", "GETRANGE"):
            assert await store.put(ALICE, make_entry(ALICE))
        return replies

    monkeypatch.setattr(Session, "call", call_and_be_overtaken)
    await look(store)
    assert 9_900 < await client.ttl(ALICE.name) <= 10_000
    await store.close()


@pytest.mark.parametrize("begin", [first_write, later_write])
@pytest.mark.parametrize("value", [None, b"rubbish"])
async def test_a_write_made_from_an_evicted_state_is_refused(
    remote: RedisStore,
    client: redis.asyncio.Redis,
    begin: Callable[[StateStore], Awaitable[Entry]],
    value: bytes | None,
) -> None:
    """Nobody can tell an eviction from a delete."""
    late = await begin(remote)
    await client.delete(ALICE.name)
    if value is not None:
        await client.set(ALICE.name, value)
    assert not await remote.put(ALICE, late)
    assert await client.get(ALICE.name) == value


@pytest.mark.parametrize("value", [b"rubbish", b"", make_entry(BOB).value()])
async def test_a_load_begins_in_the_place_of_rubbish(
    remote: RedisStore, client: redis.asyncio.Redis, value: bytes
) -> None:
    await client.set(ALICE.name, value)
    found = await asyncio.gather(*(remote.load(ALICE) for _ in range(4)))
    assert [one.entry for one in found] == [None] * 4
    held = await client.get(ALICE.name)
    assert held in [one.lineage for one in found]
    entries = [make_entry(ALICE, lineage=one.lineage) for one in found]
    stored = [await remote.put(ALICE, entry) for entry in entries]
    assert sum(stored) == 1


async def test_a_full_server_is_read_and_begins_nothing(spare_redis_server: RedisServer) -> None:
    store = RedisStore.from_url(spare_redis_server.url, ttl_s=TTL_S, timeout_s=10.0)
    await put(store, ALICE, make_entry(ALICE))
    async with redis.asyncio.Redis.from_url(spare_redis_server.url) as client:
        await client.config_set("maxmemory", "1")
    assert (await store.load(ALICE)).entry == make_entry(ALICE)
    with pytest.raises(StoreFull, match="allkeys-lru"):
        await store.load(BOB)
    await store.close()
