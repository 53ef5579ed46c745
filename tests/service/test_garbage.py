"""What a request leaves is freed with it, and not left to the garbage collector, which stops event
loop and engine for tens of milliseconds, and keeps pages of K and V until then."""

import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.benchmark.load.connection import Connection
from service.configuration import load_settings
from service.scheduler import EngineThread
from tests.service.builders import JSON, NOW_S, make_events, over_sockets, serving

pytestmark = pytest.mark.anyio

TIMES = 5
RANKED = {"user_id": "u", "request_time": NOW_S, "num_results": 3}


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """The types of what the collector finds after the block."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def assert_no_request_is_in(found: Counter[str]) -> None:
    """Where a read was cut at its deadline, its connection may be."""
    owners = ("service.", "model.", "cache.", "torch.", "uvicorn.", "_asyncio.Task")
    assert not [name for name in found if name.startswith(owners)], found
    assert sum(found.values()) < 20 * TIMES, found


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/recommend", RANKED | {"events": make_events(1, first=9)}, 200),
        ("/recommend", RANKED | {"budget_ms": 1e-6}, 200),
        ("/recommend", RANKED | {"candidates": ["i1", "i2"]}, 200),
        ("/recommend", RANKED | {"mode": "slate"}, 200),
        ("/recommend", RANKED | {"num_results": 10_000}, 413),
        ("/recommend", {"user_id": 1}, 422),
        ("/events", {"user_id": "u", "events": make_events(1)}, 200),
        ("/recommend/batch", {"requests": [RANKED, RANKED | {"user_id": "v"}]}, 200),
        ("/nowhere", {}, 404),
    ],
)
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_nothing_is_left_to_the_collector(
    folder: Path, redis_url: str, store: str, path: str, body: JSON, status: int
) -> None:
    url = redis_url if store == "redis" else store
    flags = {"store": url, "store_timeout_ms": 10_000}
    async with serving(folder, **flags) as service:
        settings = load_settings({"checkpoint": folder})
        async with over_sockets(service.app, settings) as port:
            connection = await Connection.open(port)
            asked = json.dumps(body).encode()
            for _ in range(3):
                assert (await connection.post(path, asked))[0] == status
            with collected() as found:
                for _ in range(TIMES):
                    await connection.post(path, asked)
            await connection.close()
    assert_no_request_is_in(found)


async def test_nor_is_what_a_refusal_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineThread, "_wait_s", lambda _self, _client: 1e3)
    async with serving(folder) as service:
        settings = load_settings({"checkpoint": folder})
        async with over_sockets(service.app, settings) as port:
            connection = await Connection.open(port)
            asked = json.dumps(RANKED | {"budget_ms": 50}).encode()
            for _ in range(3):
                assert (await connection.post("/recommend", asked))[0] == 429
            with collected() as found:
                for _ in range(TIMES):
                    await connection.post("/recommend", asked)
            await connection.close()
    assert_no_request_is_in(found)
