"""POST /recommend: the contract's fields, candidates, and what is said of what is missing."""

import asyncio
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from tests.service.builders import (
    ACTIONS,
    ITEM_IDS,
    JSON,
    NUM_ITEMS,
    Service,
    assert_right,
    make_events,
    serving,
)

pytestmark = pytest.mark.anyio

USER_IDS = [
    "42",
    "a b",
    "{a}:b",
    "}{",
    "a/b",
    "/",
    "..",
    "%2F?#&=",
    "é\u0301ß漢字",
    "🦅👩‍👩‍👧",
    "'; FLUSHALL",
    "u" * 256,
    "🦅" * 256,
]


def item_ids(answer: JSON) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


async def test_an_answer_has_the_fields_of_the_contract(
    service: Service, checkpoint: Checkpoint
) -> None:
    answer = await service.recommend(events=make_events(5))
    fingerprint = checkpoint.digests().fingerprint.hex()
    assert answer["user_id"] == "u"
    assert answer["model"] == {"name": "tiny", "fingerprint": fingerprint}
    assert (answer["complete"], answer["degraded"], answer["missing_item_ids"]) == (True, [], [])
    assert answer["cache"] == {
        "status": "miss",
        "tier": None,
        "reused_events": 0,
        "encoded_events": 5,
    }
    assert set(answer["timing_ms"]) == {"queue", "cache", "encode", "score", "total"}
    assert all(ms >= 0 for ms in answer["timing_ms"].values())
    assert set(answer) == {
        *("request_id", "user_id", "model", "items", "complete", "degraded"),
        *("missing_item_ids", "cache", "timing_ms"),
    }
    assert len(answer["items"]) == 10
    for item in answer["items"]:
        assert set(item) == {"item_id", "score", "actions"}
        assert list(item["actions"]) == list(ACTIONS)
        assert sum(item["actions"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("include", "more"),
    [
        ([], set()),
        (["parts"], {"retrieval_score"}),
        (["metadata"], {"metadata"}),
        (["metadata", "parts", "parts"], {"metadata", "retrieval_score"}),
    ],
)
async def test_include_adds_parts_and_metadata(
    service: Service, include: list[str], more: set[str]
) -> None:
    answer = await service.recommend(include=include)
    for item in answer["items"]:
        assert set(item) == {"item_id", "score", "actions"} | more
        if "metadata" in more:
            assert item["metadata"] == {"title": f"Title {ITEM_IDS.index(item['item_id'])}"}


async def test_an_unknown_user_is_served_by_the_prior_and_that_is_told(
    service: Service, checkpoint: Checkpoint
) -> None:
    answer = await service.recommend(include=["parts"], candidates=ITEM_IDS, num_results=NUM_ITEMS)
    assert answer["degraded"] == ["no_history"]
    assert answer["complete"] is True
    assert answer["cache"]["status"] == "miss"
    prior = checkpoint.network.retrieval.prior.tolist()
    assert {item["item_id"]: item["retrieval_score"] for item in answer["items"]} == dict(
        zip(ITEM_IDS, prior, strict=True)
    )
    assert_right(answer, checkpoint, [])


@pytest.mark.parametrize("num_results", [1, 10, 55, 60, 1000])
async def test_num_results_bounds_the_list(service: Service, num_results: int) -> None:
    answer = await service.recommend(events=make_events(5), num_results=num_results)
    assert len(answer["items"]) == min(num_results, NUM_ITEMS - 5)
    assert len(set(item_ids(answer))) == len(answer["items"])


async def test_fewer_results_are_the_head_of_more(service: Service) -> None:
    events = make_events(5)
    many = await service.recommend(events=events, num_results=50)
    few = await service.recommend(events=events, num_results=7)
    assert item_ids(few) == item_ids(many)[:7]


@pytest.mark.parametrize(("num_results", "num_scored"), [(3, 12), (12, 12), (30, 30)])
async def test_retrieval_hands_on_as_many_items_as_set_or_as_asked_for(
    folder: Path, num_results: int, num_scored: int
) -> None:
    events = make_events(5)
    async with serving(folder, retrieval_candidates=12) as service:
        everything = await service.recommend(
            events=events, candidates=ITEM_IDS, num_results=NUM_ITEMS, include=["parts"]
        )
        answer = await service.recommend(num_results=num_results)
        scored = await service.metric('mfalcon_candidates_total{kind="scored"}')
    assert scored == 55 + num_scored
    retrieved = sorted(everything["items"], key=lambda item: -item["retrieval_score"])
    best = sorted(retrieved[:num_scored], key=lambda item: -item["score"])
    assert item_ids(answer) == [item["item_id"] for item in best[:num_results]]


@pytest.mark.parametrize("exclude_seen", [True, False])
async def test_seen_items_are_left_out_where_asked(service: Service, exclude_seen: bool) -> None:
    events = make_events(5)
    seen = {event["item_id"] for event in events}
    for candidates in (None, ITEM_IDS):
        answer = await service.recommend(
            events=events, num_results=60, exclude_seen=exclude_seen, candidates=candidates
        )
        assert set(item_ids(answer)) == set(ITEM_IDS) - (seen if exclude_seen else set())


async def test_only_seen_candidates_give_an_empty_complete_list(service: Service) -> None:
    events = make_events(3)
    answer = await service.recommend(
        events=events, candidates=[event["item_id"] for event in events]
    )
    assert answer["items"] == []
    assert answer["complete"] is True


async def test_candidates_are_ranked_each_once_and_the_unknown_are_told(
    service: Service, checkpoint: Checkpoint
) -> None:
    candidates = ["i50", "nope", "i51", "i50", "never", "nope", "i52"]
    answer = await service.recommend(
        events=make_events(4), candidates=candidates, include=["parts"]
    )
    assert sorted(item_ids(answer)) == ["i50", "i51", "i52"]
    assert answer["missing_item_ids"] == ["nope", "never"]
    assert answer["complete"] is True
    assert_right(answer, checkpoint, make_events(4))


async def test_unknown_items_in_events_are_told_and_left_out(
    service: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(4)
    foreign = [events[0] | {"item_id": "gone"}, events[1] | {"item_id": "gone"}]
    answer = await service.recommend(
        events=[*events, *foreign], candidates=["nope", "gone", "i50"], include=["parts"]
    )
    assert answer["missing_item_ids"] == ["nope", "gone"]
    assert answer["cache"]["encoded_events"] == 4
    assert_right(answer, checkpoint, events)


async def test_only_unknown_candidates_give_an_empty_list(service: Service) -> None:
    answer = await service.recommend(events=make_events(2), candidates=["nope", "never"])
    assert answer["items"] == []
    assert answer["missing_item_ids"] == ["nope", "never"]


async def test_candidates_null_is_the_whole_catalogue(service: Service) -> None:
    left_out = await service.recommend(num_results=60)
    null = await service.recommend(num_results=60, candidates=None)
    assert item_ids(left_out) == item_ids(null)
    assert len(null["items"]) == NUM_ITEMS


@pytest.mark.parametrize("user_id", USER_IDS)
async def test_user_ids_of_any_kind_keep_their_own_state(service: Service, user_id: str) -> None:
    await service.recommend(user_id="x", events=make_events(9))
    first = await service.recommend(user_id=user_id, events=make_events(3))
    assert (first["user_id"], first["cache"]["status"]) == (user_id, "miss")
    second = await service.recommend(user_id=user_id)
    assert second["cache"]["status"] == "hit"
    assert second["cache"]["reused_events"] + second["cache"]["encoded_events"] == 3


async def test_concurrent_users_do_not_see_each_other(
    service: Service, checkpoint: Checkpoint
) -> None:
    histories = {f"user {n}": make_events(1 + n % 9, first=3 * n) for n in range(30)}
    answers = await asyncio.gather(
        *(
            service.recommend(user_id=user_id, events=events, include=["parts"])
            for user_id, events in histories.items()
        )
    )
    for answer in answers:
        assert_right(answer, checkpoint, histories[answer["user_id"]])


@pytest.mark.parametrize(
    ("history_size", "incomplete"), [(None, False), (0, False), (20, False), (21, True)]
)
async def test_holding_fewer_events_than_the_caller_knows_is_told(
    service: Service, history_size: int | None, incomplete: bool
) -> None:
    """20 events: 8 of them in the window, 12 counted before it."""
    answer = await service.recommend(events=make_events(20), history_size=history_size)
    assert answer["degraded"] == (["history_incomplete"] if incomplete else [])
    assert answer["complete"] is not incomplete
