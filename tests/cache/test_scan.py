"""Looking into a Redis store: everybody's states, one user's, nobody else's keys."""

import pytest
import redis

from cache import RedisStore, StateKey, StoreUnavailable
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, put
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

USERS = [StateKey(f"user {number}", FINGERPRINT) for number in range(2500)]


def store_at(url: str) -> RedisStore:
    return RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)


async def test_every_state_is_told_once_with_its_time_to_live(redis_url: str) -> None:
    store = store_at(redis_url)
    entries = {key: make_entry(key, key.name.encode()) for key in USERS}
    for key, entry in entries.items():
        await put(store, key, entry)
    found = [held async for held in store.scan()]
    assert sorted(held.key.name for held in found) == sorted(key.name for key in USERS)
    for held in found:
        entry = entries[held.key]
        assert (held.header, held.num_bytes) == (entry.header, entry.num_bytes)
        assert held.ttl_s is not None
        assert TTL_S - 60 < held.ttl_s <= TTL_S
    assert await store.num_keys() == len(USERS)
    await store.close()


async def test_looking_renews_nothing(redis_url: str) -> None:
    store = store_at(redis_url)
    await put(store, ALICE, make_entry(ALICE))
    with redis.Redis.from_url(redis_url) as client:
        client.expire(ALICE.name, 30)
        assert [held.ttl_s async for held in store.scan()] == [30]
        held = await store.look(ALICE)
        assert held is not None
        assert held.ttl_s == 30
        assert client.ttl(ALICE.name) == 30
        client.persist(ALICE.name)
    assert [held.ttl_s async for held in store.scan()] == [None]
    await store.close()


async def test_one_users_states_under_every_model(redis_url: str) -> None:
    store = store_at(redis_url)
    mine = [StateKey("al[i]*ce", bytes([n] * 16)) for n in range(3)]
    for key in [*mine, ALICE, BOB]:
        await put(store, key, make_entry(key))
    assert {held.key async for held in store.scan("al[i]*ce")} == set(mine)
    assert [held async for held in store.scan("nobody")] == []
    await store.close()


async def test_what_is_not_a_state_is_left_out(redis_url: str) -> None:
    store = store_at(redis_url)
    await put(store, ALICE, make_entry(ALICE))
    with redis.Redis.from_url(redis_url) as client:
        client.set(BOB.name, make_entry(ALICE).value())  # another user's
        client.lpush(StateKey("list", FINGERPRINT).name, "x")
        client.set(StateKey("short", FINGERPRINT).name, b"MFST")
        client.set("mf:{alice}:-", "no fingerprint")
        client.set("mf:{alice}:" + "0" * 33, "too long")
        client.set(b"mf:{\xff}:" + b"0" * 32, "no ASCII")
        client.set(b"mf:{%ff}:" + b"0" * 32, "no UTF-8")
        client.set("other", "x")
    assert [held.key async for held in store.scan()] == [ALICE]
    assert await store.num_keys() == 9
    await store.close()


@pytest.mark.parametrize("servers", ["pair", "nodes"])
async def test_a_sentinels_primary_and_all_of_a_cluster(
    servers: str, request: pytest.FixtureRequest
) -> None:
    store = store_at(request.getfixturevalue(servers).url)
    for key in USERS[:40]:
        await put(store, key, make_entry(key))
    assert {held.key async for held in store.scan()} == set(USERS[:40])
    assert [held.key async for held in store.scan("user 7")] == [USERS[7]]
    assert await store.num_keys() == 40
    await store.close()


async def test_a_server_that_is_gone_is_told(spare_redis_server: RedisServer) -> None:
    store = store_at(spare_redis_server.url)
    spare_redis_server.kill()
    for user_id in (None, "u"):
        with pytest.raises(StoreUnavailable):
            await anext(store.scan(user_id))
    await store.close()
