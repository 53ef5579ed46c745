"""Many requests at once, over one app and over two on one server: no event lost, none doubled."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from model.checkpoint import Checkpoint, load
from model.config import Window
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    Service,
    assert_right,
    make_events,
    serving,
    write_checkpoint,
)

pytestmark = pytest.mark.anyio

NO_HANG_S = 60.0
COUNT = 50
WIDE = Window(capacity=100, keep=60)


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window that holds all events of a test, whatever their order of arrival."""
    return write_checkpoint(tmp_path_factory.mktemp("wide") / "tiny", window=WIDE)


@pytest.fixture(scope="module")
def wide(wide_folder: Path) -> Checkpoint:
    return load(wide_folder)


@pytest.fixture
async def replicas(wide_folder: Path, redis_url: str) -> AsyncIterator[list[Service]]:
    """Two apps that know of each other only through the server."""
    flags = {"store": redis_url, "store_timeout_ms": 30_000, "max_user_requests": COUNT}
    async with serving(wide_folder, **flags) as first, serving(wide_folder, **flags) as second:
        yield [first, second]


def shuffled_events() -> list[JSON]:
    return random.Random(5).sample(make_events(COUNT), k=COUNT)


@pytest.mark.parametrize("way", ["recommend", "events", "without time for the model"])
async def test_requests_of_one_user_at_once_lose_no_event(
    wide_folder: Path, wide: Checkpoint, way: str
) -> None:
    flags = {"max_user_requests": COUNT, "max_budget_ms": 60_000}
    async with serving(wide_folder, **flags) as service:

        async def send(event: JSON) -> None:
            if way == "events":
                assert (await service.add_events([event]))["accepted"] == 1
            else:
                budget_ms = 1e-6 if way.startswith("without") else 1000
                await service.recommend(events=[event], budget_ms=budget_ms)

        with anyio.fail_after(NO_HANG_S):
            await asyncio.gather(*(send(event) for event in shuffled_events()))
        assert (await service.state())["num_events"] == COUNT
        assert_right(await service.recommend(include=["parts"]), wide, make_events(COUNT))
        assert not len(service.runtime.recommender().states._turns)


async def test_the_same_events_sent_at_once_are_held_once(
    wide_folder: Path, wide: Checkpoint
) -> None:
    async with serving(wide_folder, max_user_requests=20) as service:
        with anyio.fail_after(NO_HANG_S):
            answers = await asyncio.gather(
                *(service.add_events(make_events(n)) for n in range(1, 21))
            )
        assert sum(answer["accepted"] for answer in answers) == 20
        assert_right(await service.recommend(include=["parts"]), wide, make_events(20))


async def test_every_answer_holds_the_events_of_its_own_request(
    wide_folder: Path, wide: Checkpoint
) -> None:
    """Turns are first come, first served, so each answer has seen exactly the events before it."""
    async with serving(wide_folder) as service:
        with anyio.fail_after(NO_HANG_S):
            answers = await asyncio.gather(
                *(service.recommend(events=[event], include=["parts"]) for event in make_events(12))
            )
    for number, answer in enumerate(answers, start=1):
        assert_right(answer, wide, make_events(number))


@pytest.mark.parametrize("way", ["recommend", "events"])
async def test_two_apps_on_one_server_lose_no_event(
    replicas: list[Service], wide: Checkpoint, way: str
) -> None:
    async def send(number: int, event: JSON) -> None:
        service = replicas[number % 2]
        if way == "events":
            assert (await service.add_events([event]))["stored"] is True
        else:
            await service.recommend(events=[event])

    with anyio.fail_after(NO_HANG_S):
        async with asyncio.TaskGroup() as tasks:
            for number, event in enumerate(shuffled_events()):
                tasks.create_task(send(number, event))
        for service in replicas:
            await service.runtime.recommender().drain()
    for service in replicas:
        state = await service.state()
        assert (state["num_events"], state["anchor"], state["version"]) == (COUNT, 0, COUNT)
        answer = await service.recommend(include=["parts"])
        assert answer["cache"]["reused_events"] == COUNT - 1
        assert_right(answer, wide, make_events(COUNT))


async def test_a_state_of_one_app_is_a_hit_for_the_other(
    replicas: list[Service], wide: Checkpoint
) -> None:
    first, second = replicas
    await first.add_events(make_events(9))
    answer = await second.recommend(events=make_events(1, first=9), include=["parts"])
    assert (answer["cache"]["status"], answer["cache"]["tier"]) == ("hit", "redis")
    assert answer["cache"]["reused_events"] == 8
    assert_right(answer, wide, make_events(10))
    await second.runtime.recommender().drain()
    await first.client.delete("/users/u/state")
    assert (await second.recommend())["cache"]["status"] == "miss"


async def test_users_who_waited_together_get_their_own_answers(
    folder: Path, checkpoint: Checkpoint, is_free: threading.Event
) -> None:
    """New and returning users, whole catalogue and lists, and events without a question."""
    async with serving(folder, microbatch=512, max_budget_ms=1000 * NO_HANG_S) as service:

        async def batches() -> tuple[float, float]:
            name = "mfalcon_batch_requests"
            return await service.metric(f"{name}_count"), await service.metric(f"{name}_sum")

        async def ask(number: int) -> JSON:
            return await service.recommend(
                user_id=f"user {number}",
                events=make_events(number + 1),
                candidates=ITEM_IDS[number:] if number % 2 else None,
                include=["parts"],
            )

        for number in range(4):
            await service.add_events(make_events(number), user_id=f"user {number}")
        count, total = await batches()
        is_free.clear()
        with anyio.fail_after(NO_HANG_S):
            first = asyncio.create_task(service.recommend(user_id="first"))
            await eventually(lambda: service.metric("mfalcon_batch_requests_count"), count + 1)
            told = asyncio.create_task(service.add_events(make_events(3), user_id="told"))
            tasks = [asyncio.create_task(ask(number)) for number in range(8)]
            await eventually(lambda: service.metric("mfalcon_queue_requests"), 9)
            is_free.set()
            answers = await asyncio.gather(*tasks)
            assert (await told)["accepted"] == 3
            assert (await first)["complete"] is True
        for number, answer in enumerate(answers):
            assert_right(answer, checkpoint, make_events(number + 1))
        assert await batches() == (count + 2, total + 10)


async def eventually(ask: Callable[[], Awaitable[float]], expected: float) -> None:
    while True:
        if await ask() == expected:
            return
        await asyncio.sleep(0.01)
