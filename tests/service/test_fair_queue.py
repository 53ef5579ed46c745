"""Who is next: first come, first served within a client, and each client its share among others."""

from collections import Counter
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import FairQueue

T = TypeVar("T")


def pop(queue: FairQueue[T]) -> T:
    first = queue.first(lambda _: True)
    assert first is not None
    queue.take(first)
    return first


jobs = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.001, 1)), min_size=1, max_size=40)


@given(jobs)
def test_a_client_is_served_in_its_own_order(given_jobs: list[tuple[str, float]]) -> None:
    queue = FairQueue[tuple[str, int]]()
    for number, (client, seconds) in enumerate(given_jobs):
        queue.put((client, number), client, seconds)
    served = [pop(queue) for _ in given_jobs]
    assert not len(queue)
    for client in "abc":
        own = [number for name, number in served if name == client]
        assert own == sorted(own)


def test_one_client_alone_is_first_come_first_served_and_waits_for_all() -> None:
    queue = FairQueue[int]()
    for number in range(5):
        assert queue.ahead_s("a") == pytest.approx(number)
        queue.put(number, "a", 1.0)
    assert [pop(queue) for _ in range(5)] == list(range(5))


def test_a_newcomer_waits_for_no_more_than_its_share_of_others() -> None:
    queue = FairQueue[str]()
    for _ in range(10):
        queue.put("greedy", "greedy", 1.0)
    assert queue.ahead_s("greedy") == pytest.approx(10)
    assert queue.ahead_s("modest") == pytest.approx(1)
    queue.put("modest", "modest", 1.0)
    assert [pop(queue) for _ in range(3)] == ["greedy", "modest", "greedy"]


def test_shares_are_of_work_not_of_jobs() -> None:
    queue = FairQueue[str]()
    for _ in range(100):
        queue.put("long", "long", 4.0)
        queue.put("short", "short", 1.0)
    served = Counter(pop(queue) for _ in range(100))
    assert served["short"] == pytest.approx(4 * served["long"], abs=4)


def test_whoever_is_beyond_its_share_is_last_for_others_and_not_for_itself() -> None:
    queue = FairQueue[str]()
    for number in range(3):
        queue.put(f"greedy {number}", "greedy", 1.0)
    assert queue.last_after("modest") == "greedy 2"
    assert queue.last_after("greedy") is None


def test_who_leaves_is_waited_for_no_more() -> None:
    queue = FairQueue[str]()
    for item in "xyz":
        queue.put(item, "a", 1.0)
    assert queue.remove("y")
    assert not queue.remove("y")
    assert queue.ahead_s("a") == pytest.approx(2)
    assert [pop(queue), pop(queue)] == ["x", "z"]
    assert queue.ahead_s("a") == 0


def test_who_is_not_ready_is_passed_over_and_keeps_its_place() -> None:
    queue = FairQueue[str]()
    for item in "xyz":
        queue.put(item, "a", 1.0)
    assert queue.first(lambda item: item != "x") == "y"
    queue.take("y")
    assert queue.before_s("z") == pytest.approx(1)
    assert [pop(queue), pop(queue)] == ["x", "z"]
    assert queue.first(lambda _: True) is None


def test_who_takes_longer_than_was_thought_is_waited_for_and_pays_for_it() -> None:
    queue = FairQueue[str]()
    queue.put("x", "a", 1.0)
    queue.weigh("x", 5.0)
    queue.put("y", "a", 1.0)
    assert queue.before_s("y") == pytest.approx(5)
    queue.put("z", "b", 1.0)
    assert [pop(queue) for _ in "xyz"] == ["x", "z", "y"]


def test_the_past_is_forgotten_once_nobody_waits() -> None:
    queue = FairQueue[str]()
    queue.put("x", "a", 100.0)
    pop(queue)
    queue.put("y", "b", 1.0)
    queue.put("z", "a", 1.0)
    assert [pop(queue), pop(queue)] == ["y", "z"]
