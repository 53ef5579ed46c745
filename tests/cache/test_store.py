"""The contract of a state store, kept by both of them, and the checks on a stored value."""

import asyncio
from dataclasses import replace

import pytest

from cache import Entry, MemoryStore, RedisStore, StateKey, StateStore, read_entry
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, make_entry, seconds_to_live

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("num_bytes", [0, 1, 1000, 2_000_000])
async def test_round_trip(store: StateStore, num_bytes: int) -> None:
    entry = make_entry(ALICE, bytes(i % 251 for i in range(num_bytes)))
    assert await store.put(ALICE, entry)
    assert await store.get(ALICE) == entry
    assert await store.get(ALICE) == entry


async def test_miss(store: StateStore) -> None:
    await store.put(BOB, make_entry(BOB))
    assert await store.get(ALICE) is None
    assert await store.get(StateKey("bob", bytes(16))) is None


async def test_user_ids_of_any_kind(store: StateStore) -> None:
    keys = [
        StateKey(user_id, FINGERPRINT) for user_id in ("", "}", "{a}:b", "a\r\nb", "é", "\ud800")
    ]
    for key in keys:
        assert await store.put(key, make_entry(key, key.name.encode()))
    for key in keys:
        assert await store.get(key) == make_entry(key, key.name.encode())


async def test_a_reused_buffer_does_not_change_the_state(store: StateStore) -> None:
    buffer = bytearray(b"before")
    entry = make_entry(ALICE, memoryview(buffer))
    assert await store.put(ALICE, entry)
    buffer[:] = b"after!"
    assert await store.get(ALICE) == make_entry(ALICE, b"before")


async def test_versions_follow_each_other(store: StateStore) -> None:
    for version in (1, 2, 3):
        assert await store.put(ALICE, make_entry(ALICE, b"v%d" % version, version=version))
    for version in (1, 2, 3, 5):
        assert not await store.put(ALICE, make_entry(ALICE, b"late", version=version))
    assert await store.get(ALICE) == make_entry(ALICE, b"v3", version=3)


async def test_any_version_may_come_first(store: StateStore) -> None:
    """The state before it may have been evicted."""
    assert await store.put(ALICE, make_entry(ALICE, version=40))
    assert await store.put(ALICE, make_entry(ALICE, version=41))


@pytest.mark.parametrize("version", [1, 6])
async def test_one_of_concurrent_writers_wins(store: StateStore, version: int) -> None:
    for round_ in range(20):
        key = StateKey(f"user {round_}", FINGERPRINT)
        if version > 1:
            assert await store.put(key, make_entry(key, b"old", version=version - 1))
        entries = [make_entry(key, b"writer %d" % i, version=version) for i in range(4)]
        stored = await asyncio.gather(*(store.put(key, entry) for entry in entries))
        assert sum(stored) == 1
        assert await store.get(key) == entries[stored.index(True)]


async def test_a_state_of_another_user_or_model_is_refused(store: StateStore) -> None:
    for key in (BOB, StateKey("alice", bytes(16))):
        with pytest.raises(ValueError, match="another user or fingerprint"):
            await store.put(key, make_entry(ALICE))
        assert await store.get(key) is None


async def test_delete(store: StateStore) -> None:
    assert not await store.delete(ALICE)
    await store.put(ALICE, make_entry(ALICE))
    await store.put(BOB, make_entry(BOB))
    assert await store.delete(ALICE)
    assert await store.get(ALICE) is None
    assert not await store.delete(ALICE)
    assert await store.get(BOB) == make_entry(BOB)


async def test_delete_forgets_a_user_under_every_model(store: StateStore) -> None:
    others = [StateKey(user_id, FINGERPRINT) for user_id in ("alice2", "*", "[a]lice", "a?ice", "")]
    models = [StateKey("alice", bytes([n] * 16)) for n in range(5)]
    for key in (*others, *models):
        await store.put(key, make_entry(key))
    assert await store.delete(models[0])
    assert [await store.get(key) for key in models] == [None] * 5
    for key in others:
        assert await store.get(key) == make_entry(key)
    for key in others:
        assert await store.delete(key)


async def test_time_to_live_is_told(store: StateStore) -> None:
    assert await store.look(ALICE) is None
    await store.put(ALICE, make_entry(ALICE))
    ttl_s = await seconds_to_live(store, ALICE)
    assert ttl_s is not None
    assert TTL_S - 60 < ttl_s <= TTL_S


async def test_ping(store: StateStore) -> None:
    await store.ping()


@pytest.mark.parametrize("ttl_s", [0, -1])
def test_time_to_live_must_be_positive(ttl_s: int) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        MemoryStore(1000, ttl_s)
    with pytest.raises(ValueError, match="ttl_s"):
        RedisStore.from_url("redis://localhost", ttl_s=ttl_s)


def test_read_entry_views_the_value() -> None:
    entry = make_entry(ALICE, b"payload")
    value = entry.value()
    assert len(value) == entry.num_bytes
    read = read_entry(value, ALICE)
    assert read == entry
    assert isinstance(read.payload, memoryview)
    assert read.payload.obj is value


def test_read_entry_refuses_what_is_not_exactly_the_keys_own() -> None:
    value = make_entry(ALICE).value()
    assert read_entry(value, BOB) is None
    assert read_entry(value, StateKey("alice", bytes(16))) is None
    assert read_entry(value + b"\x00", ALICE) is None


def test_entry_refuses_another_length_than_its_header_tells() -> None:
    entry = make_entry(ALICE, b"payload")
    with pytest.raises(ValueError, match="7 bytes long, its header says 8"):
        Entry(replace(entry.header, payload_bytes=8), entry.payload)
