"""DELETE while writes are in flight, on this replica and on another: the events stay forgotten."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import redis.asyncio
from structlog.testing import capture_logs

from cache import LINEAGE_BYTES
from model.checkpoint import Checkpoint
from tests.service.builders import JSON, Service, assert_right, make_events, serving

pytestmark = pytest.mark.anyio

NO_HANG_S = 60.0
LONG_AGO = make_events(9)
"""One fewer than is cut to the window, so that the next write is an append."""


@pytest.fixture
async def replicas(folder: Path, redis_url: str) -> AsyncIterator[list[Service]]:
    flags = {"store": redis_url, "store_timeout_ms": 30_000}
    async with serving(folder, **flags) as first, serving(folder, **flags) as second:
        yield [first, second]


class Gate:
    """Stands before a replica's writes: they have been made from a state, and are not sent yet.

    `way`: `save` for what is written behind an answer, `confirm` for what is written before it,
    where the request started from tensors of this replica.
    """

    def __init__(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, way: str = "save"
    ) -> None:
        states = service.runtime.recommender().states
        self.is_reached, self._is_open = asyncio.Event(), asyncio.Event()
        write = getattr(states, way)

        async def wait_and_write(*arguments: object) -> object:
            self.is_reached.set()
            await self._is_open.wait()
            return await write(*arguments)

        monkeypatch.setattr(states, way, wait_and_write)
        self._drain = service.runtime.recommender().drain

    async def open(self) -> None:
        """Let the writes go, and wait for them."""
        self._is_open.set()
        await self._drain()


async def forget(service: Service) -> JSON:
    answer: JSON = (await service.client.delete("/users/u/state")).json()
    return answer


async def assert_forgotten(replicas: list[Service], redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        # At most the lineage that the refused writer began when it looked again.
        assert all([await client.strlen(key) <= LINEAGE_BYTES for key in await client.keys()])
    for service in replicas:
        assert (await service.client.get("/users/u/state")).status_code == 404
        answer = await service.recommend()
        assert answer["cache"] == {
            "status": "miss",
            "tier": None,
            "reused_events": 0,
            "encoded_events": 0,
        }


@pytest.mark.parametrize("before", [[], LONG_AGO], ids=["first write", "append"])
async def test_a_write_behind_of_another_replica_stays_forgotten(
    replicas: list[Service],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    before: list[JSON],
) -> None:
    first, second = replicas
    if before:
        await second.add_events(before)
    gate = Gate(first, monkeypatch)
    with anyio.fail_after(NO_HANG_S):
        await first.recommend(events=make_events(1, first=9))
        await gate.is_reached.wait()
        assert (await forget(second))["deleted"] is bool(before)
        await gate.open()
    await assert_forgotten(replicas, redis_url)


@pytest.mark.parametrize("before", [[], LONG_AGO], ids=["first write", "append"])
async def test_events_whose_state_is_evicted_before_they_are_written_are_counted_and_logged(
    replicas: list[Service],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    before: list[JSON],
) -> None:
    """Nobody is waiting for an answer that could tell."""
    first, second = replicas
    users = ("u", "v")
    for user_id in users if before else ():
        await second.add_events(before, user_id=user_id)
    gate = Gate(first, monkeypatch)
    with anyio.fail_after(NO_HANG_S), capture_logs() as log:
        for user_id in users:
            await first.recommend(user_id=user_id, events=make_events(1, first=9))
        await gate.is_reached.wait()
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await client.flushdb()
        await gate.open()
    assert await first.metric('mfalcon_unstored_total{reason="gone"}') == len(users)
    (told,) = (line for line in log if line["event"] == "state_not_written")
    assert "deleted or evicted" in told["reason"]
    await assert_forgotten(replicas, redis_url)


async def test_a_write_behind_of_this_replica_stays_forgotten(
    replicas: list[Service], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = replicas
    gate = Gate(first, monkeypatch)
    with anyio.fail_after(NO_HANG_S):
        await first.recommend(events=LONG_AGO)
        await gate.is_reached.wait()
        deletion = asyncio.create_task(forget(first))
        await gate.open()
        assert (await deletion)["deleted"] is True
    await assert_forgotten(replicas, redis_url)


async def test_events_on_their_way_during_a_delete_are_told_not_stored(
    replicas: list[Service], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = replicas
    gate = Gate(first, monkeypatch)
    with anyio.fail_after(NO_HANG_S):
        adding = asyncio.create_task(first.add_events(LONG_AGO))
        await gate.is_reached.wait()
        await forget(second)
        await gate.open()
        assert (await adding)["stored"] is False
    await assert_forgotten(replicas, redis_url)


@pytest.mark.parametrize("returns_at", [0, 1], ids=["where it was", "elsewhere"])
async def test_a_user_who_comes_back_starts_from_nothing(
    replicas: list[Service],
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    returns_at: int,
) -> None:
    """With a write in flight from before; and both replicas hold tensors of the old state."""
    first, second = replicas
    await second.add_events(LONG_AGO)
    gate = Gate(first, monkeypatch)
    new = make_events(3, first=20)
    with anyio.fail_after(NO_HANG_S):
        await first.recommend(events=make_events(1, first=9))
        await gate.is_reached.wait()
        await forget(second)
        if returns_at == 1:
            await second.add_events(new)
        await gate.open()
        if returns_at == 0:
            assert (await first.add_events(new))["stored"] is True
    for service in replicas:
        answer = await service.recommend(include=["parts"])
        assert_right(answer, checkpoint, new)
        assert (await service.state())["num_events"] == 3


@pytest.mark.parametrize("is_back", [False, True], ids=["stays away", "comes back elsewhere"])
async def test_a_request_under_way_during_a_delete_comes_after_it(
    replicas: list[Service],
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    is_back: bool,
) -> None:
    """It ranks by the tensors it has, finds them forgotten, and starts from what is held."""
    first, second = replicas
    await first.add_events(LONG_AGO)
    gate = Gate(first, monkeypatch, "confirm")
    last, new = make_events(1, first=9), make_events(3, first=20) if is_back else []
    with anyio.fail_after(NO_HANG_S):
        asking = asyncio.create_task(first.recommend(events=last, include=["parts"]))
        await gate.is_reached.wait()
        await forget(second)
        if new:
            await second.add_events(new)
        await gate.open()
        answer = await asking
    assert answer["cache"]["tier"] == ("redis" if is_back else None)
    assert_right(answer, checkpoint, [*last, *new])
    for service in replicas:
        assert_right(await service.recommend(include=["parts"]), checkpoint, [*last, *new])


@pytest.mark.parametrize("delete_after", range(3))
async def test_deletes_among_requests_of_many_replicas(
    replicas: list[Service], checkpoint: Checkpoint, delete_after: int
) -> None:
    """Whatever is answered before the delete is forgotten; whatever is sent after it is held."""
    for round_ in range(2):
        old = make_events(3, first=3 * round_)
        for number, event in enumerate(old):
            await replicas[number % 2].recommend(events=[event])
            if number == delete_after:
                break
        await forget(replicas[delete_after % 2])
        new = make_events(2, first=40)
        await replicas[round_ % 2].recommend(events=new)
        for service in replicas:
            await service.runtime.recommender().drain()
        for service in replicas:
            assert_right(await service.recommend(include=["parts"]), checkpoint, new)
        await forget(replicas[0])
