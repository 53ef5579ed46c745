from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from loadtests.catalogue import Catalogue
from loadtests.traffic import (
    BULK,
    BULK_PEOPLE,
    EVENT_ONLY,
    FIRST_EVENTS,
    MIX,
    NEW,
    NEW_EVENTS,
    NEXT_EVENTS,
    RANKER,
    RETRIEVER,
    RETURNING,
    Traffic,
    Visit,
)

CATALOGUE = Catalogue(
    item_ids=tuple(str(item) for item in range(300)),
    actions=("negative", "neutral", "positive"),
    max_batch_users=4,
)


def traffic(*, seed: int = 0, run_id: str = "run", population: int = 20) -> Traffic:
    return Traffic(CATALOGUE, population=population, seed=seed, run_id=run_id)


def turn(source: Traffic, user: str | None = None) -> Visit:
    visit = source.begin(user)
    assert visit is not None
    return visit


def visits(source: Traffic, num: int, user: str | None = None) -> list[Visit]:
    made = []
    for _ in range(num):
        made.append(turn(source, user))
        source.end(made[-1], accepted=True)
    return made


def bodies(made: list[Visit]) -> list[dict[str, Any]]:
    """Those of `/recommend` and `/events`, and the entries of batches."""
    return [body for visit in made for body in visit.body.get("requests", [visit.body])]


def events_by_user(made: list[Visit]) -> dict[str, list[list[Any]]]:
    by_user: dict[str, list[list[Any]]] = {}
    for body in bodies(made):
        by_user.setdefault(body["user_id"], []).append(body["events"])
    return by_user


def test_a_seed_fixes_every_request() -> None:
    made = bodies(visits(traffic(), 200))
    assert made == bodies(visits(traffic(), 200))
    assert made != bodies(visits(traffic(seed=1), 200))


def test_a_persons_events_do_not_depend_on_the_others() -> None:
    one = events_by_user(visits(traffic(), 300))["load-run-0"]
    source = traffic()
    held = [turn(source, RETURNING) for _ in range(5)]  # turns interleave differently from here on
    for visit in reversed(held):
        source.end(visit, accepted=True)
    other = events_by_user(held + visits(source, 300))["load-run-0"]
    first, second = ([event for events in each for event in events] for each in (one, other))
    shared = min(len(first), len(second))
    assert shared > 50
    assert first[:shared] == second[:shared]


def test_runs_do_not_share_users_but_share_events() -> None:
    first, second = visits(traffic(run_id="a"), 200), visits(traffic(run_id="b"), 200)
    assert not events_by_user(first).keys() & events_by_user(second).keys()
    assert [b["events"] for b in bodies(first)] == [b["events"] for b in bodies(second)]


def test_every_kind_of_user_comes_as_often_as_the_mix_says() -> None:
    drawn = Counter(visit.user for visit in visits(traffic(population=200), 3_000))
    assert drawn.keys() == MIX.keys()
    for user, share in MIX.items():
        assert drawn[user] / 3_000 == pytest.approx(share, abs=0.03)


def test_a_persons_events_arrive_in_order_whatever_carries_them() -> None:
    last: dict[str, int] = {}
    for body in bodies(visits(traffic(), 2_000)):
        for event in body["events"]:
            assert event["timestamp"] > last.get(body["user_id"], 0)
            last[body["user_id"]] = event["timestamp"]
        assert body.get("request_time", last.get(body["user_id"], 0) + 1) > last.get(
            body["user_id"], 0
        )


def test_a_first_request_carries_a_history_and_later_ones_what_is_new() -> None:
    histories = events_by_user(visits(traffic(), 500, RETURNING)).values()
    for history in histories:
        assert FIRST_EVENTS[0] <= len(history[0]) <= FIRST_EVENTS[1]
        assert all(NEXT_EVENTS[0] <= len(events) <= NEXT_EVENTS[1] for events in history[1:])
    assert any(not events for history in histories for events in history[1:])


def test_a_new_user_is_seen_once_with_few_events() -> None:
    made = visits(traffic(), 100, NEW)
    assert len(events_by_user(made)) == 100
    sizes = {len(body["events"]) for body in bodies(made)}
    assert sizes == set(range(NEW_EVENTS[0], NEW_EVENTS[1] + 1))


def test_rankers_send_candidates_and_retrievers_none() -> None:
    assert all("candidates" in body for body in bodies(visits(traffic(), 50, RANKER)))
    assert not any("candidates" in body for body in bodies(visits(traffic(), 50, RETRIEVER)))
    share = sum("candidates" in body for body in bodies(visits(traffic(), 1_000, RETURNING)))
    assert share / 1_000 == pytest.approx(0.5, abs=0.05)


def test_event_only_turns_have_events_and_ask_for_nothing() -> None:
    for visit in visits(traffic(), 200, EVENT_ONLY):
        assert (visit.kind, visit.path) == ("events", "/events")
        assert visit.body.keys() == {"user_id", "events"}
        assert visit.body["events"]


def test_bulk_is_for_several_people_within_the_limit() -> None:
    for visit in visits(traffic(), 100, BULK):
        assert (visit.kind, visit.path) == ("batch", "/recommend/batch")
        user_ids = [body["user_id"] for body in visit.body["requests"]]
        assert BULK_PEOPLE[0] <= len(user_ids) <= 4
        assert len(set(user_ids)) == len(user_ids)


def test_a_person_has_one_turn_at_a_time() -> None:
    source = traffic(population=5)
    held = [turn(source, RETURNING) for _ in range(5)]
    assert {visit.body["user_id"] for visit in held} == {f"load-run-{rank}" for rank in range(5)}
    for user in (RETURNING, BULK, EVENT_ONLY):
        with pytest.raises(RuntimeError, match="more drivers than users"):
            turn(source, user)
    turn(source, NEW)
    source.end(held[3], accepted=True)
    assert turn(source, RETURNING).body["user_id"] == held[3].body["user_id"]


@pytest.mark.parametrize("user", [RETURNING, EVENT_ONLY, BULK])
def test_refused_events_are_sent_again(user: str) -> None:
    source = traffic(population=1)
    refused = turn(source, user)
    source.end(refused, accepted=False)
    again = turn(source, user)
    source.end(again, accepted=True)
    (first,), (second,) = bodies([refused]), bodies([again])
    assert second["events"] == first["events"]
    (third,) = bodies([turn(source, EVENT_ONLY)])
    times = [event["timestamp"] for event in second["events"] + third["events"]]
    assert all(earlier < later for earlier, later in pairwise(times))


def test_closed_traffic_has_no_more_turns() -> None:
    source = traffic()
    under_way = turn(source)
    source.close()
    assert source.begin() is None
    source.end(under_way, accepted=True)


def test_a_past_is_told_by_everybody_once() -> None:
    source = Traffic(CATALOGUE, population=20, seed=0, run_id="run", past=(30, 40))
    told = []
    for visit in source.pasts():
        told.append(visit)
        source.end(visit, accepted=True)
    events = events_by_user(told)
    assert len(events) == len(told) == 20
    assert all(30 <= len(past) <= 40 for (past,) in events.values())
    assert len({len(past) for (past,) in events.values()}) > 1
    for later in events_by_user(visits(source, 50, RETURNING)).values():
        assert all(len(news) <= NEXT_EVENTS[1] for news in later)
