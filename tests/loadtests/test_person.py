from itertools import pairwise
from statistics import median

import pytest

from loadtests.catalogue import Catalogue
from loadtests.person import CANDIDATES_MOST, Person
from loadtests.zipf import Zipf

CATALOGUE = Catalogue(
    item_ids=tuple(str(item) for item in range(1000)), actions=("negative", "neutral", "positive")
)


def person(catalogue: Catalogue = CATALOGUE, *, seed: str = "0", past: int = 20) -> Person:
    return Person("u", catalogue, Zipf(len(catalogue.item_ids)), seed=seed, past=past)


def test_what_somebody_does_does_not_depend_on_what_is_asked() -> None:
    quiet, asked = person(past=30), person(past=10)
    for _ in range(5):
        asked.ask(with_candidates=True)
        asked.act(4)
    assert asked.tell() == quiet.tell()
    assert person(seed="1", past=30).tell() != quiet.tell()


def test_timestamps_increase_up_to_the_request() -> None:
    somebody = person(past=2_000)
    asked = somebody.ask(with_candidates=False)
    times = [event["timestamp"] for event in asked["events"]] + [asked["request_time"]]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[-1] < 1_700_000_000  # still long ago, after 2000 events


def test_gaps_come_in_bursts_and_days() -> None:
    times = [event["timestamp"] for event in person(past=2_000).tell()["events"]]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gap <= 180 for gap in gaps) / len(gaps) == pytest.approx(0.85, abs=0.05)
    assert sum(gap > 86_400 for gap in gaps) / len(gaps) > 0.03


def test_events_are_told_until_they_are_accepted() -> None:
    somebody = person(past=3)
    first = somebody.tell()["events"]
    somebody.act(2)
    assert somebody.tell()["events"][:3] == first
    somebody.accepted()
    assert not somebody.has_news
    somebody.act(1)
    assert somebody.tell()["events"][0]["timestamp"] > first[-1]["timestamp"]


def test_candidates_are_known_distinct_and_of_many_sizes() -> None:
    somebody = person()
    sets = [somebody.ask(with_candidates=True)["candidates"] for _ in range(500)]
    sizes = [len(candidates) for candidates in sets]
    assert median(sizes) == pytest.approx(100, rel=0.15)
    assert min(sizes) < 40
    assert max(sizes) > 250
    assert max(sizes) <= CANDIDATES_MOST
    for candidates in sets:
        assert len(set(candidates)) == len(candidates)
        assert set(candidates) <= set(CATALOGUE.item_ids)
    assert "candidates" not in somebody.ask(with_candidates=False)


def test_limits_of_the_service_are_kept() -> None:
    narrow = Catalogue(item_ids=("1", "2", "3"), actions=("a",), max_events=5, max_candidates=2)
    somebody = person(narrow, past=50)
    somebody.act(3)
    for _ in range(20):
        asked = somebody.ask(with_candidates=True)
        assert len(asked["events"]) == 5
        assert len(asked["candidates"]) <= 2
