"""The store goes away: a copy that it confirmed lately stands in, and never becomes the truth."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache import MemoryStore
from model.checkpoint import Checkpoint
from tests.service.builders import JSON, PARTS, Service, assert_right, make_events, serving
from tests.service.stores import FlakyStore

pytestmark = pytest.mark.anyio

EVENTS = make_events(9)
MANY = 1_000_000


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
async def service(
    folder: Path, store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    monkeypatch.setattr("service.runtime.MemoryStore", lambda *_: store)
    async with serving(folder, max_budget_ms=60_000) as running:
        yield running


def assert_stood_in(answer: JSON) -> None:
    assert (answer["cache"]["status"], answer["cache"]["tier"]) == ("error", "device")
    assert (answer["degraded"], answer["complete"]) == (["store_unavailable"], False)


async def test_a_copy_stands_in_and_what_it_grew_to_is_not_kept(
    service: Service, store: FlakyStore, checkpoint: Checkpoint
) -> None:
    await service.add_events(EVENTS[:6])
    store.num_failures = MANY
    for number in (6, 7):  # the second does not know of the first
        answer = await service.recommend(events=EVENTS[number : number + 1], **PARTS)
        assert_stood_in(answer)
        assert_right(answer, checkpoint, [*EVENTS[:6], EVENTS[number]])
        assert answer["cache"]["reused_events"] == 5
    told = await service.add_events(EVENTS[6:8])
    assert (told["num_events"], told["stored"]) == (8, False)
    store.num_failures = 0
    answer = await service.recommend(events=EVENTS[6:], **PARTS)
    assert (answer["cache"]["status"], answer["degraded"]) == ("hit", [])
    assert_right(answer, checkpoint, EVENTS)
    assert (await service.state())["num_events"] == 9


async def test_a_copy_stands_in_for_a_minute(
    service: Service, store: FlakyStore, checkpoint: Checkpoint
) -> None:
    device: Any = service.runtime.recommender().states._device
    now_s = 1000.0
    device._clock = lambda: now_s
    await service.add_events(EVENTS[:6])
    now_s += 50
    await service.recommend()  # confirmed
    store.num_failures = MANY
    now_s += 50
    answer = await service.recommend(events=EVENTS[6:7], **PARTS)
    assert_stood_in(answer)
    now_s += 11
    answer = await service.recommend(events=EVENTS[6:7], **PARTS)
    assert (answer["cache"]["status"], answer["cache"]["tier"]) == ("error", None)
    assert_right(answer, checkpoint, EVENTS[6:7])


async def test_a_user_deleted_while_the_store_is_away_does_not_come_back(
    service: Service, store: FlakyStore
) -> None:
    await service.add_events(EVENTS)
    store.num_failures = MANY
    assert (await service.client.delete("/users/u/state")).status_code == 503
    answer = await service.recommend()
    assert answer["degraded"] == ["no_history", "store_unavailable"]
    store.num_failures = 0
    assert (await service.client.delete("/users/u/state")).json()["deleted"] is True
    assert (await service.recommend())["degraded"] == ["no_history"]


@pytest.mark.parametrize("num_failures", [1, 2])
async def test_a_copy_of_a_user_whom_another_replica_forgot_is_never_written(
    service: Service, store: FlakyStore, checkpoint: Checkpoint, num_failures: int
) -> None:
    await service.add_events(EVENTS[:6])
    states = service.runtime.recommender().states
    assert await MemoryStore.delete(store, states._codec.key("u"))
    # Away when the state is read, and back, or not yet, when the new one is written.
    store.num_failures = num_failures
    answer = await service.recommend(events=EVENTS[6:7], **PARTS)
    assert_stood_in(answer)
    await service.runtime.recommender().drain()
    answer = await service.recommend(events=EVENTS[7:8], **PARTS)
    known = EVENTS[6:8] if num_failures == 1 else EVENTS[7:8]
    assert_right(answer, checkpoint, known)
    assert (await service.state())["num_events"] == len(known)


async def test_what_another_replica_added_meanwhile_is_not_lost(
    folder: Path, service: Service, store: FlakyStore, checkpoint: Checkpoint
) -> None:
    await service.add_events(EVENTS[:5])
    async with serving(folder) as other:
        await other.add_events(EVENTS[5:7])
        store.num_failures = 1
        answer = await service.recommend(events=EVENTS[7:], **PARTS)
        assert_stood_in(answer)
        await service.runtime.recommender().drain()
        assert_right(await service.recommend(**PARTS), checkpoint, EVENTS)
