"""Many users in one request: each entry is served, counted and refused as a request of its own."""

import asyncio
import math
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from model.checkpoint import Checkpoint
from service.answer import Answering
from service.recommender import Recommender
from service.schemas import RecommendRequest
from tests.service.builders import (
    JSON,
    NOW_S,
    Service,
    assert_right,
    make_events,
    scores_of,
    serving,
)
from tests.service.test_problems import FIELDS, assert_problem

pytestmark = pytest.mark.anyio

NO_HANG_S = 60.0


async def ask(service: Service, path: str, requests: list[Any], **body: Any) -> list[JSON]:
    """The results of a batch."""
    response = await service.client.post(f"{path}/batch", json={"requests": requests} | body)
    assert response.status_code == 200, response.text
    answer: JSON = response.json()
    assert answer["request_id"] == response.headers["X-Request-ID"]
    assert len(answer["results"]) == len(requests)
    results: list[JSON] = answer["results"]
    return results


def entry(user_id: str, **more: Any) -> JSON:
    return {"user_id": user_id, "request_time": NOW_S} | more


async def test_every_user_gets_what_a_request_of_its_own_would(
    service: Service, checkpoint: Checkpoint
) -> None:
    requests = [
        entry(f"u{count}", events=make_events(count), include=["parts"]) for count in range(1, 7)
    ]
    for result, request in zip(await ask(service, "/recommend", requests), requests, strict=True):
        assert result["user_id"] == request["user_id"]
        assert result["complete"] is True
        assert_right(result, checkpoint, request["events"])
        alone = await service.recommend(**(request | {"user_id": "alone" + request["user_id"]}))
        assert scores_of(alone) == pytest.approx(scores_of(result), abs=1e-5)


async def test_events_of_many_users_are_stored(service: Service) -> None:
    counts = {f"u{count}": count for count in range(1, 7)}
    requests = [{"user_id": user, "events": make_events(n)} for user, n in counts.items()]
    results = await ask(service, "/events", requests)
    assert {result["user_id"]: result["accepted"] for result in results} == counts
    assert all(result["stored"] for result in results)
    for user, count in counts.items():
        assert (await service.state(user))["num_events"] == count


WRONG: list[tuple[Any, int, str]] = [
    (7, 422, "body"),
    (None, 422, "body"),
    ({}, 422, "user_id"),
    ({"user_id": 7}, 422, "user_id"),
    ({"user_id": "v", "hush": 1}, 422, "hush"),
    ({"user_id": "v", "events": [{"item_id": "i1"}]}, 422, "events.0.timestamp"),
    (
        {"user_id": "v", "events": [{"item_id": "i1", "action": "no", "timestamp": 1}]},
        422,
        "action",
    ),
    ({"user_id": "v", "events": make_events(21)}, 413, "max_events"),
]


@pytest.mark.parametrize("path", ["/recommend", "/events"])
@pytest.mark.parametrize(("wrong", "status", "named"), WRONG, ids=lambda value: str(value)[:40])
async def test_a_wrong_entry_is_a_problem_in_its_place_and_fails_no_other(
    folder: Path, path: str, wrong: Any, status: int, named: str
) -> None:
    async with serving(folder, max_events=20) as service:
        right = {"user_id": "u", "events": make_events(1)}
        first, second, third = await ask(service, path, [right, wrong, right])
    assert first["user_id"] == third["user_id"] == "u"
    assert set(second) == FIELDS | {"errors", "retry_after_s"}
    assert (second["status"], second["instance"]) == (status, f"{path}/batch#/requests/1")
    assert named in second["detail"]
    assert second["code"] == ("too_large" if status == 413 else "invalid_request")


async def test_one_users_entries_are_served_in_their_order(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(5)
    requests = [
        entry("u", events=[event], include=["parts"], history_size=n)
        for n, event in enumerate(events, 1)
    ]
    results = await ask(service, "/recommend", requests)
    assert not any("history_incomplete" in result["degraded"] for result in results)
    for n, result in enumerate(results, 1):
        assert_right(result, checkpoint, events[:n])
    stored = await ask(
        service, "/events", [{"user_id": "v", "events": [event]} for event in events]
    )
    assert [result["num_events"] for result in stored] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("path", ["/recommend", "/events"])
async def test_however_many_entries_a_user_has_they_are_as_one_in_flight(
    folder: Path, path: str
) -> None:
    """Beside the one whose write may not have ended."""
    async with serving(folder, max_user_requests=2, max_budget_ms=60_000) as service:
        events = make_events(9)
        await ask(service, path, [{"user_id": "u", "events": [event]} for event in events])
        assert (await service.state())["num_events"] == len(events)
        assert await service.metric('mfalcon_refusals_total{reason="user"}') == 0


async def test_one_budget_is_for_all_and_an_entry_may_have_less(service: Service) -> None:
    requests = [entry("u", budget_ms=60_000), entry("v")]
    for result in await ask(service, "/recommend", requests, budget_ms=1e-6):
        assert result.get("code") == "deadline_exceeded" or result["complete"] is False
    hurried = [entry("u"), entry("v", budget_ms=1e-6), entry("w")]
    first, second, third = await ask(service, "/recommend", hurried)
    assert first["complete"] is third["complete"] is True
    assert second.get("code") == "deadline_exceeded" or second["complete"] is False
    response = await service.client.post(
        "/recommend/batch", json={"requests": requests}, headers={"X-Request-Timeout-Ms": "soon"}
    )
    assert_problem(response, 422, "invalid_request")


async def test_entries_are_admitted_by_the_rule_of_single_requests(
    folder: Path, is_free: threading.Event
) -> None:
    """One may run and two may wait; the batch is answered nevertheless."""
    async with serving(folder, max_queue=2, max_budget_ms=60_000) as service:
        is_free.clear()
        single = asyncio.create_task(service.recommend(user_id="first", events=make_events(2)))
        requests = [entry(f"u{n}", events=make_events(2)) for n in range(9)]
        model = service.runtime._model
        assert model is not None
        with anyio.fail_after(NO_HANG_S):
            # A batch of the warm-up may be there still.
            taken: list[float] = []
            while not any(map(math.isfinite, taken)):
                await asyncio.sleep(0.01)
                due = (ticket.job.deadline for ticket in model.thread._taken)
                taken = [deadline.at_s for deadline in due if deadline is not None]
        batch = asyncio.create_task(ask(service, "/recommend", requests))
        with anyio.fail_after(NO_HANG_S):
            while await service.metric("mfalcon_queue_requests") < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # for those beyond to be refused
            is_free.set()
            results = await batch
            assert (await single)["complete"] is True
    refused = [result for result in results if result.get("code") == "overloaded"]
    assert len(refused) == 7
    assert all(result["status"] == 429 and result["retry_after_s"] >= 1 for result in refused)
    assert all(result["complete"] for result in results if result not in refused)


async def test_an_unexpected_error_of_one_is_a_bare_problem_of_its_own(
    service: Service, monkeypatch: pytest.MonkeyPatch, log: list[JSON]
) -> None:
    recommend = Recommender.recommend

    async def fail(self: Recommender, request: RecommendRequest, *rest: Any) -> Any:
        if request.user_id == "v":
            raise RuntimeError("hush: /internal/path")
        return await recommend(self, request, *rest)

    monkeypatch.setattr(Recommender, "recommend", fail)
    first, second, third = await ask(service, "/recommend", [entry("u"), entry("v"), entry("w")])
    assert first["complete"] is third["complete"] is True
    assert (second["status"], second["code"]) == (500, "internal")
    assert "hush" not in str(second)
    (logged,) = [line for line in log if line["log_level"] == "error"]
    assert (logged["request_id"], logged["entry"]) == (second["request_id"], 1)


@pytest.mark.parametrize("path", ["/recommend/batch", "/events/batch"])
async def test_the_batch_itself_is_bounded(folder: Path, path: str) -> None:
    async with serving(folder, max_batch_users=3, max_body_bytes=1024) as service:
        for count, status in ((3, 200), (4, 413)):
            asked = {"requests": [{"user_id": "u"}] * count}
            response = await service.client.post(path, json=asked)
            assert response.status_code == status
        assert "max_batch_users" in assert_problem(response, 413, "too_large")["detail"]
        wrong: list[JSON] = [{}, {"requests": []}, {"requests": {}}, {"requests": [{}], "more": 1}]
        for body in wrong:
            response = await service.client.post(path, json=body)
            assert_problem(response, 422, "invalid_request")
        long = {"requests": [{"user_id": "u" * 2000}]}
        assert_problem(await service.client.post(path, json=long), 413, "too_large")


async def test_the_document_shows_what_an_entry_is(service: Service) -> None:
    schemas = (await service.client.get("/openapi.json")).json()["components"]["schemas"]
    for name, request, answer in (
        ("RecommendBatch", "RecommendRequest", "RecommendResponse"),
        ("EventsBatch", "EventsRequest", "EventsResponse"),
    ):
        items = schemas[name]["properties"]["requests"]["items"]
        assert items == {"$ref": f"#/components/schemas/{request}"}
        results = schemas[f"{name}Response"]["properties"]["results"]["items"]
        assert [part["$ref"] for part in results["anyOf"]] == [
            f"#/components/schemas/{answer}",
            "#/components/schemas/Problem",
        ]


async def test_what_an_answer_to_many_takes_is_kept_of_their_budget_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answering.answer

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.02)
        return answer(*args, **kwargs)

    monkeypatch.setattr(Answering, "answer", slowly)
    recommender = service.runtime.recommender()
    before_s = recommender.margin.seconds
    for _ in range(5):
        await ask(service, "/recommend", [entry(f"u{n}", budget_ms=10_000) for n in range(4)])
        recommender.batch_margin._learned_s = -math.inf  # as if a while ago
    assert recommender.batch_margin.seconds > 0.02
    assert recommender.margin.seconds == before_s
