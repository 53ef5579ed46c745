from itertools import pairwise

import pytest

from loadtests.shapes import Shape, phases


@pytest.mark.parametrize("shape", list(Shape))
def test_phases_follow_each_other_to_the_end(shape: Shape) -> None:
    planned = phases(shape, users=20, seconds=60)
    assert planned[0].at_s == 0
    assert planned[-1].until_s == pytest.approx(60)
    assert all(one.until_s == other.at_s for one, other in pairwise(planned))
    assert all(1 <= phase.users <= 20 for phase in planned)
    assert len({phase.name for phase in planned}) == len(planned)


@pytest.mark.parametrize(
    ("shape", "users"),
    [
        (Shape.STEADY, [20]),
        (Shape.STEP, [4, 8, 12, 16, 20]),
        (Shape.SPIKE, [5, 20, 5]),
        (Shape.SOAK, [10]),
        (Shape.SAWTOOTH, [4, 8, 12, 16, 20] * 3),
    ],
)
def test_each_has_its_own_form(shape: Shape, users: list[int]) -> None:
    assert [phase.users for phase in phases(shape, users=20, seconds=60)] == users


def test_nobody_is_left_alone() -> None:
    assert [phase.users for phase in phases(Shape.SPIKE, users=1, seconds=10)] == [1, 1, 1]
