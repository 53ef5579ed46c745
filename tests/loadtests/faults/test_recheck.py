import pytest

from loadtests.faults.recheck import difference, possible

KNOWN = [{"timestamp": at} for at in range(10)]


def times(num_used: int) -> list[list[int]]:
    return [[int(event["timestamp"]) for event in history] for history in possible(KNOWN, num_used)]


def test_the_newest_come_first_then_all_with_some_lost_in_a_row() -> None:
    found = times(7)
    assert found[0] == [3, 4, 5, 6, 7, 8, 9]
    assert found[1] == [0, 1, 2, 3, 4, 5, 6]
    assert [0, 1, 2, 3, 4, 5, 9] in found
    assert [0, 1, 2, 3, 7, 8, 9] in found
    assert [0, 4, 5, 6, 7, 8, 9] in found
    assert [2, 3, 4, 5, 6, 8, 9] in found  # what is older has left the window
    assert all(len(history) == 7 and history == sorted(history) for history in found)


def test_all_of_them_can_only_be_used_one_way() -> None:
    assert times(10) == [list(range(10))]


def test_nothing_used_is_no_history() -> None:
    assert times(0) == [[]]


def test_differences_are_shares_of_a_score_or_of_one() -> None:
    assert difference({"a": 10.001, "b": 0.5}, {"a": 10.0, "b": 0.5}) == pytest.approx(1e-4)
    assert difference({"a": 0.1}, {"a": 0.3, "b": 9.0}) == pytest.approx(0.2)
