"""Kill -9 of a writer, of the server and of the service at any point of a write: the next read is
the version before or the version after, whole."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import anyio
import pytest

from cache import Found, RedisStore, StoreUnavailable
from model.checkpoint import Checkpoint
from tests.cache.entries import ALICE
from tests.cache.waiting import NO_HANG_S
from tests.integration.conftest import Serve
from tests.integration.endless_writer import payload_of, versions
from tests.integration.process import ROOT, clean_environment
from tests.redis_server import RedisServer, started
from tests.service.builders import NOW_S, assert_right, make_events, window_of

pytestmark = pytest.mark.anyio


async def load(url: str) -> Found:
    store = RedisStore.from_url(url, ttl_s=3600, timeout_s=30.0)
    found = await store.load(ALICE)
    await store.close()
    return found


def assert_newest(found: Found, told: int) -> None:
    """What was told is stored; one more version may have been under way."""
    assert found.version in (told, told + 1)
    assert found.entry is not None
    assert found.entry.payload == payload_of(found.version)


def kill_a_writer(url: str, after_s: float) -> int:
    """The last version it told of."""
    command = [sys.executable, "-m", "tests.integration.endless_writer", url]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline()]
        time.sleep(after_s)
        writer.kill()
        told += writer.stdout.readlines()
    return int([line for line in told if line.endswith(b"\n")][-1])


async def test_a_writer_that_is_killed(redis_url: str) -> None:
    draw = random.Random(1)
    for _ in range(6):
        told = await asyncio.to_thread(kill_a_writer, redis_url, draw.uniform(0, 0.05))
        assert_newest(await load(redis_url), told)


@pytest.fixture
def durable_server() -> Iterator[RedisServer]:
    """One that has its values again after it was killed."""
    with started({"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


async def test_a_server_that_is_killed_and_keeps_its_values(durable_server: RedisServer) -> None:
    draw, told, is_told = random.Random(2), 0, asyncio.Event()

    async def write() -> None:
        nonlocal told
        store = RedisStore.from_url(durable_server.url, ttl_s=3600, timeout_s=30.0)
        try:
            async for version in versions(store):
                told = version
                is_told.set()
        finally:
            await store.close()

    for _ in range(6):
        is_told.clear()
        writing = asyncio.create_task(write())
        with anyio.fail_after(NO_HANG_S):
            await is_told.wait()
        await asyncio.sleep(draw.uniform(0, 0.05))
        await asyncio.to_thread(durable_server.kill)
        with pytest.raises(StoreUnavailable):
            await writing
        await asyncio.to_thread(durable_server.start)
        found = await load(durable_server.url)
        assert_newest(found, told)
        told = found.version


def test_a_service_that_is_killed_between_an_answer_and_its_write(
    serve: Serve, redis_url: str, checkpoint: Checkpoint
) -> None:
    flags, num_held = ("--store-timeout-ms", "10000"), 0
    service = serve(redis_url, *flags)
    for after_s in (0.0, 0.01):
        for _ in range(2):
            service.recommend(events=make_events(1, first=num_held), request_time=NOW_S)
            num_held = service.get("/users/u/state").json()["num_events"]
        service.recommend(events=make_events(1, first=num_held), request_time=NOW_S)
        time.sleep(after_s)
        service.send_signal(signal.SIGKILL)
        service.wait()
        service = serve(redis_url, *flags)
        found = service.get("/users/u/state").json()["num_events"]
        assert found in (num_held, num_held + 1)
        num_held = found
        answer = service.recommend(include=["parts"], request_time=NOW_S)
        assert answer["cache"]["status"] == "hit"
        assert_right(answer, checkpoint, window_of(make_events(num_held)))
