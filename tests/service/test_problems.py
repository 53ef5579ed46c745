"""Every error is problem+json with a stable code, and tells nothing that it should not."""

from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from model.engine.engine import Engine
from service.schemas import Problem
from tests.service.builders import ITEM_IDS, Service, make_events

pytestmark = pytest.mark.anyio

FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id"}

ERRORS = [
    ("POST", "/recommend", {"user_id": 1}, 422, "invalid_request"),
    ("POST", "/events", {"user_id": "u", "events": [{}]}, 422, "invalid_request"),
    ("POST", "/recommend", {"user_id": "u", "num_results": 1001}, 413, "too_large"),
    ("GET", "/users/nobody/state", None, 404, "unknown_user"),
    ("GET", f"/users/{'u' * 257}/state", None, 422, "invalid_request"),
    ("DELETE", f"/users/{'u' * 257}/state", None, 422, "invalid_request"),
    ("GET", "/nowhere", None, 404, "not_found"),
    ("GET", "/recommend", None, 405, "method_not_allowed"),
    ("DELETE", "/info", None, 405, "method_not_allowed"),
]


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert set(problem) - {"errors", "retry_after_s"} == FIELDS
    assert set(problem) <= set(Problem.model_fields)
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:mfalcon:problem:{code}"
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), ERRORS)
async def test_errors_have_one_shape(
    service: Service, method: str, path: str, body: Any, status: int, code: str
) -> None:
    response = await service.client.request(method, path, json=body)
    problem = assert_problem(response, status, code)
    assert problem["instance"] == path


async def test_a_wrong_method_tells_the_right_one(service: Service) -> None:
    response = await service.client.get("/recommend")
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "hush" * 100},
        {"user_id": ["hush"]},
        {"num_results": "hush"},
        {"history_mode": "hush"},
        {"include": ["hush"]},
        {"candidates": ["i1", {"hush": 1}]},
        {"events": [{"item_id": "hush" * 100, "timestamp": 1}]},
        {"events": [{"item_id": "i1", "action": "hush", "timestamp": 1}]},
        {"events": [{"item_id": "i1", "action": ["hush"], "timestamp": 1}]},
        {"events": [{"item_id": "i1", "timestamp": "hush"}]},
        {"request_time": "hush"},
        {"budget_ms": "hush"},
    ],
    ids=str,
)
async def test_an_error_names_the_field_but_not_its_value(
    service: Service, change: dict[str, Any]
) -> None:
    response = await service.client.post("/recommend", json={"user_id": "u"} | change)
    assert_problem(response, 422, "invalid_request")
    assert next(iter(change)) in response.text
    assert "hush" not in response.text


async def test_few_of_many_errors_are_told(service: Service) -> None:
    body = {"user_id": "u"} | {f"unknown_{n}": n for n in range(100)}
    response = await service.client.post("/recommend", json=body)
    problem = assert_problem(response, 422, "invalid_request")
    assert len(problem["errors"]) == 20
    assert all(set(error) == {"field", "message"} for error in problem["errors"])


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"candidates": ITEM_IDS * 1667}, "max_candidates"),
        ({"candidates": ["i1"] * 100_000}, "max_candidates"),
        ({"events": make_events(10_001)}, "max_events"),
        ({"num_results": 1001}, "max_results"),
        ({"num_results": 10**30}, "max_results"),
    ],
    ids=["100,020 candidates", "one candidate 100,000 times", "events", "results", "10^30 results"],
)
async def test_too_much_is_a_413_that_names_the_limit(
    service: Service, change: dict[str, Any], setting: str
) -> None:
    response = await service.client.post("/recommend", json={"user_id": "u"} | change)
    problem = assert_problem(response, 413, "too_large")
    assert setting in problem["detail"]
    assert f"--{setting.replace('_', '-')}" in problem["detail"]
    assert (await service.client.get("/users/u/state")).status_code == 404


async def test_exactly_the_limits_are_served(service: Service) -> None:
    await service.recommend(candidates=["i1"] * 10_000, num_results=1000)
    assert (await service.add_events(make_events(10_000)))["accepted"] == 10_000


async def test_an_unexpected_error_is_a_bare_500_and_the_service_goes_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("hush: /internal/path")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(Engine, "score", fail)
        response = await service.client.post("/recommend", json={"user_id": "u"})
    problem = assert_problem(response, 500, "internal")
    (logged,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert logged["request_id"] == problem["request_id"]
    assert isinstance(logged["exc_info"], RuntimeError)
    assert "hush" not in response.text
    assert "RuntimeError" not in response.text
    assert "errors" not in problem
    assert (await service.recommend(events=make_events(2)))["complete"] is True
    assert (await service.client.get("/health/live")).status_code == 200
    assert await service.metric('mfalcon_requests_total{route="/recommend",status="500"}') == 1


async def test_an_engine_that_fails_on_events_is_a_500_and_the_next_request_is_served(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("hush")

    body = {"user_id": "u", "events": make_events(3)}
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "encode", fail)
        response = await service.client.post("/events", json=body)
        assert_problem(response, 500, "internal")
        assert "hush" not in response.text
    assert (await service.add_events(make_events(3)))["accepted"] == 3


async def test_a_failed_write_after_the_answer_is_told_in_the_log_and_the_user_is_served_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little time for the model, so that the write has to encode."""

    def fail(*_: object) -> None:
        raise RuntimeError("hush")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(Engine, "encode", fail)
        answer = await service.recommend(events=make_events(3), budget_ms=1e-6)
        assert answer["degraded"] == ["popularity"]
        await service.runtime.recommender().drain()
    answer = await service.recommend(events=make_events(3))
    assert answer["cache"]["encoded_events"] == 3
    assert [entry["log_level"] for entry in logs].count("error") == 1
