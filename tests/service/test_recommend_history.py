"""However events arrive, every score is the oracle's for the events in the window."""

import random
from collections.abc import AsyncIterator
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    NOW_S,
    NUM_ITEMS,
    START_S,
    Service,
    assert_right,
    make_events,
    scores_of,
    serving,
    window_of,
)

pytestmark = pytest.mark.anyio

EVERYTHING: JSON = {
    "candidates": ITEM_IDS[::5],
    "num_results": NUM_ITEMS,
    "exclude_seen": False,
    "include": ["parts"],
}


@pytest.fixture(params=["memory", "redis"])
async def service(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Service]:
    """In place of the shared fixture: over each kind of store."""
    store = request.getfixturevalue("redis_url") if request.param == "redis" else "memory"
    async with serving(folder, store=store, store_timeout_ms=10_000) as running:
        yield running


def assert_counts(answer: JSON, num_events: int) -> None:
    cache = answer["cache"]
    assert cache["reused_events"] + cache["encoded_events"] == num_events
    assert cache["encoded_events"] >= 1


async def test_the_second_request_is_a_hit_that_runs_only_the_newest_event(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(9)
    first = await service.recommend(events=events, **EVERYTHING)
    second = await service.recommend(**EVERYTHING)
    assert (first["cache"]["status"], first["cache"]["tier"]) == ("miss", None)
    assert second["cache"] == {
        "status": "hit",
        "tier": "device",
        "reused_events": 8,
        "encoded_events": 1,
    }
    assert_right(first, checkpoint, events)
    assert_right(second, checkpoint, events)
    assert scores_of(second) == pytest.approx(scores_of(first), abs=1e-5)


@pytest.mark.parametrize(
    "sizes", [[9], [1] * 30, [5, 3, 4, 1, 6], [12, 1, 12], [13], [40, 2], [2, 40, 40]], ids=str
)
async def test_events_appended_in_pieces(
    service: Service, checkpoint: Checkpoint, sizes: list[int]
) -> None:
    for start, stop in pairwise(accumulate(sizes, initial=0)):
        answer = await service.recommend(
            events=make_events(stop - start, first=start), **EVERYTHING
        )
        held = window_of(make_events(stop))
        assert_right(answer, checkpoint, held)
        assert_counts(answer, len(held))
        assert answer["cache"]["status"] == ("hit" if start else "miss")


async def test_events_sent_again_are_skipped(service: Service, checkpoint: Checkpoint) -> None:
    events = make_events(18)
    await service.recommend(events=events)
    version = (await service.state())["version"]
    for again in (events, events[-3:], [events[-1]] * 5, events[::-1]):
        answer = await service.recommend(events=again, **EVERYTHING)
        assert_right(answer, checkpoint, window_of(events))
        assert answer["cache"]["encoded_events"] == 1
    assert (await service.state())["version"] == version


async def test_events_sent_again_are_skipped_where_times_tie_at_the_windows_edge(
    service: Service,
) -> None:
    events = [
        {"item_id": item_id, "action": None, "timestamp": START_S} for item_id in ITEM_IDS[:13]
    ]
    await service.add_events(events)
    before = await service.state()
    assert (await service.add_events(events))["accepted"] == 0
    assert (await service.state())["version"] == before["version"]


@pytest.mark.parametrize("seed", range(4))
async def test_events_out_of_order_and_doubled_find_their_place(
    service: Service, checkpoint: Checkpoint, seed: int
) -> None:
    rng = random.Random(seed)
    events = make_events(12)
    offered = rng.sample(events, k=12) + rng.choices(events, k=8)
    sent: list[JSON] = []
    while offered:
        piece, offered = offered[:3], offered[3:]
        sent += [event for event in piece if event not in sent]
        answer = await service.recommend(events=piece, **EVERYTHING)
        assert_right(answer, checkpoint, window_of(sent))
        assert_counts(answer, len({event["timestamp"] for event in sent}))


async def test_a_late_event_keeps_the_rows_before_it(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(10)
    await service.add_events([*events[:6], *events[7:]])
    answer = await service.recommend(events=[events[6]], **EVERYTHING)
    assert_right(answer, checkpoint, events)
    assert answer["cache"]["reused_events"] == 5  # row 5 looked at the time of event 7


async def test_an_event_older_than_the_window_is_left_out(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(20)
    await service.add_events(events[1:])
    answer = await service.recommend(events=[events[0]], **EVERYTHING)
    assert_right(answer, checkpoint, window_of(events[1:]))


@pytest.mark.parametrize("count", [1, 6, 12, 15])
async def test_a_replaced_history_is_the_whole_history(
    service: Service, checkpoint: Checkpoint, count: int
) -> None:
    await service.recommend(events=make_events(9))
    events = make_events(count, first=30)
    for _ in range(2):
        answer = await service.recommend(events=events, history_mode="replace", **EVERYTHING)
        assert_right(answer, checkpoint, window_of(events))
    answer = await service.recommend(**EVERYTHING)
    assert_right(answer, checkpoint, window_of(events))
    assert answer["cache"]["status"] == "hit"


async def test_a_corrected_event_replays_from_its_place(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(9)
    await service.recommend(events=events)
    events[6] = events[6] | {"action": "negative", "item_id": "i59"}
    answer = await service.recommend(events=events, history_mode="replace", **EVERYTHING)
    assert_right(answer, checkpoint, events)
    assert answer["cache"]["reused_events"] == 5


async def test_a_history_replaced_by_nothing_is_no_history(
    service: Service, checkpoint: Checkpoint
) -> None:
    await service.recommend(events=make_events(9))
    for mode in ("replace", "append"):
        answer = await service.recommend(events=[], history_mode=mode, **EVERYTHING)
        assert answer["degraded"] == ["no_history"]
        assert_right(answer, checkpoint, [])
    answer = await service.recommend(events=make_events(2), **EVERYTHING)
    assert_right(answer, checkpoint, make_events(2))


async def test_the_newest_event_is_seen_from_the_time_of_each_request(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(9)
    await service.recommend(events=events)
    seen = []
    for now_s in (events[-1]["timestamp"], events[-1]["timestamp"] + 5, NOW_S, START_S, 0):
        answer = await service.recommend(request_time=now_s, **EVERYTHING)
        assert_right(answer, checkpoint, events, now_s)
        assert answer["cache"]["reused_events"] == 8
        seen.append(max(scores_of(answer).values()))
    assert len(set(seen)) > 2


async def test_a_request_without_events_writes_nothing(service: Service) -> None:
    await service.recommend()
    assert (await service.client.get("/users/u/state")).status_code == 404
    await service.recommend(events=make_events(4))
    before = await service.state()
    await service.recommend()
    assert (await service.state())["version"] == before["version"]
