"""A copy of this process is used at once, and answered from only if the store holds the same."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cache import MemoryStore
from model.checkpoint import Checkpoint
from tests.service.builders import PARTS, Service, assert_right, make_events, serving
from tests.service.stores import CalledStore, FlakyStore, FullStore

pytestmark = pytest.mark.anyio

EVENTS = make_events(12)
NO_TIME_MS = 1e-6


@asynccontextmanager
async def replicas_on(
    store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch, count: int = 1
) -> AsyncIterator[list[Service]]:
    """Services that share a store, and know of each other by nothing else."""
    monkeypatch.setattr("service.runtime.MemoryStore", lambda *_: store)
    async with AsyncExitStack() as stack:
        flags = {"max_budget_ms": 60_000}
        yield [await stack.enter_async_context(serving(folder, **flags)) for _ in range(count)]


async def test_a_returning_user_costs_one_round_trip(
    folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint
) -> None:
    store = CalledStore()
    async with replicas_on(store, folder, monkeypatch) as (service,):
        await service.add_events(EVENTS[:5])
        store.calls.clear()
        for number in range(5, 9):
            answer = await service.recommend(events=EVENTS[number : number + 1], **PARTS)
            assert (answer["cache"]["status"], answer["cache"]["tier"]) == ("hit", "device")
            assert_right(answer, checkpoint, EVENTS[: number + 1])
        assert store.calls == ["append"] * 4
        store.calls.clear()
        assert_right(await service.recommend(**PARTS), checkpoint, EVENTS[:9])
        assert store.calls == ["head"]
        assert (await service.state())["num_events"] == 9


@pytest.mark.parametrize("count", [1, 2, 6], ids=["nothing new", "one event", "the window moves"])
async def test_what_another_replica_wrote_is_in_the_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint, count: int
) -> None:
    """However much the request brings: nothing, a tail, or so much that all is written anew."""
    async with replicas_on(MemoryStore(1 << 24, 60), folder, monkeypatch, 2) as (first, second):
        await first.add_events(EVENTS[:5])
        await second.recommend(events=EVENTS[5:6])
        answer = await first.recommend(events=EVENTS[6 : 5 + count], **PARTS)
        assert (answer["cache"]["status"], answer["cache"]["tier"]) == ("hit", "memory")
        assert_right(answer, checkpoint, EVENTS[: 5 + count])
        for service in (second, first):
            again = await service.recommend(**PARTS)
            assert_right(again, checkpoint, EVENTS[: 5 + count])
        lost = await first.metric("mfalcon_state_write_conflicts_total")
        assert lost == (1 if count > 1 else 0)


async def test_a_history_that_is_replaced_is_written_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint
) -> None:
    store = CalledStore()
    async with replicas_on(store, folder, monkeypatch) as (service,):
        await service.add_events(EVENTS[:5])
        store.calls.clear()
        answer = await service.recommend(events=EVENTS[2:4], history_mode="replace", **PARTS)
        assert_right(answer, checkpoint, EVENTS[2:4])
        assert_right(await service.recommend(**PARTS), checkpoint, EVENTS[2:4])
        assert store.calls == ["head", "put", "head"]


async def test_a_request_without_time_for_the_model_is_stored_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint
) -> None:
    async with replicas_on(MemoryStore(1 << 24, 60), folder, monkeypatch) as (service,):
        await service.add_events(EVENTS[:5])
        answer = await service.recommend(events=EVENTS[5:6], budget_ms=NO_TIME_MS)
        assert answer["degraded"] == ["popularity"]
        assert_right(await service.recommend(**PARTS), checkpoint, EVENTS[:6])


async def test_a_full_store_confirms_what_it_holds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint
) -> None:
    store = FullStore()
    async with replicas_on(store, folder, monkeypatch) as (service,):
        await service.add_events(EVENTS[:5])
        store.is_full = True
        answer = await service.recommend(events=EVENTS[5:6], **PARTS)
        assert (answer["cache"]["status"], answer["degraded"]) == ("hit", [])
        assert_right(answer, checkpoint, EVENTS[:6])
        assert (await service.state())["num_events"] == 5
        assert await service.metric('mfalcon_unstored_total{reason="store"}') == 1


async def test_one_lost_reply_costs_the_answer_no_event_and_the_store_neither(
    folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint
) -> None:
    """The write is tried again behind the answer, which tells what it is based on."""
    store = FlakyStore()
    async with replicas_on(store, folder, monkeypatch) as (service,):
        await service.add_events(EVENTS[:5])
        store.num_failures = 1
        answer = await service.recommend(events=EVENTS[5:6], **PARTS)
        assert (answer["cache"]["status"], answer["degraded"]) == ("error", ["store_unavailable"])
        assert_right(answer, checkpoint, EVENTS[:6])
        assert await service.metric('mfalcon_store_errors_total{op="put"}') == 1
        again = await service.recommend(**PARTS)
        assert (again["cache"]["status"], again["degraded"]) == ("hit", [])
        assert_right(again, checkpoint, EVENTS[:6])
