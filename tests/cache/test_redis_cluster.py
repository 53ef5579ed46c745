"""States in a cluster: each at its slot's owner, through migrations and outages."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache import RedisStore, StateKey, StoreUnavailable
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, put
from tests.cache.waiting import eventually
from tests.redis_topologies import Cluster, client_of, cluster

pytestmark = pytest.mark.anyio

USERS = [StateKey(f"user {number}", FINGERPRINT) for number in range(40)]


@pytest.fixture
async def store(nodes: Cluster) -> AsyncIterator[RedisStore]:
    made = RedisStore.from_url(nodes.url, ttl_s=TTL_S, timeout_s=5.0)
    yield made
    await made.close()


async def test_each_state_is_at_its_own_node(store: RedisStore, nodes: Cluster) -> None:
    for key in USERS:
        assert await put(store, key, make_entry(key, key.name.encode()))
        assert not await put(store, key, make_entry(key))
    for key in USERS:
        assert await store.get(key) == make_entry(key, key.name.encode())
        assert await store.look(key) is not None
    held = []
    for node in nodes.nodes:
        with client_of(node) as client:
            held.append({name.decode() for name in client.scan_iter()})
    assert all(held)
    assert set().union(*held) == {key.name for key in USERS}
    for key in USERS:
        assert await store.delete(key)
        assert await store.get(key) is None
    await store.ping()


async def test_any_node_that_is_up_tells_of_the_others(nodes: Cluster) -> None:
    url = nodes.url.replace("127.0.0.1", "127.0.0.1:1,127.0.0.1")
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0)
    for key in USERS:
        assert await put(store, key, make_entry(key))
    await store.close()


async def test_a_moved_slot_is_followed(store: RedisStore, nodes: Cluster) -> None:
    assert await put(store, ALICE, make_entry(ALICE, b"first"))
    for version in (2, 3, 4):
        taker = nodes.other(nodes.owner(ALICE.name))
        nodes.begin_migration(ALICE.name, taker)
        nodes.move_key(ALICE.name, taker)
        nodes.end_migration(ALICE.name, taker)
        entry = make_entry(ALICE, b"version %d" % version, version=version)
        # The store still thinks of the giver: a write first, then a read.
        assert await put(store, ALICE, entry)
        assert await store.get(ALICE) == entry
        with client_of(taker) as client:
            assert client.get(ALICE.name) == entry.value()


async def test_a_slot_that_is_moving(store: RedisStore, nodes: Cluster) -> None:
    """Held by the giver, then moved to the taker, which wants to be asked for it (ASK)."""
    assert await put(store, ALICE, make_entry(ALICE, b"1"))
    giver = nodes.owner(ALICE.name)
    taker = nodes.other(giver)
    nodes.begin_migration(ALICE.name, taker)
    assert await store.get(ALICE) == make_entry(ALICE, b"1")
    nodes.move_key(ALICE.name, taker)
    assert await store.get(ALICE) == make_entry(ALICE, b"1")
    assert not await put(store, ALICE, make_entry(ALICE, b"late"))
    assert await put(store, ALICE, make_entry(ALICE, b"2", version=2))
    assert await store.get(ALICE) == make_entry(ALICE, b"2", version=2)
    assert await store.look(ALICE) is not None
    with client_of(giver) as client:
        assert client.dbsize() == 0
    assert await store.delete(ALICE)
    assert await store.get(ALICE) is None
    assert await put(store, ALICE, make_entry(ALICE, b"3"))
    nodes.end_migration(ALICE.name, taker)
    assert await store.get(ALICE) == make_entry(ALICE, b"3")


async def test_writers_race_while_a_slot_moves(store: RedisStore, nodes: Cluster) -> None:
    taker = nodes.other(nodes.owner(BOB.name))
    nodes.begin_migration(BOB.name, taker)
    for version in range(1, 10):
        entries = [make_entry(BOB, b"writer %d" % n, version=version) for n in range(4)]
        stored = await asyncio.gather(*(put(store, BOB, entry) for entry in entries))
        assert sum(stored) == 1
        assert await store.get(BOB) == entries[stored.index(True)]
    nodes.end_migration(BOB.name, taker)


async def test_one_node_away_costs_its_own_users_alone() -> None:
    with cluster(3) as nodes:
        store = RedisStore.from_url(nodes.url, ttl_s=TTL_S, timeout_s=5.0)
        for key in USERS:
            assert await put(store, key, make_entry(key))
        owners = {key: nodes.owner(key.name) for key in USERS}
        away = nodes.nodes[2]
        away.kill()
        for _ in range(3):
            for key in USERS:
                if owners[key] is away:
                    with pytest.raises(StoreUnavailable):
                        await store.get(key)
                else:
                    assert await store.get(key) == make_entry(key)
        assert store.num_skipped_servers == 1
        await store.close()


async def test_a_server_that_is_no_cluster_is_told_and_the_other_way_round(
    nodes: Cluster, redis_url: str
) -> None:
    async def ask_for_all(url: str) -> None:
        store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0)
        try:
            for key in USERS:
                await store.get(key)
        finally:
            await store.close()

    with pytest.raises(StoreUnavailable, match="cluster support"):
        await ask_for_all(redis_url.replace("redis://", "redis+cluster://"))
    with pytest.raises(StoreUnavailable, match=r"redis\+cluster"):
        await ask_for_all(nodes.url.replace("+cluster", ""))


async def test_a_single_node_that_comes_back_with_nothing() -> None:
    with cluster(1) as nodes:
        store = RedisStore.from_url(nodes.url, ttl_s=TTL_S, timeout_s=5.0)
        assert await put(store, ALICE, make_entry(ALICE))
        nodes.nodes[0].kill()
        with pytest.raises(StoreUnavailable):
            await store.get(ALICE)
        nodes.nodes[0].start()
        assert await eventually(lambda: store.get(ALICE)) is None
        await store.close()
