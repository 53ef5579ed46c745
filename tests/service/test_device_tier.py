"""States kept as tensors: within their bound, and never older than the store."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cache import Append, Entry, Found, Header, MemoryStore, StateKey
from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.state import UserState
from service.codec import StateCodec, StoredState
from service.device_tier import DeviceTier
from service.metrics import Metrics
from service.states import UserStates
from tests.service.builders import history_of, make_events

pytestmark = pytest.mark.anyio

FINGERPRINT = bytes(16)


class CountingStore(MemoryStore):
    """Counts the bytes of payload that move."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.moved: list[tuple[str, int]] = []

    async def load(self, key: StateKey, **_: object) -> Found:
        found = await super().load(key)
        self.moved.append(("load", len(found.entry.payload) if found.entry else 0))
        return found

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        self.moved.append(("put", len(entry.payload)))
        return await super().put(key, entry)

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        before = len(self.moved)
        done = await super().append(key, append)
        self.moved[before:] = [("append", len(append.data))]
        return done

    async def head(self, key: StateKey, **_: object) -> Header | None:
        before = len(self.moved)
        header = await super().head(key)
        del self.moved[before:]
        return header


Replica = Callable[[], UserStates]


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def replica(store: CountingStore, engine: Engine) -> Replica:
    codec = StateCodec(engine.config, FINGERPRINT, engine.pool)
    return lambda: UserStates(store, codec, engine.empty_state, DeviceTier(1 << 20), Metrics())


def extended(engine: Engine, checkpoint: Checkpoint, state: UserState, count: int) -> UserState:
    history = history_of(checkpoint, make_events(count))
    return engine.encode([EncodeJob(state, history)])[0].state


async def test_an_append_moves_one_row_and_its_user_is_not_read_back(
    store: CountingStore, replica: Replica, engine: Engine, checkpoint: Checkpoint
) -> None:
    states = replica()
    for count in range(1, 9):
        loaded = await states.load("u")
        assert loaded.tier == (None if count == 1 else "device")
        state = extended(engine, checkpoint, loaded.stored.state, count)
        assert await states.save("u", loaded.stored, state)
    config = engine.config
    kv = 4 * config.num_layers * config.num_heads * (config.qk_dim + config.v_dim)
    assert store.moved == [("load", 0), ("put", 16)] + [("append", kv + 16)] * 7


async def test_another_replica_reads_what_was_appended(
    replica: Replica, engine: Engine, checkpoint: Checkpoint
) -> None:
    first, second = replica(), replica()
    for count in range(1, 12):
        mine, other = (first, second) if count % 2 else (second, first)
        loaded = await mine.load("u")
        assert len(loaded.stored.state.history) == count - 1
        state = extended(engine, checkpoint, loaded.stored.state, count)
        assert await mine.save("u", loaded.stored, state)
        found = (await other.load("u")).stored.state
        assert torch.equal(found.keys, state.keys)
        assert torch.equal(found.values, state.values)
        assert found.history.events == state.history.events


async def test_a_stale_replica_loses_and_does_not_keep_what_it_made(
    replica: Replica, engine: Engine, checkpoint: Checkpoint
) -> None:
    first, second = replica(), replica()
    start = await first.load("u")
    await first.save("u", start.stored, extended(engine, checkpoint, start.stored.state, 3))
    mine, theirs = await first.load("u"), await second.load("u")
    newer = extended(engine, checkpoint, theirs.stored.state, 4)
    assert await second.save("u", theirs.stored, newer)
    assert await first.save("u", mine.stored, newer) is False
    again = await first.load("u")
    assert (again.tier, len(again.stored.state.history)) == ("memory", 4)


@pytest.mark.parametrize("gone", ["evicted", "forgotten"])
async def test_what_the_store_no_longer_has_is_a_miss(
    store: CountingStore, replica: Replica, engine: Engine, checkpoint: Checkpoint, gone: str
) -> None:
    """Forgotten by another replica, or evicted: which of the two nobody can tell, and what was made
    of it is not stored any more."""
    states = replica()
    start = await states.load("u")
    await states.save("u", start.stored, extended(engine, checkpoint, start.stored.state, 3))
    held = await states.load("u")
    if gone == "evicted":
        store._drop(StateKey("u", FINGERPRINT))
    else:
        await replica().forget("u")
    late = extended(engine, checkpoint, held.stored.state, 4)
    assert await states.save("u", held.stored, late) is False
    again = await states.load("u")
    assert again.status == "miss"
    assert await states.save("u", held.stored, late) is False
    assert await states.save("u", again.stored, extended(engine, checkpoint, again.stored.state, 2))


async def test_an_edited_history_is_written_whole(
    store: CountingStore, replica: Replica, engine: Engine, checkpoint: Checkpoint
) -> None:
    states, events = replica(), make_events(6)
    start = await states.load("u")
    late = history_of(checkpoint, [events[n] for n in (0, 1, 3, 4)])
    (encoded,) = engine.encode([EncodeJob(start.stored.state, late)])
    await states.save("u", start.stored, encoded.state)
    held = await states.load("u")
    (encoded,) = engine.encode([EncodeJob(held.stored.state, history_of(checkpoint, events))])
    assert await states.save("u", held.stored, encoded.state)
    assert [kind for kind, _ in store.moved] == ["load", "put", "put"]
    found = await replica().load("u")
    assert torch.equal(found.stored.state.keys, encoded.state.keys)


def stored_of(engine: Engine, checkpoint: Checkpoint, count: int) -> StoredState:
    return StoredState(extended(engine, checkpoint, engine.empty_state(), count), 1)


def test_the_least_recently_used_goes_first(engine: Engine, checkpoint: Checkpoint) -> None:
    stored = stored_of(engine, checkpoint, 5)
    size = stored.state.num_bytes
    tier = DeviceTier(3 * size + size // 2)
    for user in "abc":
        tier.put(user, stored)
    assert tier.get("a") is stored
    tier.put("d", stored)
    assert [user for user in "abcd" if tier.get(user)] == ["a", "c", "d"]
    assert (len(tier), tier.num_bytes, tier.evictions) == (3, 3 * size, 1)


def test_a_state_takes_the_place_of_its_older_self(engine: Engine, checkpoint: Checkpoint) -> None:
    tier = DeviceTier(1 << 20)
    for count in (2, 9, 4):
        stored = stored_of(engine, checkpoint, count)
        tier.put("u", stored)
        assert tier.get("u") is stored
        assert (len(tier), tier.num_bytes) == (1, stored.state.num_bytes)
    tier.drop("u")
    tier.drop("u")
    assert (len(tier), tier.num_bytes, tier.get("u")) == (0, 0, None)


def test_what_is_larger_than_the_tier_is_not_kept(engine: Engine, checkpoint: Checkpoint) -> None:
    small, large = stored_of(engine, checkpoint, 2), stored_of(engine, checkpoint, 9)
    tier = DeviceTier(small.state.num_bytes)
    tier.put("other", small)
    tier.put("u", replace(large))
    assert tier.get("u") is None
    assert tier.get("other") is small
    off = DeviceTier(0)
    off.put("u", small)
    assert len(off) == 0


def test_a_copy_stands_in_while_the_store_confirmed_it_lately(
    engine: Engine, checkpoint: Checkpoint
) -> None:
    now_s = 0.0
    tier = DeviceTier(1 << 20, lambda: now_s)
    stored = stored_of(engine, checkpoint, 5)
    tier.put("u", stored)
    for waited_s, stands_in in ((59.0, True), (2.0, False)):
        now_s += waited_s
        assert (tier.get_unconfirmed("u") is stored) is stands_in
        assert tier.get("u") is stored
    tier.confirm("u")
    assert tier.get_unconfirmed("u") is stored
    tier.drop("u")
    tier.confirm("u")  # the space was needed while the store was asked
    assert tier.get_unconfirmed("u") is None
