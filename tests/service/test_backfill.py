"""When the history provider is asked, and how what it tells goes below what the request brings."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from model.checkpoint import Checkpoint
from tests.service.builders import (
    PARTS,
    WINDOW,
    Service,
    Serving,
    assert_right,
    make_events,
    window_of,
)
from tests.service.history_mishaps import says, vanish
from tests.service.history_server import HistoryServer, outcomes
from tests.service.stores import BrokenStore

pytestmark = pytest.mark.anyio

EVENTS = make_events(9)


@pytest.fixture
async def service(asking: Serving) -> AsyncIterator[Service]:
    async with asking() as running:
        yield running


async def source(service: Service, name: str) -> float:
    return await service.metric(f'mfalcon_state_source_total{{source="{name}"}}')


@pytest.mark.parametrize("count", [1, 9, 12, 30])
async def test_a_miss_is_answered_from_the_whole_history_and_kept(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint, count: int
) -> None:
    events = make_events(count + 2)
    provider.histories["u"] = events[:count][::-1]  # in any order
    answer = await service.recommend(events=events[count:], **PARTS)
    known = events[max(count - WINDOW.capacity, 0) :]
    assert_right(answer, checkpoint, window_of(known))
    assert (answer["degraded"], answer["complete"]) == ([], True)
    assert answer["cache"]["status"] == "miss"
    again = await service.recommend(**PARTS)
    assert_right(again, checkpoint, window_of(known))
    assert (again["cache"]["status"], provider.asked) == ("hit", ["u"])
    assert [await source(service, name) for name in ("provider", "device", "none")] == [1, 1, 0]


async def test_what_the_request_brings_lies_above_what_is_told(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    tied = [event | {"timestamp": EVENTS[4]["timestamp"]} for event in EVENTS[3:6]]
    provider.histories["u"] = [*EVENTS[:3], tied[0], tied[1]]
    answer = await service.recommend(events=[tied[1], tied[2], EVENTS[8]], **PARTS)
    assert_right(answer, checkpoint, [*EVENTS[:3], *tied, EVENTS[8]])


async def test_events_are_stored_on_top_of_what_is_told(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    provider.histories["u"] = EVENTS[:6]
    told = await service.add_events(EVENTS[5:7])
    counts = (told["accepted"], told["duplicates"], told["num_events"], told["stored"])
    assert counts == (1, 1, 7, True)
    answer = await service.recommend(**PARTS)
    assert_right(answer, checkpoint, EVENTS[:7])
    assert provider.asked == ["u"]


async def test_a_user_nobody_knows_has_no_history(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    for _ in range(3):  # told once, remembered for a while
        answer = await service.recommend(**PARTS)
        assert (answer["degraded"], answer["complete"]) == (["no_history"], True)
    assert (provider.asked, await outcomes(service)) == (["u"], [0, 1, 0, 0])
    # The first events decide what is held from now on, so it is asked for again.
    provider.histories["u"] = EVENTS[:5]
    answer = await service.recommend(events=EVENTS[5:], **PARTS)
    assert_right(answer, checkpoint, EVENTS)
    assert provider.asked == ["u", "u"]


async def test_the_whole_history_in_the_request_asks_nobody(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    provider.histories["u"] = EVENTS
    answer = await service.recommend(events=EVENTS[:2], history_mode="replace", **PARTS)
    assert_right(answer, checkpoint, EVENTS[:2])
    assert provider.asked == []


async def test_a_user_of_whom_more_is_known_elsewhere_is_asked_about(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    provider.histories["u"] = EVENTS[3:4]
    await service.add_events(EVENTS[4:6])
    answer = await service.recommend(history_size=3, **PARTS)
    assert_right(answer, checkpoint, EVENTS[3:6])
    provider.histories["u"] = EVENTS[:5]  # one that is held is new there
    answer = await service.recommend(events=EVENTS[6:7], history_size=7, **PARTS)
    assert_right(answer, checkpoint, EVENTS[:7])
    assert (answer["degraded"], len(provider.asked)) == ([], 2)
    for _ in range(2):  # the second time it is known that nobody knows more
        answer = await service.recommend(history_size=9, **PARTS)
        assert_right(answer, checkpoint, EVENTS[:7])
        assert answer["degraded"] == ["history_incomplete"]
    assert len(provider.asked) == 3


async def test_a_window_that_moved_on_is_not_cut_short_by_a_provider_that_knows_less(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    events = make_events(30)
    await service.add_events(events)
    provider.histories["u"] = events[:3]
    answer = await service.recommend(history_size=40, **PARTS)
    assert_right(answer, checkpoint, window_of(events))
    assert answer["degraded"] == ["history_incomplete"]


@pytest.mark.parametrize("told", [40, 12], ids=["the whole", "its newest part"])
async def test_what_is_new_elsewhere_moves_the_window_on(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint, told: int
) -> None:
    events = make_events(40)
    provider.histories["u"] = events[:1]
    await service.add_events(events[1:30])
    provider.histories["u"] = events[-told:]
    answer = await service.recommend(history_size=40, **PARTS)
    assert_right(answer, checkpoint, window_of(events))
    assert answer["degraded"] == []


async def test_a_bad_answer_about_a_held_user_leaves_the_held(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    provider.histories["u"] = EVENTS[:1]
    await service.add_events(EVENTS[1:4])
    provider.misbehaviour = says(500, "")
    answer = await service.recommend(events=EVENTS[4:5], history_size=9, **PARTS)
    assert answer["degraded"] == ["history_incomplete", "history_unavailable"]
    assert_right(answer, checkpoint, EVENTS[:5])
    answer = await service.recommend(**PARTS)
    assert_right(answer, checkpoint, EVENTS[:5])


async def test_requests_of_one_user_ask_once(service: Service, provider: HistoryServer) -> None:
    provider.histories["u"] = EVENTS
    answers = await asyncio.gather(*(service.recommend() for _ in range(10)))
    assert provider.asked == ["u"]
    assert all(answer["degraded"] == [] for answer in answers)


async def test_without_the_store_the_provider_makes_answers_whole(
    asking: Serving,
    provider: HistoryServer,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.runtime.MemoryStore", lambda *_: BrokenStore())
    provider.histories["u"] = EVENTS[:8]
    async with asking() as service:
        answer = await service.recommend(events=EVENTS[8:], **PARTS)
        assert (answer["cache"]["status"], answer["degraded"]) == ("error", [])
        assert_right(answer, checkpoint, EVENTS)
        provider.misbehaviour = vanish
        answer = await service.recommend(events=EVENTS[8:], **PARTS)
        assert answer["degraded"] == ["history_unavailable", "store_unavailable"]
        assert_right(answer, checkpoint, EVENTS[8:])
