"""What can not be answered in time is refused before it is validated, by the rule of admission."""

import json
from typing import Any

import pytest

from service.api.peek import Peek
from service.serving import Size
from tests.service.builders import Service, make_events

pytestmark = pytest.mark.anyio


@pytest.fixture
def busy(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Those who wait for the engine take a tenth of a second more."""
    model = service.runtime._model
    assert model is not None
    monkeypatch.setattr(model.thread, "_wait_s", lambda _: 0.1)
    return service


async def test_what_is_refused_is_not_validated(
    busy: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError("it came to the recommender")

    monkeypatch.setattr(busy.runtime.recommender(), "recommend", never)
    body = {"user_id": 5, "events": [None], "budget_ms": 50}
    response = await busy.client.post("/recommend", json=body)
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    assert await busy.metric('mfalcon_refusals_total{reason="late"}') == 1
    assert await busy.metric('mfalcon_requests_total{route="/recommend",status="429"}') == 1


@pytest.mark.parametrize(
    ("budget", "status"), [({"budget_ms": 50}, 429), ({}, 200), ({"budget_ms": 5000}, 200)]
)
async def test_it_is_refused_by_its_own_budget(
    busy: Service, budget: dict[str, float], status: int
) -> None:
    body = {"user_id": "u", "events": make_events(2)} | budget
    response = await busy.client.post("/recommend", json=body)
    assert response.status_code == status


async def test_the_headers_budget_counts(busy: Service) -> None:
    for given_ms, status in (("50", 429), ("5000", 200), ("-1", 422)):
        headers = {"X-Request-Timeout-Ms": given_ms}
        response = await busy.client.post("/recommend", json={"user_id": "u"}, headers=headers)
        assert response.status_code == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"user_id": "u", "budget_ms": -1}'])
async def test_what_is_no_request_is_told_what_is_wrong(busy: Service, body: bytes) -> None:
    response = await busy.client.post("/recommend", content=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({}, Size(0, None, 10)),
        ({"candidates": None, "num_results": 7}, Size(0, None, 7)),
        ({"events": [{}, {}], "candidates": ["a", "b", "c"]}, Size(2, 3, 10)),
    ],
)
def test_a_peek_sees_what_a_request_costs(body: dict[str, Any], size: Size) -> None:
    assert Peek.at(json.dumps(body).encode()) == Peek(size, None)
    assert Peek.at(json.dumps(body | {"budget_ms": 7}).encode()) == Peek(size, 7)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"null",
        b"[" * 100_000,
        b'{"events": 1}',
        b'{"candidates": "a"}',
        b'{"num_results": "1"}',
        b'{"budget_ms": 0}',
        b'{"budget_ms": "5"}',
        b'{"budget_ms": NaN}',
        b'{"budget_ms": Infinity}',
    ],
)
def test_a_peek_at_something_else_sees_nothing(body: bytes) -> None:
    assert Peek.at(body) is None
