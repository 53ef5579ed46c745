"""`mode: slate` over HTTP and on the engine thread: the sequence, its bounds, and what it leaves
alone."""

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint
from model.engine.encoder import Encoded, EncodeJob
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.engine.slate import Beam, lengthen
from service.batch import Work
from service.deadline import Deadline
from service.ranking import Ranking, RankJob
from service.slate import Slate, SlateJob, SlateSize
from service.verification.slates import slates
from service.verification.users import VerifiedUser
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    NOW_S,
    TOLERANCE,
    WINDOW,
    Service,
    assert_right,
    history_of,
    make_events,
    run_together,
    window_of,
)

pytestmark = pytest.mark.anyio

SLATE: JSON = {"mode": "slate", "num_results": 4, "include": ["parts"]}


def likeliest(item: JSON) -> str:
    actions: dict[str, float] = item["actions"]
    return max(actions, key=lambda name: actions[name])


def as_events(items: Sequence[JSON]) -> list[JSON]:
    return [
        {"item_id": item["item_id"], "action": likeliest(item), "timestamp": NOW_S}
        for item in items
    ]


def assert_slate_is_right(
    answer: JSON, checkpoint: Checkpoint, events: Sequence[JSON], among: Sequence[str] = ITEM_IDS
) -> None:
    """Every item has the oracle's scores after the events and the items before it."""
    held = {event["item_id"] for event in window_of(events)}
    for count, item in enumerate(answer["items"]):
        before = window_of([*events, *as_events(answer["items"][:count])])
        oracle = Oracle(checkpoint.network, history_of(checkpoint, before), NOW_S)
        taken = held | {earlier["item_id"] for earlier in answer["items"][:count]}
        left = [item_id for item_id in among if item_id not in taken]
        scores = [oracle.score(checkpoint.items.index[item_id]) for item_id in left]
        retrieval = torch.stack([score.retrieval for score in scores])
        place = left.index(item["item_id"])
        assert abs(item["retrieval_score"] - float(retrieval[place])) <= TOLERANCE
        assert abs(item["score"] - float(retrieval.log_softmax(0)[place])) <= 2 * TOLERANCE
        expected = checkpoint.network.action_probabilities(scores[place].actions).tolist()
        assert list(item["actions"].values()) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("num_events", [0, 1, 5, WINDOW.capacity - 1, 20])
async def test_a_beam_of_one_is_asking_and_appending_again_and_again(
    service: Service, checkpoint: Checkpoint, num_events: int
) -> None:
    events = make_events(num_events)
    answer = await service.recommend(events=events, beam=1, **SLATE)
    seen = {event["item_id"] for event in window_of(events)}  # as of the request
    appended: list[JSON] = []
    for item in answer["items"]:
        taken = seen | {each["item_id"] for each in appended}
        asked = await service.recommend(
            user_id="appending",
            events=[*events, *as_events(appended)],
            candidates=[item_id for item_id in ITEM_IDS if item_id not in taken],
            num_results=len(ITEM_IDS),
            include=["parts"],
        )
        best = max(asked["items"], key=lambda each: float(each["retrieval_score"]))
        assert best["item_id"] == item["item_id"]
        assert best["actions"] == pytest.approx(item["actions"], abs=TOLERANCE)
        appended.append(item)
    assert len(appended) == 4
    assert_slate_is_right(answer, checkpoint, events)


async def test_a_beam_is_right_and_the_default(service: Service, checkpoint: Checkpoint) -> None:
    events = make_events(9)
    answer = await service.recommend(events=events, **SLATE)
    assert (answer["complete"], answer["degraded"]) == (True, [])
    assert_slate_is_right(answer, checkpoint, events)
    greedy, four = [
        sum(item["score"] for item in (await service.recommend(beam=beam, **SLATE))["items"])
        for beam in (1, 4)
    ]
    assert four >= greedy - TOLERANCE
    assert four == pytest.approx(sum(item["score"] for item in answer["items"]), abs=TOLERANCE)


async def test_only_candidates_are_in_a_slate_and_it_ends_with_them(
    service: Service, checkpoint: Checkpoint
) -> None:
    events, candidates = make_events(3), ["i1", "i2", "i3", "nothing", "i7"]
    assert events[1]["item_id"] == "i7"
    answer = await service.recommend(events=events, candidates=candidates, **SLATE)
    assert {item["item_id"] for item in answer["items"]} == {"i1", "i2", "i3"}
    assert answer["missing_item_ids"] == ["nothing"]
    assert answer["complete"] is True
    assert_slate_is_right(answer, checkpoint, events, among=["i1", "i2", "i3"])
    again = await service.recommend(candidates=candidates, exclude_seen=False, **SLATE)
    assert {item["item_id"] for item in again["items"]} == {"i1", "i2", "i3", "i7"}


async def test_what_is_imagined_is_not_stored(service: Service, checkpoint: Checkpoint) -> None:
    events = make_events(8)
    await service.recommend(events=events[:6])
    await service.recommend(events=events[6:], **SLATE)
    state = await service.state()
    assert (state["num_events"], state["num_final"]) == (8, 7)
    await service.recommend(**SLATE)
    after = await service.state()
    assert {**after, "expires_in_s": 0} == {**state, "expires_in_s": 0}
    answer = await service.recommend(include=["parts"])
    assert answer["cache"]["encoded_events"] == 1
    assert_right(answer, checkpoint, events)


async def test_a_slate_is_no_earlier_than_the_newest_event(service: Service) -> None:
    newest_s = make_events(5)[-1]["timestamp"]
    asked = [
        await service.recommend(events=make_events(5), request_time=request_time, **SLATE)
        for request_time in (0, newest_s)
    ]
    assert asked[0]["items"] == asked[1]["items"]


async def test_without_time_for_the_model_a_slate_is_the_popular_items(service: Service) -> None:
    answer = await service.recommend(events=make_events(2), budget_ms=1e-6, **SLATE)
    assert (answer["complete"], answer["degraded"]) == (False, ["popularity"])
    assert [item["score"] for item in answer["items"]] == [None] * 4


async def test_when_time_is_short_the_items_so_far_are_the_answer(
    service: Service, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(6)
    await service.recommend(events=events)  # The model has run; the budget is the slate's.
    calls: list[int] = []

    def slowly(engine: Engine, beams: Sequence[Beam]) -> None:
        lengthen(engine, beams)
        calls.append(len(beams))
        if len(calls) == 2:
            time.sleep(0.6)

    monkeypatch.setattr("service.ranker.lengthen", slowly)
    answer = await service.recommend(budget_ms=500, **SLATE)
    assert len(answer["items"]) == len(calls) == 2
    assert (answer["complete"], answer["degraded"]) == (False, ["short_slate"])
    assert_slate_is_right(answer, checkpoint, events)
    assert await service.metric('mfalcon_degraded_total{reason="short_slate"}') == 1


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"beam": 2}, 422, "beam"),
        ({"mode": "ranking", "beam": 4}, 422, "beam"),
        ({"mode": "slate", "beam": 0}, 422, "beam"),
        ({"mode": "slate", "beam": 10**400}, 413, "max_beam"),
        ({"mode": "slate", "num_results": 10**400}, 413, "max_results"),
        ({"mode": "list"}, 422, "mode"),
        ({"mode": "slate", "beam": 17}, 413, "max_beam"),
        ({"mode": "slate", "num_results": 51}, 413, "max_slate"),
    ],
)
async def test_what_a_slate_may_not_ask(
    service: Service, body: JSON, status: int, told: str
) -> None:
    content = json.dumps({"user_id": "u", "events": make_events(1)} | body).encode()
    headers = {"Content-Type": "application/json"}
    response = await service.client.post("/recommend", content=content, headers=headers)
    assert response.status_code == status
    assert told in response.json()["detail"]
    assert (await service.client.get("/users/u/state")).status_code == 404


async def test_slates_and_lists_in_one_batch_are_what_they_are_alone(
    service: Service, checkpoint: Checkpoint
) -> None:
    entries = [
        {"user_id": f"u{n}", "request_time": NOW_S, "events": make_events(n + 2)}
        | (SLATE if n % 2 else {"include": ["parts"]})
        for n in range(6)
    ]
    response = await service.client.post("/recommend/batch", json={"requests": entries})
    for entry, answer in zip(entries, response.json()["results"], strict=True):
        check: Callable[..., None] = assert_slate_is_right if "mode" in entry else assert_right
        check(answer, checkpoint, entry["events"])


def test_admission_knows_what_a_slate_costs() -> None:
    size = SlateSize(length=10, beam=4)
    assert size.work(3) == Work(3 + 36, 40, num_jobs=37)
    assert SlateSize(1, 4).work(3) == Work(3, 4)
    assert size.work(3).encode_rows > 36 * Work(1, 0).encode_rows


def make_job(engine: Engine, checkpoint: Checkpoint, num_events: int, **given: Any) -> SlateJob:
    job = RankJob(
        state=engine.empty_state(),
        history=history_of(checkpoint, window_of(make_events(num_events))),
        request_time=NOW_S,
        candidates=None,
        num_retrieved=20,
        exclude_seen=True,
        deadline=given.pop("deadline", Deadline(math.inf)),
        submitted_s=0.0,
    )
    return SlateJob.of(job, SlateSize(length=5, beam=3), engine.config)


@pytest.mark.parametrize("num_events", [0, 1, 5, 9, WINDOW.capacity])
def test_the_work_told_is_the_rows_that_are_run(
    engine: Engine, checkpoint: Checkpoint, num_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, encode, ran = make_job(engine, checkpoint, num_events), Engine.encode, []

    def counted(engine: Engine, jobs: Sequence[EncodeJob]) -> list[Encoded]:
        encoded = encode(engine, jobs)
        ran.append([each.num_encoded for each in encoded])
        return encoded

    monkeypatch.setattr(Engine, "encode", counted)
    (slate,) = run_together(engine, [job], pass_rows=16)
    assert isinstance(slate, Slate)
    assert job.work().num_events == sum(map(sum, ran))
    assert job.work().num_jobs == sum(map(len, ran)) == 1 + 3 * 4
    assert job.work().num_candidates == 3 * 5


def test_a_deadline_that_has_passed_leaves_one_item(engine: Engine, checkpoint: Checkpoint) -> None:
    late, whole = (
        make_job(engine, checkpoint, 5, deadline=deadline)
        for deadline in (Deadline(0.0), Deadline(math.inf))
    )
    short, full = run_together(engine, [late, whole], pass_rows=16)
    assert (len(short.order), short.is_short) == (1, True)
    assert (len(full.order), full.is_short) == (5, False)


def test_a_step_that_fails_fails_the_slates_alone(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no")

    slate = make_job(engine, checkpoint, 5)
    given = {field: getattr(slate, field) for field in RankJob.__dataclass_fields__}
    monkeypatch.setattr(Engine, "imagine", broken)
    found = run_together(engine, [slate, RankJob(**given)], pass_rows=16)
    assert isinstance(found[0], ValueError)
    assert type(found[1]) is Ranking


@pytest.mark.parametrize("num_events", [0, 6, 20])
def test_verification_notices_a_wrong_logit_and_a_wrong_event(
    engine: Engine, checkpoint: Checkpoint, num_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = history_of(checkpoint, make_events(num_events)).events
    user = VerifiedUser(
        user_id="u",
        events=events,
        history=history_of(checkpoint, window_of(make_events(num_events))),
        request_time=NOW_S,
        candidates=[1, 2, 3, 4, 5, 6],
    )
    assert max(slates(engine, checkpoint.network, [user])) <= TOLERANCE
    imagine, score = Engine.imagine, Engine.score
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "imagine", lambda e, u, item, _: imagine(e, u, item, 0))
        assert max(slates(engine, checkpoint.network, [user])) > TOLERANCE
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "score", lambda e, b: [part + 1e-3 for part in score(e, b)])
        assert max(slates(engine, checkpoint.network, [user])) > TOLERANCE
