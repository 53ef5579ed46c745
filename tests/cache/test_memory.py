"""What only the memory store has: a bound in bytes, and a clock."""

import pytest

from cache import HEADER_BYTES, MemoryStore, StateKey
from tests.cache.entries import ALICE, BOB, FINGERPRINT, make_entry, seconds_to_live

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
        assert await store.put(key, make_entry(key, bytes(100)))
    assert (len(store), store.num_bytes, store.evictions) == (3, 3 * ENTRY_BYTES, 0)
    await store.get(first)
    assert await store.put(fourth, make_entry(fourth, bytes(100)))
    assert (len(store), store.num_bytes, store.evictions) == (3, 3 * ENTRY_BYTES, 1)
    assert await store.get(second) is None
    for key in (first, third, fourth):
        assert await store.get(key) is not None


async def test_one_large_entry_evicts_several() -> None:
    store = MemoryStore(max_bytes=3 * ENTRY_BYTES, ttl_s=60)
    *small, large = users(4)
    for key in small:
        await store.put(key, make_entry(key, bytes(100)))
    assert await store.put(large, make_entry(large, bytes(ENTRY_BYTES + 100)))
    assert (len(store), store.num_bytes, store.evictions) == (2, 3 * ENTRY_BYTES, 2)


async def test_replacing_counts_bytes_once() -> None:
    store = MemoryStore(max_bytes=10 * ENTRY_BYTES, ttl_s=60)
    for version, size in enumerate((100, 300, 50), start=1):
        assert await store.put(ALICE, make_entry(ALICE, bytes(size), version=version))
        assert (len(store), store.num_bytes) == (1, HEADER_BYTES + size)
    await store.delete(ALICE)
    assert (len(store), store.num_bytes, store.evictions) == (0, 0, 0)


async def test_entry_beyond_the_bound_is_not_kept_nor_is_the_one_it_replaces() -> None:
    store = MemoryStore(max_bytes=2 * ENTRY_BYTES, ttl_s=60)
    await store.put(ALICE, make_entry(ALICE, bytes(100)))
    await store.put(BOB, make_entry(BOB, bytes(100)))
    assert await store.put(ALICE, make_entry(ALICE, bytes(2 * ENTRY_BYTES), version=2))
    assert await store.get(ALICE) is None
    assert await store.get(BOB) is not None
    assert (len(store), store.num_bytes, store.evictions) == (1, ENTRY_BYTES, 1)


async def test_entry_beyond_the_bound_still_loses_to_another_version() -> None:
    store = MemoryStore(max_bytes=ENTRY_BYTES, ttl_s=60)
    await store.put(ALICE, make_entry(ALICE, bytes(100), version=5))
    assert not await store.put(ALICE, make_entry(ALICE, bytes(1000), version=5))
    assert await store.get(ALICE) == make_entry(ALICE, bytes(100), version=5)


async def test_expiry_and_renewal() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=1 << 20, ttl_s=60, clock=clock)
    await store.put(ALICE, make_entry(ALICE))
    await store.put(BOB, make_entry(BOB))
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
    await store.put(ALICE, make_entry(ALICE, version=5))
    clock.now_s += 60
    assert await store.put(ALICE, make_entry(ALICE, version=1))


async def test_close_lets_go_of_everything() -> None:
    store = MemoryStore(max_bytes=1 << 20, ttl_s=60)
    await store.put(ALICE, make_entry(ALICE))
    await store.close()
    assert (len(store), store.num_bytes) == (0, 0)


def test_bound_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        MemoryStore(-1, 60)
