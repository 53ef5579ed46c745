from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from loadtests.catalogue import Catalogue
from loadtests.traffic import (
    CANDIDATES,
    FIRST_EVENTS,
    NEXT_EVENTS,
    Event,
    Request,
    Traffic,
    Visit,
    Zipf,
)

CATALOGUE = Catalogue(
    item_ids=tuple(str(item) for item in range(300)), actions=("negative", "neutral", "positive")
)


def traffic(*, seed: int = 0, run_id: str = "run", population: int = 20) -> Traffic:
    return Traffic(CATALOGUE, population=population, seed=seed, run_id=run_id)


def turn(source: Traffic) -> Visit:
    visit = source.begin()
    assert visit is not None
    return visit


def requests(source: Traffic, num: int) -> list[Request]:
    made = []
    for _ in range(num):
        visit = turn(source)
        made.append(visit.request)
        source.end(visit, accepted=True)
    return made


def events_by_user(made: list[Request]) -> dict[str, list[list[Event]]]:
    by_user: dict[str, list[list[Event]]] = {}
    for request in made:
        by_user.setdefault(request["user_id"], []).append(request["events"])
    return by_user


def test_a_seed_fixes_every_request() -> None:
    assert requests(traffic(), 200) == requests(traffic(), 200)
    assert requests(traffic(seed=1), 200) != requests(traffic(), 200)


def test_a_users_requests_do_not_depend_on_the_others() -> None:
    one = events_by_user(requests(traffic(), 300))["load-run-0"]
    source = traffic()
    held = [turn(source) for _ in range(5)]  # turns interleave differently from here on
    for visit in reversed(held):
        source.end(visit, accepted=True)
    first = [visit.request["events"] for visit in held if visit.rank == 0]
    other = first + events_by_user(requests(source, 300))["load-run-0"]
    shared = min(len(one), len(other))
    assert shared > 10
    assert one[:shared] == other[:shared]


def test_runs_do_not_share_users_but_share_events() -> None:
    first, second = requests(traffic(run_id="a"), 200), requests(traffic(run_id="b"), 200)
    assert not {request["user_id"] for request in first} & {r["user_id"] for r in second}
    assert [request["events"] for request in first] == [request["events"] for request in second]


def test_zipf_halves_from_the_first_rank_to_the_second() -> None:
    law, rng = Zipf(200), Random(0)
    drawn = Counter(law.draw(rng) for _ in range(50_000))
    harmonic = sum(1 / rank for rank in range(1, 201))
    assert drawn[0] / 50_000 == pytest.approx(1 / harmonic, rel=0.05)
    assert drawn[0] / drawn[1] == pytest.approx(2, rel=0.1)
    assert set(drawn) <= set(range(200))
    assert len(drawn) > 190


def test_timestamps_increase_within_and_between_a_users_requests() -> None:
    last: dict[str, int] = {}
    for request in requests(traffic(), 2_000):
        for event in request["events"]:
            assert event["timestamp"] > last.get(request["user_id"], 0)
            last[request["user_id"]] = event["timestamp"]
        assert request["request_time"] > last[request["user_id"]]
    assert max(last.values()) < 1_700_000_000  # still long ago, after 2000 visits


def test_gaps_come_in_bursts_and_days() -> None:
    histories = events_by_user(requests(traffic(), 500)).values()
    times = [
        [event["timestamp"] for events in history for event in events] for history in histories
    ]
    gaps = [b - a for history in times for a, b in pairwise(history)]
    assert sum(gap <= 180 for gap in gaps) / len(gaps) == pytest.approx(0.85, abs=0.05)
    assert sum(gap > 86_400 for gap in gaps) / len(gaps) > 0.03


def test_a_first_request_carries_a_history_and_later_ones_what_is_new() -> None:
    for history in events_by_user(requests(traffic(), 500)).values():
        assert FIRST_EVENTS[0] <= len(history[0]) <= FIRST_EVENTS[1]
        assert all(NEXT_EVENTS[0] <= len(events) <= NEXT_EVENTS[1] for events in history[1:])


def test_half_the_requests_carry_distinct_known_candidates() -> None:
    made = requests(traffic(), 1_000)
    sets = [request["candidates"] for request in made if "candidates" in request]
    assert len(sets) / len(made) == pytest.approx(0.5, abs=0.05)
    for candidates in sets:
        assert CANDIDATES[0] <= len(candidates) <= CANDIDATES[1]
        assert len(set(candidates)) == len(candidates)
        assert set(candidates) <= set(CATALOGUE.item_ids)


def test_limits_of_the_service_are_kept() -> None:
    narrow = Catalogue(item_ids=("1", "2", "3"), actions=("a",), max_events=5, max_candidates=2)
    for request in requests(Traffic(narrow, population=5, seed=0, run_id="run"), 100):
        assert len(request["events"]) <= 5
        assert len(request.get("candidates", [])) <= 2


def test_a_user_has_one_turn_at_a_time() -> None:
    source = traffic(population=5)
    visits = [turn(source) for _ in range(5)]
    assert {visit.rank for visit in visits} == set(range(5))
    with pytest.raises(RuntimeError, match="more drivers than users"):
        turn(source)
    source.end(visits[3], accepted=True)
    assert turn(source).rank == visits[3].rank


def test_refused_events_are_sent_again() -> None:
    source = traffic(population=1)
    refused = turn(source)
    source.end(refused, accepted=False)
    again = turn(source)
    source.end(again, accepted=True)
    assert again.request["events"] == refused.request["events"]
    later = turn(source).request["events"]
    assert later[0]["timestamp"] > again.request["events"][-1]["timestamp"]


def test_closed_traffic_has_no_more_turns() -> None:
    source = traffic()
    under_way = turn(source)
    source.close()
    assert source.begin() is None
    source.end(under_way, accepted=True)
