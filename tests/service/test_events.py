"""POST /events: what became of each event is told, and the next request sees them."""

import pytest

from model.checkpoint import Checkpoint
from tests.service.builders import ITEM_IDS, Service, assert_right, make_events, window_of

pytestmark = pytest.mark.anyio


async def test_new_events_are_accepted_and_the_next_request_hits_them(
    service: Service, checkpoint: Checkpoint
) -> None:
    answer = await service.add_events(make_events(5))
    assert answer == {
        "request_id": answer["request_id"],
        "user_id": "u",
        "accepted": 5,
        "duplicates": 0,
        "too_old": 0,
        "missing_item_ids": [],
        "num_events": 5,
        "stored": True,
    }
    answer = await service.recommend(include=["parts"])
    assert (answer["cache"]["status"], answer["cache"]["reused_events"]) == ("hit", 4)
    assert_right(answer, checkpoint, make_events(5))


async def test_every_event_is_counted_once(service: Service) -> None:
    """20 events leave a window of 8, so that the first 12 are too old when they come again."""
    assert (await service.add_events(make_events(20)))["accepted"] == 20
    events = [*make_events(21), *make_events(2, first=19), make_events(1)[0] | {"item_id": "gone"}]
    answer = await service.add_events(events)
    assert (answer["accepted"], answer["duplicates"], answer["too_old"]) == (1, 8 + 2, 12)
    assert answer["missing_item_ids"] == ["gone"]
    assert answer["num_events"] == len(window_of(make_events(21))) == 9


async def test_replacing_counts_the_new_history_only(
    service: Service, checkpoint: Checkpoint
) -> None:
    await service.add_events(make_events(20))
    answer = await service.add_events(make_events(3), history_mode="replace")
    assert (answer["accepted"], answer["too_old"], answer["num_events"]) == (3, 0, 3)
    assert_right(await service.recommend(include=["parts"]), checkpoint, make_events(3))
    assert (await service.add_events([], history_mode="replace"))["num_events"] == 0
    assert (await service.recommend())["degraded"] == ["no_history"]


@pytest.mark.parametrize("history_mode", ["append", "replace"])
async def test_no_events_are_fine(service: Service, history_mode: str) -> None:
    answer = await service.add_events([], history_mode=history_mode)
    assert (answer["accepted"], answer["num_events"], answer["stored"]) == (0, 0, True)
    assert (await service.client.get("/users/u/state")).status_code == 404


async def test_only_unknown_items_leave_the_history_as_it_is(service: Service) -> None:
    answer = await service.add_events([make_events(1)[0] | {"item_id": "gone"}])
    assert (answer["accepted"], answer["missing_item_ids"]) == (0, ["gone"])
    assert (await service.client.get("/users/u/state")).status_code == 404


async def test_a_window_full_of_one_time_keeps_the_newest_arrivals(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = [{"item_id": item_id, "action": None, "timestamp": 5} for item_id in ITEM_IDS[:13]]
    assert (await service.add_events(events))["num_events"] == 7
    assert_right(await service.recommend(include=["parts"]), checkpoint, events[-7:])
