import pytest

from loadtests.faults.recheck import difference, possible

KNOWN = [{"timestamp": at} for at in range(10)]


def times(num_used: int, num_carried: int) -> list[list[int]]:
    return [
        [int(event["timestamp"]) for event in history]
        for history in possible(KNOWN, num_used, num_carried)
    ]


def test_the_newest_come_first_then_gaps_before_those_that_came_with_it() -> None:
    found = times(4, 2)
    assert found[0] == [6, 7, 8, 9]
    assert found[1] == [5, 6, 8, 9]
    assert [0, 1, 8, 9] in found
    assert [5, 6, 7, 8] in found
    assert all(len(history) == 4 and history == sorted(history) for history in found)


def test_all_that_was_carried_and_nothing_else() -> None:
    assert times(2, 2)[0] == [8, 9]


def test_nothing_used_is_no_history() -> None:
    assert times(0, 2) == [[]]


def test_differences_are_shares_of_a_score_or_of_one() -> None:
    assert difference({"a": 10.001, "b": 0.5}, {"a": 10.0, "b": 0.5}) == pytest.approx(1e-4)
    assert difference({"a": 0.1}, {"a": 0.3, "b": 9.0}) == pytest.approx(0.2)
