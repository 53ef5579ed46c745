"""Fetch or encode: learned from what happens, decided per request, and never a matter of scores."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from service.cost import CostModel, Line
from tests.service.builders import (
    PARTS,
    Service,
    assert_right,
    make_events,
    serving,
    window_of,
)

pytestmark = pytest.mark.anyio

MS, ROW_S, BYTE_S = 1e-3, 50e-6, 1e-9
ROW_BYTES = 10_000


def learned(*, row_s: float = ROW_S, byte_s: float = BYTE_S) -> CostModel:
    costs = CostModel()
    for _ in range(50):
        teach(costs, row_s=row_s, byte_s=byte_s)
    return costs


def teach(costs: CostModel, *, row_s: float, byte_s: float) -> None:
    costs.fetched(0, 2 * MS)
    costs.fetched(300 * ROW_BYTES, 2 * MS + 300 * ROW_BYTES * byte_s)
    costs.encoded(0, 4 * MS)
    costs.encoded(200, 4 * MS + 200 * row_s)


def decided(costs: CostModel, num_rows: int) -> bool:
    """By two of three, as one in many is fetched to see."""
    asked = [costs.favours_encoding(num_rows, num_rows * ROW_BYTES) for _ in range(3)]
    return sum(asked) >= 2


def test_while_nothing_is_known_states_are_fetched() -> None:
    costs = CostModel()
    costs.fetched(0, MS)
    costs.encoded(0, MS)
    assert not costs.favours_encoding(1, 1000)
    costs.fetched(1000, 10.0)
    assert not costs.favours_encoding(1, 1000)
    costs.encoded(100, MS)
    assert costs.favours_encoding(1, 1000)


def test_few_rows_are_encoded_and_many_are_fetched() -> None:
    # A row costs 50 us to run and 10 us to move; a round trip costs 2 ms.
    costs = learned()
    assert [decided(costs, rows) for rows in (0, 10, 49, 51, 1000)] == [True] * 3 + [False] * 2


def test_where_encoding_is_fast_nothing_is_worth_fetching() -> None:
    costs = learned(row_s=2e-6)
    assert all(decided(costs, rows) for rows in (1, 100, 10_000))


def test_the_decision_follows_the_store() -> None:
    costs = learned()
    assert not decided(costs, 1000)
    for _ in range(30):
        teach(costs, row_s=ROW_S, byte_s=100 * BYTE_S)
    assert decided(costs, 1000)
    # From now on only what is fetched to see shows that it is fast again.
    for _ in range(3000):
        if not costs.favours_encoding(1000, 1000 * ROW_BYTES):
            costs.fetched(1000 * ROW_BYTES, 2 * MS + 1000 * ROW_BYTES * BYTE_S)
    assert not decided(costs, 1000)


def test_what_is_said_of_large_sizes_survives_many_small_ones() -> None:
    line = Line()
    line.learn(0, 4 * MS)
    line.learn(500, 4 * MS + 500 * ROW_S)
    for number in range(300):
        line.learn(0, 4 * MS + (-1) ** number * MS)
    assert line.per_unit_s == pytest.approx(ROW_S, rel=0.01)
    assert line.fixed_s == pytest.approx(4 * MS, rel=0.05)


def test_noise_does_not_make_a_cost_negative() -> None:
    line = Line()
    line.learn(0, 4 * MS)
    line.learn(2, 1 * MS)
    assert line.per_unit_s == 0.0


@pytest.fixture(params=["memory", "redis"])
async def service(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Service]:
    """In place of the shared fixture: without tensors of its own, so that states are fetched."""
    store = request.getfixturevalue("redis_url") if request.param == "redis" else "memory"
    flags = {"store": store, "store_timeout_ms": 10_000, "max_budget_ms": 60_000}
    async with serving(folder, device_cache_bytes=0, **flags) as running:
        yield running


def make_fetching_slow(service: Service) -> None:
    costs = service.runtime.recommender().states.costs = learned(byte_s=1.0)
    assert decided(costs, 5)


async def source(service: Service, name: str) -> float:
    return await service.metric(f'mfalcon_state_source_total{{source="{name}"}}')


@pytest.mark.parametrize("count", [1, 9, 12, 15])
async def test_a_state_that_is_not_worth_it_is_not_fetched(
    service: Service, checkpoint: Checkpoint, count: int
) -> None:
    events = make_events(count + 1)
    await service.add_events(events[:count])
    make_fetching_slow(service)
    answer = await service.recommend(events=events, history_mode="replace", **PARTS)
    held = window_of(events)
    assert_right(answer, checkpoint, held)
    assert answer["cache"] == {
        "status": "recomputed",
        "tier": None,
        "reused_events": 0,
        "encoded_events": len(held),
    }
    assert (answer["degraded"], await source(service, "recomputed")) == ([], 1)
    # Written over what was held, and read back by whoever does not know the history.
    assert (await service.state())["version"] == 2
    answer = await service.recommend(**PARTS)
    assert_right(answer, checkpoint, held)
    assert answer["cache"]["reused_events"] == len(held) - 1


async def test_only_what_is_known_in_full_can_be_encoded(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(9)
    await service.add_events(events[:8])
    make_fetching_slow(service)
    answer = await service.recommend(events=events, **PARTS)
    assert answer["cache"]["status"] == "hit"
    assert_right(answer, checkpoint, events)


async def test_a_history_replaced_by_nothing_is_gone_whatever_it_costs(
    service: Service, checkpoint: Checkpoint
) -> None:
    for replaced in ([], [{"item_id": "nope", "timestamp": 5}]):
        await service.add_events(make_events(9))
        make_fetching_slow(service)
        for mode in ("replace", "append"):
            answer = await service.recommend(
                events=replaced if mode == "replace" else [], history_mode=mode, **PARTS
            )
            assert_right(answer, checkpoint, [])
            assert answer["degraded"] == ["no_history"]


async def test_a_first_history_is_a_miss_whatever_it_costs(
    service: Service, checkpoint: Checkpoint
) -> None:
    make_fetching_slow(service)
    answer = await service.recommend(events=make_events(5), history_mode="replace", **PARTS)
    assert answer["cache"]["status"] == "miss"
    assert_right(answer, checkpoint, make_events(5))
    assert (await service.state())["num_events"] == 5


async def test_costs_are_learned_from_requests_and_told(service: Service) -> None:
    async def told(of: str) -> float:
        return await service.metric(f'mfalcon_cost_seconds{{of="{of}"}}')

    assert [await told(of) == await told(of) for of in ("round_trip", "encoded_row")] == [False] * 2
    await service.recommend()
    await service.recommend(events=make_events(1))
    await service.recommend(events=make_events(9))
    await service.recommend()
    for of in ("round_trip", "fetched_mib", "encoded_row"):
        assert await told(of) >= 0
