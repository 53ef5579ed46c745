"""Reloading: one answer from one checkpoint, the old one until its last request has ended."""

import asyncio
import gc
import shutil
import threading
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from model.calibration import Calibration
from model.checkpoint import WEIGHTS, Checkpoint, load, save
from model.engine.engine import Engine
from service.configuration import printable
from service.served_model import ServedModel
from tests.service.builders import (
    PARTS,
    Service,
    assert_right,
    make_events,
    serving,
    write_checkpoint,
)

pytestmark = pytest.mark.anyio

KEY = "an-admin-key-of-the-tests"
NO_HANG_S = 30.0


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "other", seed=1)


@pytest.fixture(scope="module")
def other(other_folder: Path) -> Checkpoint:
    return load(other_folder)


@pytest.fixture
async def service(folder: Path) -> AsyncIterator[Service]:
    async with serving(folder, admin_key=KEY, max_budget_ms=60_000) as running:
        yield running


async def reload(service: Service, folder: Path | None = None, key: str = KEY) -> httpx.Response:
    body = {} if folder is None else {"checkpoint": str(folder)}
    return await service.client.post("/admin/reload", json=body, headers={"X-API-Key": key})


async def until_let_go(service: Service) -> None:
    retiring = service.runtime._retiring
    assert retiring is not None
    with anyio.fail_after(NO_HANG_S):
        await retiring


def current(service: Service) -> ServedModel:
    assert service.runtime._model is not None
    return service.runtime._model


def fingerprint(checkpoint: Checkpoint) -> str:
    return checkpoint.digests().fingerprint.hex()


async def test_answers_come_from_the_new_checkpoint(
    service: Service, checkpoint: Checkpoint, other: Checkpoint, other_folder: Path
) -> None:
    assert_right(
        await service.recommend(events=make_events(5), **PARTS), checkpoint, make_events(5)
    )
    response = await reload(service, other_folder)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["previous"]["fingerprint"] == fingerprint(checkpoint)
    assert answer["model"]["fingerprint"] == fingerprint(other)
    after = await service.recommend(events=make_events(5), **PARTS)
    assert after["model"]["fingerprint"] == fingerprint(other)
    assert after["cache"]["status"] == "miss"
    assert_right(after, other, make_events(5))
    await until_let_go(service)
    told = (await service.client.get("/metrics")).text.splitlines()
    (info,) = [line for line in told if line.startswith("mfalcon_info{")]
    assert fingerprint(other) in info
    assert await service.metric("mfalcon_model_loaded_timestamp_seconds") > 0
    # Back again: what the first one stored is still there.
    assert (await reload(service, service.runtime.settings.checkpoint)).status_code == 200
    again = await service.recommend(**PARTS)
    assert (again["model"]["fingerprint"], again["cache"]["status"]) == (
        fingerprint(checkpoint),
        "hit",
    )
    assert_right(again, checkpoint, make_events(5))


async def test_a_calibration_changes_answers_and_no_state(
    service: Service, checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    before = await service.recommend(events=make_events(5), **PARTS)
    calibrated = load(folder)
    calibrated.network.calibration = Calibration(scale=(0.5,) * 3, bias=(0.4, 0.0, -0.4))
    save(calibrated, tmp_path / "calibrated")
    assert (await reload(service, tmp_path / "calibrated")).status_code == 200
    after = await service.recommend(**PARTS)
    assert after["model"]["fingerprint"] == before["model"]["fingerprint"]
    assert after["cache"]["status"] == "hit"
    assert_right(after, calibrated, make_events(5))
    with pytest.raises(AssertionError):
        assert_right(after, checkpoint, make_events(5))
    info = (await service.client.get("/info")).json()
    assert info["model"]["calibration"] == calibrated.digests().calibration


async def test_a_request_in_flight_ends_on_the_old_one_which_is_then_let_go(
    service: Service, checkpoint: Checkpoint, other: Checkpoint, other_folder: Path
) -> None:
    free, begun = threading.Event(), asyncio.Event()
    held = block_engine(service, free, begun)
    slow = asyncio.create_task(service.recommend(events=make_events(4), **PARTS))
    await begun.wait()
    assert (await reload(service, other_folder)).status_code == 200
    new = await service.recommend(user_id="v", events=make_events(4), **PARTS)
    assert new["model"]["fingerprint"] == fingerprint(other)
    assert_right(new, other, make_events(4))
    assert not slow.done()
    assert (await reload(service)).json()["code"] == "reload_running"
    free.set()
    old = await slow
    assert old["model"]["fingerprint"] == fingerprint(checkpoint)
    assert_right(old, checkpoint, make_events(4))
    await until_let_go(service)
    gc.collect()
    assert held() is None


def block_engine(
    service: Service, free: threading.Event, begun: asyncio.Event
) -> "weakref.ref[Engine]":
    """The engine in use waits until it is free; `begun` is set once a request waits for it."""
    engine, loop = current(service).engine, asyncio.get_running_loop()
    encode = engine.encode

    def wait_and_encode(jobs: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        free.wait(NO_HANG_S)
        return encode(jobs)

    engine.encode = wait_and_encode  # type: ignore[method-assign]
    return weakref.ref(engine)


async def test_a_bad_checkpoint_leaves_the_old_one_serving(
    service: Service, checkpoint: Checkpoint, other_folder: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(other_folder, tmp_path / "damaged")
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:-100])
    for folder in (damaged, tmp_path / "nowhere"):
        response = await reload(service, folder)
        assert (response.status_code, response.json()["code"]) == (422, "checkpoint_refused")
        assert str(folder) in response.json()["detail"]
    assert_right(
        await service.recommend(events=make_events(3), **PARTS), checkpoint, make_events(3)
    )
    assert (await reload(service, other_folder)).status_code == 200


async def test_two_reloads_at_once_are_one_too_many(
    service: Service, other_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, begun, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()

    def wait_and_load(folder: Path) -> Checkpoint:
        loop.call_soon_threadsafe(begun.set)
        may.wait(NO_HANG_S)
        return load(folder)

    monkeypatch.setattr("service.served_model.load", wait_and_load)
    first = asyncio.create_task(reload(service, other_folder))
    await begun.wait()
    second = await reload(service, other_folder)
    assert (second.status_code, second.json()["code"]) == (409, "reload_running")
    may.set()
    assert (await first).status_code == 200
    await until_let_go(service)
    assert (await reload(service)).status_code == 200


async def test_whoever_drains_does_not_reload(service: Service, checkpoint: Checkpoint) -> None:
    service.runtime.drain()
    response = await reload(service)
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert (await service.recommend())["model"]["fingerprint"] == fingerprint(checkpoint)


async def test_reloading_takes_the_admin_key(folder: Path, service: Service) -> None:
    for key in ("", "another", KEY + "x"):
        assert (await reload(service, key=key)).status_code == 401
    async with serving(folder) as open_to_all:
        response = await reload(open_to_all, key="")
        assert response.status_code == 403
        assert "MFALCON_ADMIN_KEY" in response.json()["detail"]


async def test_the_admin_key_is_not_shown(service: Service) -> None:
    settings = service.runtime.settings
    assert settings.admin_key == KEY
    assert KEY not in f"{printable(settings)} {settings!r}"
    assert KEY not in (await service.client.get("/info")).text
