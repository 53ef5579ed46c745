"""What only the memory store has: a bound in bytes, and a clock."""

import pytest

from cache import HEADER_BYTES, MemoryStore, StateKey
from tests.cache.entries import ALICE, BOB, FINGERPRINT, make_entry, put, seconds_to_live

pytestmark = pytest.mark.anyio

ENTRY_BYTES = HEADER_BYTES + 100


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def users(count: int) -> list[StateKey]:
    return [StateKey(str(i), FINGERPRINT) for i in range(count)]


async def test_least_recently_used_is_evicted() -> None:
    store = MemoryStore(max_bytes=3 * ENTRY_BYTES, ttl_s=60)
    first, second, third, fourth = users(4)
    for key in (first, second, third):
        assert await put(store, key, make_entry(key, bytes(100)))
    assert (len(store), store.num_bytes, store.evictions) == (3, 3 * ENTRY_BYTES, 0)
    await store.get(first)
    assert await put(store, fourth, make_entry(fourth, bytes(100)))
    assert (len(store), store.num_bytes, store.evictions) == (3, 3 * ENTRY_BYTES, 1)
    assert await store.get(second) is None
    for key in (first, third, fourth):
        assert await store.get(key) is not None


async def test_one_large_entry_evicts_several() -> None:
    store = MemoryStore(max_bytes=3 * ENTRY_BYTES, ttl_s=60)
    *small, large = users(4)
    for key in small:
        await put(store, key, make_entry(key, bytes(100)))
    assert await put(store, large, make_entry(large, bytes(ENTRY_BYTES + 100)))
    assert (len(store), store.num_bytes, store.evictions) == (2, 3 * ENTRY_BYTES, 2)


async def test_replacing_counts_bytes_once() -> None:
    store = MemoryStore(max_bytes=10 * ENTRY_BYTES, ttl_s=60)
    for version, size in enumerate((100, 300, 50), start=1):
        assert await put(store, ALICE, make_entry(ALICE, bytes(size), version=version))
        assert (len(store), store.num_bytes) == (1, HEADER_BYTES + size)
    await store.delete(ALICE)
    assert (len(store), store.num_bytes, store.evictions) == (0, 0, 0)


async def test_entry_beyond_the_bound_is_not_kept_nor_is_the_one_it_replaces() -> None:
    store = MemoryStore(max_bytes=2 * ENTRY_BYTES, ttl_s=60)
    await put(store, ALICE, make_entry(ALICE, bytes(100)))
    await put(store, BOB, make_entry(BOB, bytes(100)))
    assert await put(store, ALICE, make_entry(ALICE, bytes(2 * ENTRY_BYTES), version=2))
    assert await store.get(ALICE) is None
    assert await store.get(BOB) is not None
    assert (len(store), store.num_bytes, store.evictions) == (1, ENTRY_BYTES, 1)


async def test_entry_beyond_the_bound_still_loses_to_another_version() -> None:
    store = MemoryStore(max_bytes=ENTRY_BYTES, ttl_s=60)
    await put(store, ALICE, make_entry(ALICE, bytes(100)))
    assert not await put(store, ALICE, make_entry(ALICE, bytes(1000)))
    assert await store.get(ALICE) == make_entry(ALICE, bytes(100))


async def test_expiry_and_renewal() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=1 << 20, ttl_s=60, clock=clock)
    await put(store, ALICE, make_entry(ALICE))
    await put(store, BOB, make_entry(BOB))
    clock.now_s += 59.5
    assert await seconds_to_live(store, BOB) == 1
    assert await store.get(ALICE) is not None
    assert await seconds_to_live(store, ALICE) == 60
    clock.now_s += 0.5
    assert await store.get(BOB) is None
    assert await store.look(BOB) is None
    assert len(store) == 1
    clock.now_s += 59.5
    assert not await store.delete(ALICE)
    assert (len(store), store.num_bytes, store.evictions) == (0, 0, 0)


async def test_expired_version_does_not_refuse_writers() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=1 << 20, ttl_s=60, clock=clock)
    for version in (1, 2):
        await put(store, ALICE, make_entry(ALICE, version=version))
    clock.now_s += 60
    assert not await store.put(ALICE, make_entry(ALICE, version=3))
    assert await put(store, ALICE, make_entry(ALICE, version=1))


async def test_keys_that_were_only_begun_take_space_and_expire() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=3 * HEADER_BYTES, ttl_s=60, clock=clock)
    for key in users(5):
        await store.load(key)
    assert (len(store), store.num_bytes) == (3, 3 * HEADER_BYTES)
    clock.now_s += 60
    await store.load(ALICE)
    assert (len(store), store.num_bytes) == (1, HEADER_BYTES)


async def test_a_begun_key_goes_soon_however_often_it_is_found_and_a_state_stays() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=1 << 20, ttl_s=10_000, clock=clock)
    found = await store.load(ALICE)
    await put(store, BOB, make_entry(BOB))  # used before the last use of the begun key
    for _ in range(3):
        clock.now_s += 599
        assert await store.load(ALICE) == found
    clock.now_s += 600
    assert await store.get(BOB) is not None
    assert (len(store), store.num_bytes) == (1, make_entry(BOB).num_bytes)
    assert await store.load(ALICE) != found
    assert store.evictions == 0


async def test_begun_keys_and_states_make_room_in_order_of_use() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=3 * HEADER_BYTES, ttl_s=10_000, clock=clock)
    first, second, third, fourth, fifth = users(5)
    for key, has_state in ((first, False), (second, True), (third, False)):
        clock.now_s += 1
        await (put(store, key, make_entry(key, b"")) if has_state else store.load(key))
    begun = await store.load(third)
    clock.now_s += 1
    await store.load(fourth)  # in the place of the first
    clock.now_s += 1
    await store.load(fifth)  # of the second
    assert await store.look(second) is None
    assert await store.load(third) == begun
    assert (len(store), store.evictions) == (3, 2)


async def test_close_lets_go_of_everything() -> None:
    store = MemoryStore(max_bytes=1 << 20, ttl_s=60)
    await put(store, ALICE, make_entry(ALICE))
    await store.close()
    assert (len(store), store.num_bytes) == (0, 0)


def test_bound_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        MemoryStore(-1, 60)
