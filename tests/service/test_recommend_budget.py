"""The latency budget and a busy engine: what is answered when there is no time, or no room."""

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import anyio
import httpx
import pytest

from model.checkpoint import Checkpoint
from service.deadline import Deadline
from service.states import UserStates
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    NOW_S,
    Service,
    assert_right,
    make_events,
    serving,
)

pytestmark = pytest.mark.anyio

NO_HANG_S = 30.0
NO_TIME_MS = 1e-6


def assert_popularity(answer: JSON, checkpoint: Checkpoint, seen: list[JSON]) -> None:
    """The engine was not reached: the unseen items by the prior, without scores, and told so."""
    assert answer["complete"] is False
    assert answer["degraded"] == ["popularity"]
    prior = checkpoint.network.retrieval.prior.tolist()
    left_out = {event["item_id"] for event in seen}
    unseen = [item_id for item_id in ITEM_IDS if item_id not in left_out]
    expected = sorted(unseen, key=lambda item_id: -prior[ITEM_IDS.index(item_id)])[:10]
    assert answer["items"] == [
        {"item_id": item_id, "score": None, "actions": None} for item_id in expected
    ]


async def test_without_time_for_the_model_the_answer_is_popularity_and_the_events_are_kept(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(5)
    answer = await service.recommend(events=events, budget_ms=NO_TIME_MS)
    assert_popularity(answer, checkpoint, events)
    more = make_events(2, first=5)
    answer = await service.recommend(events=more, budget_ms=NO_TIME_MS)
    assert_popularity(answer, checkpoint, events + more)
    answer = await service.recommend(include=["parts"])
    assert answer["complete"] is True
    assert answer["cache"]["reused_events"] == 6
    assert_right(answer, checkpoint, events + more)


@pytest.mark.parametrize("budget_ms", [None, 10_000])
async def test_the_header_shortens_the_budget(
    service: Service, checkpoint: Checkpoint, budget_ms: float | None
) -> None:
    body = {"user_id": "u", "request_time": NOW_S, "budget_ms": budget_ms}
    headers = {"X-Request-Timeout-Ms": str(NO_TIME_MS)}
    response = await service.client.post("/recommend", json=body, headers=headers)
    assert response.status_code == 200
    degraded = response.json()["degraded"]
    assert degraded == ["no_history", "popularity"]
    assert response.json()["complete"] is False
    headers = {"X-Request-Timeout-Ms": "900.5"}
    response = await service.client.post("/recommend", json=body, headers=headers)
    assert response.json()["complete"] is True
    assert_right(await service.recommend(include=["parts"]), checkpoint, [])


async def test_the_servers_budget_is_the_most(folder: Path) -> None:
    async with serving(folder, max_budget_ms=NO_TIME_MS) as service:
        body = {"user_id": "u", "budget_ms": 10_000}
        headers = {"X-Request-Timeout-Ms": "10000"}
        response = await service.client.post("/recommend", json=body, headers=headers)
        assert "popularity" in response.json()["degraded"]
        answer = await service.recommend()
        assert "popularity" in answer["degraded"]


async def test_the_budget_counts_from_the_first_byte(service: Service) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"user_id": "u", '
        await asyncio.sleep(0.25)
        yield b'"budget_ms": 200}'

    headers = {"Content-Type": "application/json"}
    response = await service.client.post("/recommend", content=slowly(), headers=headers)
    assert response.status_code == 200
    assert "popularity" in response.json()["degraded"]


@pytest.mark.parametrize("value", ["", "0", "-5", "nan", "inf", "-inf", "soon", "5 ms", "5,0"])
async def test_a_wrong_timeout_header_is_named(service: Service, value: str) -> None:
    response = await service.client.post(
        "/recommend", json={"user_id": "u"}, headers={"X-Request-Timeout-Ms": value}
    )
    assert response.status_code == 422
    assert "X-Request-Timeout-Ms" in response.json()["detail"]


async def test_a_deadline_amid_scoring_keeps_the_scored_and_tells_the_rest(
    service: Service, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(5)
    looks = count()
    # Looked at by the engine thread before the job, then before each microbatch of 16.
    monkeypatch.setattr(Deadline, "expired", property(lambda _: next(looks) >= 3))
    answer = await service.recommend(
        events=events, candidates=ITEM_IDS, num_results=60, include=["parts"]
    )
    assert answer["complete"] is False
    assert answer["degraded"] == ["unscored_candidates"]
    scored, rest = answer["items"][:32], answer["items"][32:]
    assert len(rest) == 55 - 32
    assert all(item["score"] is None and item["actions"] is None for item in rest)
    assert_right(answer | {"items": scored}, checkpoint, events)
    retrieval = [item["retrieval_score"] for item in rest]
    assert retrieval == sorted(retrieval, reverse=True)
    assert retrieval[0] <= min(item["retrieval_score"] for item in scored)


async def test_an_engine_that_does_not_answer_is_a_504_and_the_service_goes_on(
    service: Service, is_free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.serving._GRACE_S", 0.02)
    is_free.clear()
    body = {"user_id": "u", "budget_ms": 300}
    with anyio.fail_after(NO_HANG_S):
        response = await service.client.post("/recommend", json=body)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    is_free.set()
    monkeypatch.undo()
    assert (await service.recommend())["complete"] is True


async def test_a_full_queue_is_a_429_that_says_when_to_come_back(
    folder: Path, is_free: threading.Event
) -> None:
    async with serving(folder, max_queue=2) as service:
        is_free.clear()

        async def ask(user: int) -> httpx.Response:
            body = {"user_id": f"user {user}", "events": make_events(2)}
            return await service.client.post("/recommend", json=body)

        tasks = [asyncio.create_task(ask(user)) for user in range(10)]
        with anyio.fail_after(NO_HANG_S):
            while sum(task.done() for task in tasks) < 7:  # one may run, two may wait
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
            is_free.set()
            responses = await asyncio.gather(*tasks)
        refused = [response for response in responses if response.status_code == 429]
        assert 7 <= len(refused) <= 8
        assert {response.status_code for response in responses} == {200, 429}
        for response in refused:
            assert response.json()["code"] == "overloaded"
            assert int(response.headers["Retry-After"]) >= 1
        assert await service.metric('mfalcon_requests_total{route="/recommend",status="429"}') == (
            len(refused)
        )
        refused_users = [user for user in range(10) if responses[user].status_code == 429]
        for user in refused_users:
            path = f"/users/user {user}/state"
            assert (await service.client.get(path)).status_code == 404
        assert (await service.recommend())["complete"] is True


async def test_a_turn_that_does_not_come_in_time_costs_the_scores_and_no_event(
    service: Service, checkpoint: Checkpoint
) -> None:
    """An earlier request of the user hangs: the answer is due all the same."""
    await service.add_events(make_events(3))
    states = service.runtime.recommender().states
    async with states.turn("u"):
        with anyio.fail_after(NO_HANG_S):
            answer = await service.recommend(events=make_events(2, first=3), budget_ms=20)
            assert_popularity(answer, checkpoint, make_events(5))
            unchanged = await service.recommend(budget_ms=20)
            assert_popularity(unchanged, checkpoint, make_events(5))
    answer = await service.recommend(include=["parts"])
    assert answer["complete"] is True
    assert_right(answer, checkpoint, make_events(5))


async def test_events_whose_turn_does_not_come_are_a_504_and_not_stored(folder: Path) -> None:
    async with serving(folder, max_budget_ms=20) as service:
        async with service.runtime.recommender().states.turn("u"):
            with anyio.fail_after(NO_HANG_S):
                body = {"user_id": "u", "events": make_events(2)}
                response = await service.client.post("/events", json=body)
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
        assert (await service.client.get("/users/u/state")).status_code == 404


async def test_one_users_retries_do_not_pile_up_nor_keep_others_out(folder: Path) -> None:
    async with serving(folder, max_user_requests=3) as service:
        states = service.runtime.recommender().states
        async with states.turn("u"), asyncio.TaskGroup() as waiting:
            for _ in range(2):
                waiting.create_task(service.recommend())
            await in_flight(states, 3)
            for path in ("/recommend", "/events"):
                response = await service.client.post(path, json={"user_id": "u"})
                assert (response.status_code, response.json()["code"]) == (429, "overloaded")
                assert response.headers["Retry-After"] == "1"
            assert (await service.recommend(user_id="v"))["complete"] is True
        assert await service.metric('mfalcon_refusals_total{reason="user"}') == 2
        assert (await service.recommend())["complete"] is True


async def in_flight(states: UserStates, count: int) -> None:
    """Wait until so many requests of user "u" are."""
    for _ in range(1000):
        if states._turns._queues["u"].num_turns == count:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"never {count} in flight")


async def test_what_would_wait_longer_than_its_budget_is_a_429_before_anything_is_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = service.runtime._model
    assert model is not None
    thread = model.thread
    monkeypatch.setattr(thread, "_wait_s", lambda _: 7.5)
    for path in ("/recommend", "/events"):
        body = {"user_id": "u", "events": make_events(2)}
        response = await service.client.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (429, "overloaded")
        assert response.headers["Retry-After"] == "7"  # the budget is a second, less what is spent
    assert await service.metric('mfalcon_refusals_total{reason="late"}') == 2
    assert await service.metric("mfalcon_queue_seconds") == 7.5
    assert (await service.client.get("/users/u/state")).status_code == 404
    monkeypatch.undo()
    assert (await service.recommend())["cache"]["status"] == "miss"
