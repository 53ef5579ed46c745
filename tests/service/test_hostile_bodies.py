"""Bodies made to cost more than they should: deep, long, slow, or other than they say."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from service.schemas import RecommendRequest
from tests.service.builders import Service, make_events
from tests.service.test_middleware import JSON_TYPE
from tests.service.test_problems import assert_problem

pytestmark = pytest.mark.anyio

DEEP = 100_000

BODIES = {
    "deep lists": b"[" * DEEP,
    "deep lists that end": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep in a field": b'{"user_id": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep but not too deep to be parsed": b'{"user_id": ' + b"[" * 500 + b"]" * 500 + b"}",
    "long number": b'{"user_id": "u", "num_results": ' + b"9" * DEEP + b"}",
    "long fraction": b'{"user_id": "u", "budget_ms": 0.' + b"9" * DEEP + b"e999999}",
    "no number": b'{"user_id": "u", "budget_ms": NaN}',
    "infinity": b'{"user_id": "u", "budget_ms": Infinity}',
    "half a surrogate": b'{"user_id": "\\ud800"}',
    "not UTF-8": b'{"user_id": "\xff"}',
    "many fields": b"{" + b",".join(b'"x%d": 1' % n for n in range(DEEP)) + b"}",
    "many fields in a field": b'{"user_id": "u", "events": [{'
    + b",".join(b'"x%d": 1' % n for n in range(DEEP))
    + b"}]}",
    "many wrong inclusions": b'{"user_id": "u", "include": [' + b"1," * DEEP + b"1]}",
    "many wrong events": b'{"user_id": "u", "events": [' + b"1," * DEEP + b"1]}",
    "nothing": b"",
}


@pytest.mark.parametrize("path", ["/recommend", "/events"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_hostile_body_is_a_422_and_the_service_goes_on(
    service: Service, path: str, body: bytes
) -> None:
    response = await service.client.post(path, content=body, headers=JSON_TYPE)
    assert_problem(response, 422, "invalid_request")
    assert len(response.content) < 10_000
    assert (await service.recommend())["complete"] is True


async def test_a_slow_body_holds_no_turn_and_its_deadline_runs(service: Service) -> None:
    """The deadline counts from the first byte: once the body is here there is no time left."""
    others_are_served = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"user_id": "u", "budget_ms": 1'
        await others_are_served.wait()
        await asyncio.sleep(0.01)
        yield b"}"

    late = asyncio.create_task(
        service.client.post("/recommend", content=slowly(), headers=JSON_TYPE)
    )
    await asyncio.sleep(0)
    assert (await service.recommend(events=make_events(2)))["complete"] is True
    assert not late.done()
    others_are_served.set()
    response = await late
    assert response.status_code == 504 or response.json()["complete"] is False


MANY_ERRORS = {name: BODIES[name] for name in BODIES if name.startswith("many")}


@pytest.mark.parametrize("body", MANY_ERRORS.values(), ids=MANY_ERRORS)
async def test_a_body_full_of_errors_is_not_searched_for_all_of_them(
    service: Service, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Listing each of a hundred thousand would stop the event loop for seconds."""
    counts = []
    told = RequestValidationError.__init__

    def count(self: RequestValidationError, errors: Sequence[Any], **more: Any) -> None:
        counts.append(len(errors))
        told(self, errors, **more)

    monkeypatch.setattr(RequestValidationError, "__init__", count)
    response = await service.client.post("/recommend", content=body, headers=JSON_TYPE)
    assert_problem(response, 422, "invalid_request")
    assert counts[0] <= 128
    batch = b'{"requests": [' + body + b"]}"
    response = await service.client.post("/recommend/batch", content=batch, headers=JSON_TYPE)
    (problem,) = response.json()["results"]
    assert problem["code"] == "invalid_request"


async def test_a_batch_of_too_many_is_not_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(RecommendRequest, "model_validate", read)
    body = b'{"requests": [' + b"1," * DEEP + b"1]}"
    response = await service.client.post("/recommend/batch", content=body, headers=JSON_TYPE)
    assert_problem(response, 413, "too_large")
