"""A service whose store is down: it answers from what the request brings, and says so."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from tests.service.builders import Service, assert_right, make_events, serving
from tests.service.stores import BrokenStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr("service.runtime.MemoryStore", lambda *_: BrokenStore())
    async with serving(folder) as running:
        yield running


async def test_events_are_told_not_to_be_stored(service: Service) -> None:
    answer = await service.add_events(make_events(3))
    assert (answer["accepted"], answer["stored"]) == (3, False)
    for mode in ("append", "replace"):
        answer = await service.add_events([], history_mode=mode)
        assert (answer["num_events"], answer["stored"]) == (0, False)


async def test_a_recommendation_goes_by_the_requests_own_events(
    service: Service, checkpoint: Checkpoint
) -> None:
    for _ in range(2):
        answer = await service.recommend(events=make_events(3), include=["parts"])
        assert answer["cache"]["status"] == "error"
        assert answer["cache"]["tier"] is None
        assert answer["degraded"] == ["store_unavailable"]
        assert answer["complete"] is False
        assert_right(answer, checkpoint, make_events(3))


async def test_a_whole_history_makes_the_answer_complete(
    service: Service, checkpoint: Checkpoint
) -> None:
    answer = await service.recommend(
        events=make_events(3), history_mode="replace", include=["parts"]
    )
    assert (answer["degraded"], answer["complete"]) == ([], True)
    assert_right(answer, checkpoint, make_events(3))


async def test_states_can_be_neither_seen_nor_deleted(service: Service) -> None:
    for method in ("GET", "DELETE"):
        response = await service.client.request(method, "/users/u/state")
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert int(response.headers["Retry-After"]) >= 1


async def test_failures_are_counted_and_the_service_stays_ready(service: Service) -> None:
    await service.recommend(events=make_events(3))
    await service.runtime.recommender().drain()
    assert await service.metric('mfalcon_store_errors_total{op="get"}') >= 1
    assert (await service.client.get("/health/ready")).status_code == 200
