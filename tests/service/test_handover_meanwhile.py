"""A change of model among other writers: what comes or goes meanwhile is not lost nor undone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from cache import LINEAGE_BYTES, Entry, Header, RedisStore, StateKey
from model.checkpoint import Checkpoint, save
from service.handover import Outcome
from tests.service.builders import make_events
from tests.service.handovers import add_events, handover, make_new

pytestmark = pytest.mark.anyio


async def test_a_state_of_the_new_checkpoint_is_never_touched(
    folder: Path, checkpoint: Checkpoint, remote: RedisStore, redis_url: str, tmp_path: Path
) -> None:
    new = make_new()
    save(new, tmp_path / "new")
    await add_events(folder, redis_url, {"u": make_events(5)})
    await add_events(tmp_path / "new", redis_url, {"u": make_events(2, first=20)})
    before = await remote.peek(StateKey("u", new.digests().fingerprint))
    assert await handover(checkpoint, new, remote).warm("u") is Outcome.PRESENT
    assert await remote.peek(StateKey("u", new.digests().fingerprint)) == before


async def test_a_run_that_was_stopped_goes_on(
    folder: Path, checkpoint: Checkpoint, remote: RedisStore, redis_url: str
) -> None:
    new, users = make_new(), ["a", "b", "c", "d"]
    await add_events(folder, redis_url, dict.fromkeys(users, make_events(5)))
    first = handover(checkpoint, new, remote)

    def stop(_done: int) -> None:
        running.cancel()

    running = asyncio.create_task(first.run(users, 0.01, stop))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert first.report.outcomes == {Outcome.WARMED: 1}
    second = handover(checkpoint, new, remote)
    await second.run(users, 1e6)
    assert second.report.outcomes == {Outcome.WARMED: 3, Outcome.PRESENT: 1}
    third = handover(checkpoint, new, remote)
    await third.run(users, 0.01)  # those who are skipped cost no pause
    assert third.report.outcomes == {Outcome.PRESENT: 4}


class MeddledStore(RedisStore):
    """Something happens to the old state between reading it and writing the new one."""

    meddle: Callable[[StateKey, Entry], Any]

    async def peek(self, key: StateKey) -> tuple[Entry, int] | None:
        found = await super().peek(key)
        if found is not None:
            await self.meddle(key, found[0])
        return found


@pytest.fixture
async def meddled(redis_url: str) -> AsyncIterator[MeddledStore]:
    made = MeddledStore.from_url(redis_url, ttl_s=100, timeout_s=10.0)
    assert isinstance(made, MeddledStore)
    yield made
    await made.close()


async def test_a_user_forgotten_meanwhile_does_not_come_back(
    folder: Path,
    checkpoint: Checkpoint,
    meddled: MeddledStore,
    redis_url: str,
    client: redis.asyncio.Redis,
) -> None:
    await add_events(folder, redis_url, {"u": make_events(5)})
    meddled.meddle = lambda key, _: meddled.delete(key)
    assert await handover(checkpoint, make_new(), meddled).warm("u") is Outcome.GONE
    # A key that was begun is no state, and expires soon.
    assert [await client.strlen(name) async for name in client.scan_iter()] == [LINEAGE_BYTES]


@pytest.mark.parametrize("num_changes", [2, 9])
async def test_events_that_come_meanwhile_are_taken_along(
    num_changes: int,
    folder: Path,
    checkpoint: Checkpoint,
    meddled: MeddledStore,
    redis_url: str,
) -> None:
    """Unless they never stop."""
    new, fingerprint = make_new(), make_new().digests().fingerprint
    await add_events(folder, redis_url, {"u": make_events(5, first=20)})
    left = iter(range(num_changes))

    async def one_more(_key: StateKey, _entry: Entry) -> None:
        if (place := next(left, None)) is not None:
            await add_events(folder, redis_url, {"u": make_events(1, first=30 + place)})

    meddled.meddle = one_more
    outcome = await handover(checkpoint, new, meddled).warm("u")
    header: Header | None = await meddled.head(StateKey("u", fingerprint))
    if num_changes == 2:
        assert outcome is Outcome.WARMED
        assert header is not None
        assert header.num_events == 7
    else:
        assert (outcome, header) == (Outcome.BUSY, None)
