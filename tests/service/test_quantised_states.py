"""States in fewer bits: within the bound whoever extends them, through any change of dtype."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import HEADER_BYTES, Dtype, RedisStore, StateStore
from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.engine.state import UserState
from model.history import Event
from service.codec import StateCodec
from service.device_tier import DeviceTier
from service.exactness import relative_tolerance
from service.metrics import Metrics
from service.row_format import QUANTISED
from service.states import UserStates
from tests.service.builders import NOW_S, history_of, make_events, serving
from tests.service.stores import roomy_store

FINGERPRINT = bytes(16)
dtypes = pytest.mark.parametrize("dtype", QUANTISED, ids=lambda dtype: dtype.label)
pytestmark = pytest.mark.anyio


class Replica:
    """What a replica does for a user, without HTTP; `keeps` tells whether as tensors, too."""

    def __init__(self, engine: Engine, store: StateStore, dtype: Dtype, *, keeps: bool) -> None:
        self.engine = engine
        self.codec = StateCodec(engine.config, FINGERPRINT, engine.pool, dtype)
        device = DeviceTier(1 << 20 if keeps else 0)
        self.states = UserStates(store, self.codec, engine.empty_state, device, Metrics())

    async def add(self, events: list[Event]) -> UserState:
        """The state after them, as this replica holds it."""
        held = (await self.states.load("u")).stored
        history, _ = held.state.history.merge(events, self.engine.config.window)
        (encoded,) = self.engine.encode([EncodeJob(held.state, history)])
        assert await self.states.save("u", held, encoded.state)
        return (await self.states.load("u")).stored.state


def difference(engine: Engine, state: UserState) -> float:
    """The largest to the oracle, as a share of the largest retrieval logit."""
    (encoded,) = engine.encode([EncodeJob(state, state.history, NOW_S)])
    assert encoded.live is not None
    oracle = Oracle(engine.network, state.history, NOW_S)
    items = range(0, engine.config.num_items, 12)
    right = torch.stack([oracle.score(item).retrieval for item in items])
    found = engine.retrieve(encoded.live)[list(items)]
    return float((found - right).abs().max() / right.abs().max())


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    made: StateStore = roomy_store()
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        made = RedisStore.from_url(url, ttl_s=60, timeout_s=10.0)
    yield made
    await made.close()


@dtypes
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_whoever_extends_a_state_stays_within_the_bound(
    engine: Engine, checkpoint: Checkpoint, dtype: Dtype, data: st.DataObject
) -> None:
    """One replica extends its own float32 rows, the other what the store holds; events come late,
    too, and the window moves."""
    events = history_of(checkpoint, make_events(16)).events
    order = sorted(range(16), key=lambda n: n + data.draw(st.sampled_from([0, 0, 0, -3])))

    async def live() -> None:
        store = roomy_store()
        replicas = [Replica(engine, store, dtype, keeps=keeps) for keeps in (True, False)]
        for index in order:
            replica = data.draw(st.sampled_from(replicas))
            state = await replica.add([events[index]])
            assert difference(engine, state) <= relative_tolerance(dtype)

    asyncio.run(live())


@dtypes
async def test_an_append_leaves_the_stored_rows_as_they_are(
    engine: Engine, checkpoint: Checkpoint, store: StateStore, dtype: Dtype
) -> None:
    replicas = [Replica(engine, store, dtype, keeps=keeps) for keeps in (True, False)]
    before = b""
    for index, event in enumerate(history_of(checkpoint, make_events(12)).events):
        await replicas[index % 2].add([event])
        entry = await store.get(replicas[0].codec.key("u"))
        assert entry is not None
        assert entry.header.dtype is dtype
        assert bytes(entry.payload).startswith(before)
        before = bytes(entry.payload)


@dtypes
async def test_a_late_event_leaves_the_rows_before_it_as_they_are(
    engine: Engine, checkpoint: Checkpoint, store: StateStore, dtype: Dtype
) -> None:
    """The state is written whole, from rows that were read: they are not rounded again."""
    replica = Replica(engine, store, dtype, keeps=False)
    *first, late, newest = history_of(checkpoint, make_events(9)).events
    await replica.add([*first, newest])
    key, row_bytes = replica.codec.key("u"), replica.codec.row_bytes
    before = await store.get(key)
    await replica.add([late])
    after = await store.get(key)
    assert before is not None
    assert after is not None
    kept = (len(first) - 1) * row_bytes
    assert bytes(after.payload[:kept]) == bytes(before.payload[:kept])
    assert after.payload[kept : kept + row_bytes] != before.payload[kept : kept + row_bytes]


@pytest.mark.parametrize("new", Dtype, ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("old", Dtype, ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_change_of_the_setting_rolls_out_and_back_without_a_miss(
    engine: Engine, checkpoint: Checkpoint, store: StateStore, old: Dtype, new: Dtype, keeps: bool
) -> None:
    """Every replica reads every dtype and writes its own; an append to another's is a whole put."""
    replicas = [Replica(engine, store, dtype, keeps=keeps) for dtype in (old, new)]
    key = replicas[0].codec.key("u")
    for index, event in enumerate(history_of(checkpoint, make_events(11)).events):
        replica = replicas[index // 2 % 2]
        loaded = await replica.states.load("u")
        assert loaded.status == ("hit" if index else "miss")
        assert len(loaded.stored.state.history) == index
        state = await replica.add([event])
        entry = await store.get(key)
        assert entry is not None
        assert entry.header.version == index + 1
        assert entry.header.dtype is replica.codec.dtype
        assert difference(engine, state) <= 1e-5 + max(map(relative_tolerance, (old, new)))


async def test_the_setting_decides_what_is_stored_and_is_told(folder: Path) -> None:
    async with serving(folder, store_dtype="int8", device_cache_bytes=0) as service:
        assert (await service.client.get("/info")).json()["store"]["dtype"] == "int8"
        await service.recommend(events=make_events(5))
        answer = await service.recommend(events=make_events(1, first=5))
        assert (answer["cache"]["status"], answer["cache"]["reused_events"]) == ("hit", 4)
        assert (answer["complete"], answer["degraded"]) == (True, [])
        state = await service.state()
        row_bytes = 16 + 2 * 2 * (4 + 6 + 2)
        assert (state["dtype"], state["num_bytes"]) == ("int8", HEADER_BYTES + 5 * row_bytes + 16)
