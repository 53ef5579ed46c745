"""User states: one request of a user at a time, and a store that may fail at any time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from cache import StateStore, StoreUnavailable
from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.state import UserState
from service.codec import StateCodec
from service.device_tier import DeviceTier
from service.metrics import Metrics
from service.states import UserStates
from tests.service.builders import history_of, make_events
from tests.service.stores import BrokenStore, roomy_store

pytestmark = pytest.mark.anyio

NO_HANG_S = 20.0
FINGERPRINT = bytes(16)


@pytest.fixture
def make(engine: Engine) -> Callable[[StateStore], UserStates]:
    codec = StateCodec(engine.config, FINGERPRINT, engine.pool)
    return lambda store: UserStates(
        store, codec, engine.empty_state, DeviceTier(1 << 20), Metrics()
    )


@pytest.fixture
def states(make: Callable[[StateStore], UserStates]) -> UserStates:
    return make(roomy_store())


@pytest.fixture
def state(engine: Engine, checkpoint: Checkpoint) -> UserState:
    history = history_of(checkpoint, make_events(4))
    return engine.encode([EncodeJob(engine.empty_state(), history)])[0].state


async def test_turns_of_a_user_exclude_each_other_in_order(states: UserStates) -> None:
    inside, order = 0, list[int]()

    async def take(number: int) -> None:
        nonlocal inside
        async with states.turn("u"):
            inside += 1
            assert inside == 1
            order.append(number)
            for _ in range(3):
                await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(take(number) for number in range(20)))
    assert order == list(range(20))


async def test_turns_of_different_users_run_side_by_side(states: UserStates) -> None:
    everybody = asyncio.Barrier(10)

    async def take(user_id: str) -> None:
        async with states.turn(user_id):
            await everybody.wait()

    with anyio.fail_after(NO_HANG_S):
        await asyncio.gather(*(take(f"user {number}") for number in range(10)))


@pytest.mark.parametrize("end", ["result", "exception", "cancellation"])
async def test_a_turn_lasts_until_its_task_ends(states: UserStates, end: str) -> None:
    finished = asyncio.get_running_loop().create_future()

    async def write() -> None:
        await finished

    async with states.turn("u") as turn:
        task = asyncio.create_task(write())
        turn.lasts_until(task)
    following = asyncio.create_task(hold(states, "u"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not following.done()
    if end == "result":
        finished.set_result(None)
    elif end == "exception":
        finished.set_exception(RuntimeError("write failed"))
    else:
        task.cancel()
    with anyio.fail_after(NO_HANG_S):
        await following
        await asyncio.wait([task])
    if end == "exception":
        assert isinstance(task.exception(), RuntimeError)


async def hold(states: UserStates, user_id: str) -> None:
    async with states.turn(user_id):
        pass


async def test_a_failing_request_gives_its_turn_back(states: UserStates) -> None:
    with pytest.raises(RuntimeError, match="mishap"):
        async with states.turn("u"):
            raise RuntimeError("mishap")
    with anyio.fail_after(NO_HANG_S):
        await hold(states, "u")


async def test_cancelled_waiters_leave_nothing_behind(states: UserStates) -> None:
    async with states.turn("u"):
        waiters = [asyncio.create_task(hold(states, "u")) for _ in range(5)]
        await asyncio.sleep(0)
        for waiter in waiters[::2]:
            waiter.cancel()
        await asyncio.wait(waiters[::2])
        assert not waiters[1].done()
    with anyio.fail_after(NO_HANG_S):
        await asyncio.gather(*waiters[1::2])
        await hold(states, "u")
    assert not len(states._turns)


async def test_saved_states_are_loaded_back(states: UserStates, state: UserState) -> None:
    missed = await states.load("u")
    assert (missed.status, missed.tier, missed.stored.version) == ("miss", None, 0)
    assert len(missed.stored.state.history) == 0
    assert await states.save("u", missed.stored, state) is True
    hit = await states.load("u")
    assert (hit.status, hit.tier, hit.stored.version) == ("hit", "device", 1)
    assert hit.stored.state.history.events == state.history.events
    assert (await states.load("other")).status == "miss"


async def test_a_save_loses_to_another_version(states: UserStates, state: UserState) -> None:
    nothing = (await states.load("u")).stored
    await states.save("u", nothing, state)
    assert await states.save("u", nothing, state) is False
    assert await states.save("u", replace(nothing, version=2), state) is False
    assert await states.save("u", replace(nothing, version=1), state) is True


async def test_a_store_that_fails_is_a_miss_that_tells_error(
    make: Callable[[StateStore], UserStates], state: UserState
) -> None:
    states = make(BrokenStore())
    loaded = await states.load("u")
    assert (loaded.status, loaded.tier, loaded.stored.version) == ("error", None, 0)
    assert len(loaded.stored.state.history) == 0
    assert await states.save("u", loaded.stored, state) is None
    with pytest.raises(StoreUnavailable):
        await states.look("u")
    with pytest.raises(StoreUnavailable):
        await states.forget("u")


async def test_what_this_checkpoint_can_not_have_written_is_a_miss_and_is_written_over(
    make: Callable[[StateStore], UserStates], state: UserState, engine: Engine
) -> None:
    store = roomy_store()
    states, codec = make(store), StateCodec(engine.config, FINGERPRINT, engine.pool)
    lineage = (await store.load(codec.key("u"))).lineage
    entry = codec.encode("u", state, 1, lineage)
    foreign = replace(entry, header=replace(entry.header, num_layers=9))
    await store.put(codec.key("u"), foreign)
    loaded = await states.load("u")
    assert (loaded.status, loaded.tier, loaded.stored.version) == ("miss", None, 1)
    assert len(loaded.stored.state.history) == 0
    assert await states.save("u", loaded.stored, state) is True
    assert (await states.load("u")).status == "hit"


async def test_forgetting_and_looking(states: UserStates, state: UserState) -> None:
    assert await states.look("u") is None
    assert await states.forget("u") is False
    await states.save("u", (await states.load("u")).stored, state)
    found = await states.look("u")
    assert found is not None
    held, tiers = found
    assert (held.header.num_events, held.ttl_s) == (4, 60)
    assert tiers == ["device", "memory"]
    assert await states.forget("u") is True
    assert (await states.load("u")).status == "miss"
