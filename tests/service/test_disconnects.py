"""Clients that go before their answer: nothing is computed for them, and nothing is left behind."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from model.checkpoint import Checkpoint
from service.api.disconnects import Disconnects
from tests.service.builders import JSON, PARTS, Service, assert_right, make_events
from tests.service.stores import HeldUpStore
from tests.service.test_confirmation import replicas_on

pytestmark = pytest.mark.anyio

NO_HANG_S = 20.0


class Client:
    """Sends a request, and goes when it is told to."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self.gone, self.sent = asyncio.Event(), list[Message]()

    async def ask(self, path: str, body: JSON) -> None:
        messages = [{"type": "http.request", "body": json.dumps(body).encode()}]
        scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": None,
        }

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.sent.append(message)

        with anyio.fail_after(NO_HANG_S):
            await self._app(scope, receive, send)


@pytest.fixture
def app(service: Service) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    found: Callable[[Scope, Receive, Send], Awaitable[None]] = service.client._transport.app  # type: ignore[attr-defined]
    return found


async def waiting(service: Service, count: int) -> None:
    model = service.runtime._model
    assert model is not None
    thread = model.thread
    for _ in range(5000):
        if thread.depth == count:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{thread.depth} waiting, never {count}")


async def test_who_goes_leaves_the_queue_and_their_turn(
    service: Service,
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    is_free: threading.Event,
    checkpoint: Checkpoint,
) -> None:
    is_free.clear()
    first = asyncio.create_task(service.recommend(user_id="first"))  # at the engine
    client, behind = Client(app), Client(app)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.ask("/recommend", {"user_id": "u", "events": make_events(3)}))
        await waiting(service, 1)
        tasks.create_task(behind.ask("/recommend", {"user_id": "u"}))  # for the turn
        await asyncio.sleep(0.01)
        behind.gone.set()
        client.gone.set()
    await waiting(service, 0)
    is_free.set()
    assert (await first)["complete"] is True
    assert client.sent == behind.sent == []
    states = service.runtime.recommender().states
    assert not len(states._turns)
    assert (await service.client.get("/users/u/state")).status_code == 404
    assert await service.metric("mfalcon_batch_requests_sum") > 0
    gone = await service.metric('mfalcon_requests_total{route="/recommend",status="disconnected"}')
    assert gone == 2
    assert_right(
        await service.recommend(events=make_events(2), **PARTS), checkpoint, make_events(2)
    )


async def test_who_goes_while_a_copy_is_extended_leaves_a_sound_state(
    service: Service,
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    is_free: threading.Event,
    checkpoint: Checkpoint,
) -> None:
    await service.add_events(make_events(3))
    is_free.clear()
    client = Client(app)
    asked = asyncio.create_task(
        client.ask("/recommend", {"user_id": "u", "events": make_events(1, first=3)})
    )
    await asyncio.sleep(0.05)
    client.gone.set()
    await asked
    is_free.set()
    assert client.sent == []
    answer = await service.recommend(events=make_events(2, first=3), **PARTS)
    assert_right(answer, checkpoint, make_events(5))


async def test_a_write_that_has_begun_is_waited_for_at_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HeldUpStore()
    async with replicas_on(store, folder, monkeypatch) as (service,):
        await service.add_events(make_events(3))
        client = Client(service.client._transport.app)  # type: ignore[attr-defined]
        body = {"user_id": "u", "events": make_events(1, first=3)}
        asked = asyncio.create_task(client.ask("/recommend", body))
        with anyio.fail_after(NO_HANG_S):
            await store.reached.wait()
            client.gone.set()
            await asked
            draining = asyncio.create_task(service.runtime.recommender().drain())
            await asyncio.sleep(0.01)
            assert not draining.done()
            store.release.set()
            await draining
        assert client.sent == []
        assert store.num_appended == 1


async def test_events_are_stored_whoever_waits(
    service: Service, app: Callable[[Scope, Receive, Send], Awaitable[None]]
) -> None:
    client = Client(app)
    client.gone.set()
    await client.ask("/events", {"user_id": "u", "events": make_events(3)})
    assert (await service.state())["num_events"] == 3


async def test_who_stays_is_answered_and_whoever_else_cancels_is_heard() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["hangs"]:
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        await send({"type": "http.response.body"})

    async def ask(client: Client, *, hangs: bool) -> None:
        async def with_hang(scope: Scope, receive: Receive, send: Send) -> None:
            await Disconnects(app)({**scope, "hangs": hangs}, receive, send)

        client._app = with_hang
        await client.ask("/recommend", {})

    client = Client(app)
    client_gone_with_the_answer = asyncio.create_task(ask(client, hangs=False))
    await client_gone_with_the_answer
    client.gone.set()
    assert [message["type"] for message in client.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    cancelled = asyncio.create_task(ask(Client(app), hangs=True))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
