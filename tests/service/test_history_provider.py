"""The history provider: asked where the store has nothing, never trusted, never fatal."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from model.checkpoint import Checkpoint
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    WINDOW,
    Service,
    assert_right,
    make_events,
    serving,
    window_of,
)
from tests.service.history_server import Handler, HistoryServer, answer, history_server

pytestmark = pytest.mark.anyio

PARTS: JSON = {"candidates": ITEM_IDS[::5], "exclude_seen": False, "include": ["parts"]}
EVENTS = make_events(9)
Serving = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def provider() -> Iterator[HistoryServer]:
    with history_server() as made:
        yield made


@pytest.fixture
def log() -> Iterator[list[JSON]]:
    with capture_logs() as captured:
        yield cast(list[JSON], captured)


@pytest.fixture
def replica(folder: Path, provider: HistoryServer) -> Serving:
    """A service that asks the provider."""
    flags = {"history_url": provider.url, "history_timeout_ms": 20_000, "max_budget_ms": 60_000}
    return lambda **more: serving(folder, **(flags | more))


@pytest.fixture
async def service(replica: Serving) -> AsyncIterator[Service]:
    async with replica() as running:
        yield running


async def outcomes(service: Service) -> list[float]:
    names = ("found", "none", "failed", "skipped")
    sample = 'mfalcon_history_requests_total{{outcome="{}"}}'
    return [await service.metric(sample.format(name)) for name in names]


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


def hang(_: Handler) -> None:
    threading.Event().wait(5)


def cut_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"events": [')
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
    handler.close_connection = True


def vanish(handler: Handler) -> None:
    handler.close_connection = True


def huge(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def says(status: int, body: Any, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: answer(
        handler, status, body if isinstance(body, bytes) else str(body).encode(), **headers
    )


GOOD = '{"item_id": "i1", "action": "positive", "timestamp": 5}'
BAD_ANSWERS = {
    "500": says(500, "sorry"),
    "401": says(401, "who?"),
    "204": says(204, ""),
    "redirection": says(307, "", Location="http://127.0.0.1:1/elsewhere"),
    "not JSON": says(200, "<html>"),
    "empty": says(200, ""),
    "no UTF-8": says(200, b'{"events": ["\xff"]}'),
    "compressed": says(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "a list": says(200, f"[{GOOD}]"),
    "null": says(200, '{"events": null}'),
    "no events": says(200, "{}"),
    "another field": says(200, f'{{"events": [{GOOD}], "total": 1}}'),
    "another field of an event": says(200, f'{{"events": [{GOOD[:-1]}, "rating": 5}}]}}'),
    "a number for an id": says(200, '{"events": [{"item_id": 1, "timestamp": 5}]}'),
    "no timestamp": says(200, f'{{"events": [{GOOD}, {{"item_id": "i1"}}]}}'),
    "milliseconds": says(200, f'{{"events": [{GOOD.replace("5}", "1700000000000}")}]}}'),
    "another action": says(200, f'{{"events": [{GOOD.replace("positive", "bought")}]}}'),
    "deep": says(200, "[" * 100_000),
    "huge": huge,
    "cut off": cut_off,
    "garbage": garbage,
    "no answer": vanish,
}


@pytest.mark.parametrize("misbehaviour", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_a_bad_answer_is_told_and_harms_nothing(
    service: Service,
    provider: HistoryServer,
    checkpoint: Checkpoint,
    misbehaviour: Callable[[Handler], None],
    log: list[JSON],
) -> None:
    provider.misbehaviour = misbehaviour
    told = await service.add_events(EVENTS[:2])
    assert (told["accepted"], told["stored"]) == (2, False)
    answer = await service.recommend(events=EVENTS[:2], **PARTS)
    assert (answer["degraded"], answer["complete"]) == (["history_unavailable"], False)
    assert_right(answer, checkpoint, EVENTS[:2])
    # A part was not stored, which would have passed for the whole.
    provider.misbehaviour, provider.histories["u"] = None, EVENTS
    answer = await service.recommend(**PARTS)
    assert (answer["degraded"], answer["complete"]) == ([], True)
    assert_right(answer, checkpoint, EVENTS)
    assert await outcomes(service) == [1, 0, 2, 0]
    assert await service.metric('mfalcon_unstored_total{reason="history"}') == 2
    (warned,) = (line for line in log if line["event"] == "history_unavailable")
    assert warned["detail"]
    assert "bought" not in str(log)


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


async def test_unknown_items_are_left_out(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    provider.histories["u"] = [*EVENTS[:4], EVENTS[4] | {"item_id": "nope"}, *EVENTS[5:]]
    answer = await service.recommend(**PARTS)
    assert_right(answer, checkpoint, EVENTS[:4] + EVENTS[5:])
    assert (answer["missing_item_ids"], answer["degraded"]) == ([], [])


@pytest.mark.parametrize("limit", ["budget", "setting"])
async def test_a_provider_that_hangs_is_not_waited_for(
    replica: Serving, provider: HistoryServer, limit: str
) -> None:
    provider.misbehaviour = hang
    flags, body = (
        ({}, {"budget_ms": 200}) if limit == "budget" else ({"history_timeout_ms": 50}, {})
    )
    async with replica(**flags) as service:
        answer = await service.recommend(events=EVENTS, **body, **PARTS)
    assert "history_unavailable" in answer["degraded"]
    assert (answer["cache"]["status"], answer["complete"]) == ("miss", False)


async def test_a_provider_that_keeps_failing_is_given_a_pause(
    service: Service, provider: HistoryServer
) -> None:
    provider.misbehaviour = says(503, "")
    for number in range(20):
        answer = await service.recommend(user_id=f"user {number}")
        assert answer["degraded"] == ["no_history", "history_unavailable"]
    _, _, failed, skipped = await outcomes(service)
    assert failed + skipped == 20
    assert failed == len(provider.asked)
    assert skipped > 0


async def test_requests_of_one_user_ask_once(service: Service, provider: HistoryServer) -> None:
    provider.histories["u"] = EVENTS
    answers = await asyncio.gather(*(service.recommend() for _ in range(20)))
    assert provider.asked == ["u"]
    assert all(answer["degraded"] == [] for answer in answers)


async def test_a_crowd_does_not_overrun_the_provider(
    replica: Serving, provider: HistoryServer
) -> None:
    users = [f"user {number}" for number in range(60)]
    provider.histories |= dict.fromkeys(users, EVENTS)
    async with replica(max_queue=100) as service:
        await asyncio.gather(*(service.recommend(user_id=user) for user in users))
    assert sorted(provider.asked) == sorted(users)
    assert provider.most_inside <= 16


async def test_credentials_of_the_url_are_used_and_never_shown(
    replica: Serving, provider: HistoryServer, log: list[JSON]
) -> None:
    url = provider.url.replace("://", "://somebody:hush@") + "?token=hush"
    async with replica(history_url=url) as service:
        provider.histories["u"] = EVENTS
        await service.recommend()
        assert provider.headers[0]["Authorization"].startswith("Basic ")
        provider.misbehaviour = vanish
        await service.recommend(user_id="hush")
        assert "hush" not in (await service.client.get("/info")).text
        assert "hush" not in (await service.client.get("/metrics")).text
    assert "hush" not in str(log)


async def test_without_the_store_the_provider_makes_answers_whole(
    replica: Serving,
    provider: HistoryServer,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.service.stores import BrokenStore

    monkeypatch.setattr("service.runtime.MemoryStore", lambda *_: BrokenStore())
    provider.histories["u"] = EVENTS[:8]
    async with replica() as service:
        answer = await service.recommend(events=EVENTS[8:], **PARTS)
        assert (answer["cache"]["status"], answer["degraded"]) == ("error", [])
        assert_right(answer, checkpoint, EVENTS)
        provider.misbehaviour = vanish
        answer = await service.recommend(events=EVENTS[8:], **PARTS)
        assert answer["degraded"] == ["history_unavailable", "store_unavailable"]
        assert_right(answer, checkpoint, EVENTS[8:])
