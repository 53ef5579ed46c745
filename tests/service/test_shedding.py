"""What can not be answered in time is refused before it is validated, by the rule of admission."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import protocol
from service.api.peek import Peek
from service.keys import Keys
from service.serving import Size
from tests.service.builders import Service, make_events, over_sockets

pytestmark = pytest.mark.anyio


@pytest.fixture
async def busy(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """Asked over sockets, while those who wait for the engine take .3 s."""
    model = service.runtime._model
    assert model is not None
    monkeypatch.setattr(model.thread, "_wait_s", lambda _: 0.3)
    async with (
        over_sockets(service.app, service.runtime.settings) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield Service(service.app, client)


async def test_what_is_refused_is_not_validated(
    busy: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError("it came to the recommender")

    monkeypatch.setattr(busy.runtime.recommender(), "recommend", never)
    body = {"user_id": 5, "events": [None], "budget_ms": 400}
    response = await busy.client.post("/recommend", json=body)
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    assert await busy.metric('mfalcon_refusals_total{reason="late"}') == 1
    assert await busy.metric('mfalcon_requests_total{route="/recommend",status="429"}') == 1


@pytest.mark.parametrize(
    ("budget", "status"), [({"budget_ms": 400}, 429), ({}, 200), ({"budget_ms": 5000}, 200)]
)
async def test_it_is_refused_by_its_own_budget(
    busy: Service, budget: dict[str, float], status: int
) -> None:
    body = {"user_id": "u", "events": make_events(2)} | budget
    response = await busy.client.post("/recommend", json=body)
    assert response.status_code == status


async def test_the_headers_budget_counts(busy: Service) -> None:
    for given_ms, status in (("400", 429), ("5000", 200), ("-1", 422)):
        headers = {"X-Request-Timeout-Ms": given_ms}
        response = await busy.client.post("/recommend", json={"user_id": "u"}, headers=headers)
        assert response.status_code == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"user_id": "u", "budget_ms": -1}'])
async def test_what_is_no_request_is_told_what_is_wrong(busy: Service, body: bytes) -> None:
    response = await busy.client.post("/recommend", content=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


LATE = b'{"user_id": "u", "budget_ms": 400}'
NO_HANG_S = 20.0


def head(*lines: str, length: int = len(LATE)) -> bytes:
    kind = "Content-Type: application/json"
    first = ("POST /recommend HTTP/1.1", "Host: mfalcon", kind, f"Content-Length: {length}")
    return "\r\n".join((*first, *lines, "", "")).encode()


async def connected(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = service.client.base_url.port
    assert port is not None
    return await asyncio.open_connection("127.0.0.1", port)


async def statuses(service: Service, *pieces: bytes) -> list[bytes]:
    """Of the answers to what is sent in pieces over one connection, which the client then ends."""
    reader, writer = await connected(service)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)  # so that it is read apart from the next
    told = b""
    async with asyncio.timeout(NO_HANG_S):
        while told.count(b"HTTP/1.1 ") < b"".join(pieces).count(b"POST "):
            told += await reader.read(1 << 16)
    writer.close()
    return re.findall(rb"HTTP/1\.1 (\d+)", told)


async def test_a_connection_goes_on_after_a_refusal(busy: Service) -> None:
    paid = b'{"user_id": "u", "budget_ms": 5000}'
    asked = [head() + LATE, head(length=len(paid)) + paid, head() + LATE]
    assert await statuses(busy, *asked) == [b"429", b"200", b"429"]


async def test_answers_keep_the_order_of_requests_sent_at_once(busy: Service) -> None:
    paid = b'{"user_id": "u", "budget_ms": 5000}'
    asked = b"".join((head() + LATE, head(length=len(paid)) + paid, head() + LATE))
    assert await statuses(busy, asked) == [b"429", b"200", b"429"]


async def test_who_asks_again_at_once_waits_for_the_next_refusal(busy: Service) -> None:
    body = {"user_id": "u", "budget_ms": 400}
    began_s = time.monotonic()
    for _ in range(6):
        assert (await busy.client.post("/recommend", json=body)).status_code == 429
    assert time.monotonic() - began_s >= 5 * protocol._AGAIN_S


async def test_who_asks_again_and_leaves_is_forgotten(
    busy: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_AGAIN_S", NO_HANG_S)
    reader, writer = await connected(busy)
    writer.write(head() + LATE)
    assert (await reader.read(12)).endswith(b"429")
    writer.write(head() + LATE)
    await asyncio.sleep(0.02)
    writer.transport.abort()
    assert (await busy.client.get("/health/ready")).status_code == 200


async def test_a_body_may_come_in_pieces(busy: Service) -> None:
    assert await statuses(busy, head(), LATE[:5], LATE[5:]) == [b"429"]
    assert await busy.metric('mfalcon_refusals_total{reason="late"}') == 1


@pytest.mark.parametrize("bound", ["_SLOW_S", "_LONG_BYTES"])
async def test_a_slow_or_long_body_is_refused_by_the_route(
    busy: Service, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(protocol, bound, 0)
    monkeypatch.setattr(busy.app.state.shedding, "_told", None)
    assert await statuses(busy, head() + LATE[:5], LATE[5:]) == [b"429"]


async def test_a_client_that_leaves_amid_its_body_is_forgotten(busy: Service) -> None:
    _, writer = await connected(busy)
    writer.write(head() + LATE[:5])
    await asyncio.sleep(0.02)
    writer.transport.abort()
    assert (await busy.client.get("/health/ready")).status_code == 200
    assert await busy.metric('mfalcon_refusals_total{reason="late"}') == 0


@pytest.mark.parametrize(
    "line", ["Connection: close", "Origin: https://shop.example", "Expect: 100-continue"]
)
async def test_what_takes_more_than_an_answer_goes_to_the_route(
    busy: Service, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(busy.app.state.shedding, "_told", None)
    assert (await statuses(busy, head(line) + LATE))[-1] == b"429"


async def test_who_has_no_key_is_told_so(busy: Service) -> None:
    busy.app.state.clients.become(Keys([("shop", "k" * 16)]))
    body = {"user_id": "u", "budget_ms": 400}
    for headers, status in (({}, 401), ({"X-API-Key": "k" * 16}, 429)):
        response = await busy.client.post("/recommend", json=body, headers=headers)
        assert response.status_code == status


async def test_what_asks_for_too_much_is_told_so_and_keeps_nobody_waiting(service: Service) -> None:
    body = {"user_id": "u", "num_results": 1_000_000_000}
    async with (
        over_sockets(service.app, service.runtime.settings) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        response = await client.post("/recommend", json=body)
        assert response.status_code == 413
        assert await service.metric("mfalcon_queue_seconds") == 0


async def test_a_service_that_drains_refuses_on_its_usual_way(busy: Service) -> None:
    busy.runtime.drain()
    response = await busy.client.post("/recommend", json={"user_id": "u", "budget_ms": 400})
    assert response.status_code == 429
    assert response.headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({}, Size(0, None, 10)),
        ({"candidates": None, "num_results": 7}, Size(0, None, 7)),
        ({"events": [{}, {}], "candidates": ["a", "b", "c"]}, Size(2, 3, 10)),
        ({"mode": "slate"}, Size(0, None, 10, 4)),
        ({"mode": "slate", "num_results": 5, "beam": 7}, Size(0, None, 5, 7)),
        ({"mode": "ranking", "beam": 7}, Size(0, None, 10)),
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
        b'{"num_results": 1%s}' % (b"0" * 400),
        b'{"beam": 1%s}' % (b"0" * 400),
        b'{"budget_ms": 0}',
        b'{"budget_ms": "5"}',
        b'{"budget_ms": NaN}',
        b'{"budget_ms": Infinity}',
    ],
)
def test_a_peek_at_something_else_sees_nothing(body: bytes) -> None:
    assert Peek.at(body) is None


NAMES = (
    st.sampled_from(["candidates", "budget_ms", "mode", "slate", "]", "[", ",", ":"]) | st.text()
)
BODIES = st.fixed_dictionaries(
    {"user_id": NAMES},
    optional={
        "events": st.lists(st.fixed_dictionaries({"item_id": NAMES, "timestamp": st.integers()})),
        "candidates": st.none() | st.lists(NAMES),
        "num_results": st.integers(1, 100),
        "mode": st.sampled_from(["ranking", "slate"]),
        "beam": st.integers(1, 8),
        "budget_ms": st.none() | st.floats(1e-9, 1e9) | st.integers(1, 1000),
    },
)


@given(
    BODIES.flatmap(lambda body: st.permutations(list(body.items()))),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_the_least_is_never_more(
    fields: list[tuple[str, Any]], ascii_alone: bool, indent: int | None
) -> None:
    body = json.dumps(dict(fields), ensure_ascii=ascii_alone, indent=indent)
    least, asked = (look(body.encode(errors="replace")) for look in (Peek.least, Peek.at))
    assert asked is not None
    if least is not None:
        assert least.budget_ms == asked.budget_ms
        assert least.size.num_events == 0
        assert (least.size.beam, asked.size.beam) == (None, None)
        if asked.size.num_candidates is None:
            assert least.size.num_candidates is None
        else:
            assert least.size.num_candidates is not None
            assert least.size.num_candidates <= asked.size.num_candidates


def test_the_least_is_what_is_asked_as_a_rule() -> None:
    body = {"user_id": "u", "candidates": ["a", "b", "c"], "num_results": 5, "budget_ms": 50.5}
    assert Peek.least(json.dumps(body).encode()) == Peek(Size(0, 3, 0), 50.5)
    assert Peek.least(b'{"user_id": "u"}') == Peek(Size(0, None, 0), None)
    assert Peek.least(json.dumps(body | {"mode": "slate"}).encode()) is None
