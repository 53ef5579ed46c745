"""Health and life cycle: ready only while requests are taken, alive only while the engine is."""

from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.configuration import load_settings
from service.embedded import EmbeddedUnavailable
from service.lifecycle import Lifecycle, Phase
from tests.service.builders import Service, make_events, serving

pytestmark = pytest.mark.anyio

NOT_OPEN = [phase for phase in Phase if phase not in (Phase.READY, Phase.DRAINING)]


async def test_a_running_service_is_ready_and_alive(service: Service) -> None:
    ready = await service.client.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    live = await service.client.get("/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "alive"})


async def test_while_it_drains_it_is_not_ready_and_answers_whoever_still_comes(
    service: Service,
) -> None:
    before = await service.client.post("/recommend", json={"user_id": "u"})
    assert "Connection" not in before.headers
    service.runtime.drain()
    ready = await service.client.get("/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    assert (await service.client.get("/health/live")).status_code == 200
    response = await service.client.post("/recommend", json={"user_id": "u"})
    assert response.status_code == 200
    assert response.headers["Connection"] == "close"


@pytest.mark.parametrize("phase", NOT_OPEN)
async def test_in_every_other_phase_it_is_not_ready_and_takes_no_request(
    service: Service, phase: Phase
) -> None:
    service.runtime.lifecycle.phase = phase
    try:
        ready = await service.client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": phase})
        assert (await service.client.get("/health/live")).status_code == 200
        body = {"user_id": "u", "events": make_events(1)}
        responses = [
            await service.client.post("/recommend", json=body),
            await service.client.post("/events", json=body),
            await service.client.get("/users/u/state"),
            await service.client.delete("/users/u/state"),
            await service.client.get("/info"),
        ]
    finally:
        service.runtime.lifecycle.phase = Phase.READY
    for response in responses:
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert int(response.headers["Retry-After"]) >= 1
        assert phase in response.json()["detail"]
    assert (await service.client.get("/users/u/state")).status_code == 404


async def test_before_its_start_and_after_its_stop_it_is_not_ready(folder: Path) -> None:
    settings = load_settings({"checkpoint": folder, "store": "memory", "device": "cpu"})
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://mfalcon") as client:
        for phase in ("starting", "stopped"):
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()) == (503, {"status": phase})
            response = await client.post("/recommend", json={"user_id": "u"})
            assert (response.status_code, response.json()["code"]) == (503, "not_ready")
            assert (await client.get("/metrics")).status_code == 200
            if phase == "starting":
                assert (await client.get("/health/live")).status_code == 200
                async with app.router.lifespan_context(app):
                    await app.state.runtime.started()
                    assert (await client.get("/health/ready")).status_code == 200


async def test_a_dead_engine_is_neither_ready_nor_alive(service: Service) -> None:
    model = service.runtime._model
    assert model is not None
    await model.thread.close()
    live = await service.client.get("/health/live")
    assert (live.status_code, live.json()) == (503, {"status": "dead"})
    assert (await service.client.get("/health/ready")).status_code == 503
    response = await service.client.post("/recommend", json={"user_id": "u"})
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")


async def test_what_was_answered_is_stored_when_the_service_stops(
    folder: Path, redis_url: str
) -> None:
    store = {"store": redis_url, "store_timeout_ms": 10_000}
    async with serving(folder, **store) as service:
        for number in range(20):
            await service.recommend(user_id=str(number), events=make_events(3), budget_ms=1e-6)
    async with serving(folder, **store) as service:
        for number in range(20):
            assert (await service.state(str(number)))["num_events"] == 3


async def test_without_an_embedded_server_the_states_are_kept_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(_: int) -> None:
        raise EmbeddedUnavailable("no build here")

    monkeypatch.setattr("service.runtime.EmbeddedValkey", unavailable)
    async with serving(folder, store="embedded", device_cache_bytes=0) as service:
        await service.recommend(events=make_events(2))
        assert (await service.recommend())["cache"]["tier"] == "memory"


@pytest.mark.parametrize("backward", [(Phase.READY, Phase.LOADING), (Phase.READY, Phase.READY)])
def test_the_life_cycle_moves_forward_only(backward: tuple[Phase, Phase]) -> None:
    lifecycle = Lifecycle()
    before, after = backward
    lifecycle.enter(before)
    with pytest.raises(AssertionError):
        lifecycle.enter(after)
    assert lifecycle.phase is before
