"""While the checkpoint loads, probes are answered and requests refused; then they are served."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.checkpoint import Checkpoint, CheckpointError, load
from service.app import create_app
from service.configuration import load_settings
from service.server import listener
from service.settings import Settings, SettingsError

pytestmark = pytest.mark.anyio

_NO_HANG_S = 30.0


@pytest.fixture
def may_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, the checkpoint loads."""
    may = threading.Event()

    def wait_and_load(folder: Path) -> Checkpoint:
        may.wait(_NO_HANG_S)
        return load(folder)

    monkeypatch.setattr("service.served_model.load", wait_and_load)
    yield may
    may.set()


@pytest.fixture
def small(folder: Path) -> Settings:
    return load_settings({"checkpoint": folder, "store": "memory", "device": "cpu"})


async def test_while_it_loads_probes_are_answered_and_requests_refused(
    small: Settings, may_load: threading.Event
) -> None:
    app = create_app(small)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://mfalcon") as client,
    ):
        await asyncio.sleep(0)
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
        assert (await client.get("/health/live")).status_code == 200
        response = await client.post("/recommend", json={"user_id": "u"})
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert "loading" in response.json()["detail"]
        assert response.headers["Content-Type"] == "application/problem+json"
        assert int(response.headers["Retry-After"]) >= 1
        may_load.set()
        await app.state.runtime.started()
        assert (await client.post("/recommend", json={"user_id": "u"})).status_code == 200


async def test_a_service_can_be_stopped_while_it_loads(
    small: Settings, may_load: threading.Event
) -> None:
    app = create_app(small)
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0)
    assert app.state.runtime.lifecycle.phase == "stopped"
    assert app.state.runtime.failure is None
    may_load.set()  # so that the thread ends


async def test_a_load_that_ends_after_the_service_was_told_to_stop_is_no_failure(
    small: Settings, may_load: threading.Event
) -> None:
    app = create_app(small)
    runtime = app.state.runtime
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0)
        runtime.drain()
        may_load.set()
        with pytest.raises(asyncio.CancelledError):
            await runtime.started()
        assert runtime.lifecycle.phase == "draining"
    assert runtime.failure is None


async def test_why_it_could_not_start_is_told(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> Checkpoint:
        raise CheckpointError("no good")

    monkeypatch.setattr("service.served_model.load", fail)
    app = create_app(small)
    async with app.router.lifespan_context(app):
        with pytest.raises(CheckpointError):
            await app.state.runtime.started()
    assert isinstance(app.state.runtime.failure, CheckpointError)


async def test_what_is_there_from_the_start_is_no_matter_of_the_garbage_collectors(
    small: Settings,
) -> None:
    app = create_app(small)
    async with app.router.lifespan_context(app):
        await app.state.runtime.started()
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_a_port_that_is_taken_is_named() -> None:
    with listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"--port.*127.0.0.1:{port}: another program"):
            listener("127.0.0.1", port)
