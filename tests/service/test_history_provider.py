"""Asking the product for a history over HTTP: never trusted, never fatal, never overrun."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from model.checkpoint import Checkpoint
from tests.service.builders import JSON, PARTS, Service, Serving, assert_right, make_events
from tests.service.history_mishaps import BAD_ANSWERS, hang, says, vanish
from tests.service.history_server import Handler, HistoryServer, outcomes

pytestmark = pytest.mark.anyio

EVENTS = make_events(9)


@pytest.fixture
async def service(asking: Serving) -> AsyncIterator[Service]:
    async with asking() as running:
        yield running


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


async def test_unknown_items_are_left_out(
    service: Service, provider: HistoryServer, checkpoint: Checkpoint
) -> None:
    provider.histories["u"] = [*EVENTS[:4], EVENTS[4] | {"item_id": "nope"}, *EVENTS[5:]]
    answer = await service.recommend(**PARTS)
    assert_right(answer, checkpoint, EVENTS[:4] + EVENTS[5:])
    assert (answer["missing_item_ids"], answer["degraded"]) == ([], [])


@pytest.mark.parametrize("limit", ["budget", "setting"])
async def test_a_provider_that_hangs_is_not_waited_for(
    asking: Serving, provider: HistoryServer, limit: str
) -> None:
    provider.misbehaviour = hang
    flags, body = (
        ({}, {"budget_ms": 200}) if limit == "budget" else ({"history_timeout_ms": 50}, {})
    )
    async with asking(**flags) as service:
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


async def test_a_crowd_does_not_overrun_the_provider(
    asking: Serving, provider: HistoryServer
) -> None:
    users = [f"user {number}" for number in range(60)]
    provider.histories |= dict.fromkeys(users, EVENTS)
    async with asking(max_queue=100) as service:
        await asyncio.gather(*(service.recommend(user_id=user) for user in users))
    assert sorted(provider.asked) == sorted(users)
    assert provider.most_inside <= 16


async def test_credentials_of_the_url_are_used_and_never_shown(
    asking: Serving, provider: HistoryServer, log: list[JSON]
) -> None:
    url = provider.url.replace("://", "://somebody:hush@") + "?token=hush"
    async with asking(history_url=url) as service:
        provider.histories["u"] = EVENTS
        await service.recommend()
        assert provider.headers[0]["Authorization"].startswith("Basic ")
        provider.misbehaviour = vanish
        await service.recommend(user_id="hush")
        assert "hush" not in (await service.client.get("/info")).text
        assert "hush" not in (await service.client.get("/metrics")).text
    assert "hush" not in str(log)
