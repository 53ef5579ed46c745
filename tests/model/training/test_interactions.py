"""Users' histories out of flat columns, and the prior of the items."""

import math

import pytest

from model.training.interactions import Interactions
from tests.model.builders import random_events
from tests.model.training.data import interactions_of

USERS = [random_events(5), [], random_events(1, seed=1), random_events(4, seed=2)]


@pytest.fixture
def data() -> Interactions:
    return interactions_of(USERS, 19)


def test_each_user_has_their_own_events(data: Interactions) -> None:
    assert (len(data), data.lengths().tolist()) == (4, [5, 0, 1, 4])
    assert [history.events for history in data.histories()] == USERS


@pytest.mark.parametrize(("start", "stop"), [(0, -2), (-2, None), (1, 3), (0, 0), (-9, None)])
def test_a_part_of_a_history_is_a_slice_of_it(
    data: Interactions, start: int, stop: int | None
) -> None:
    for user, events in enumerate(USERS):
        history = data.history(user, start, stop)
        assert history.events == events[start:stop]
        assert history.anchor == len(events[: slice(start, stop).indices(len(events))[0]])


@pytest.mark.parametrize("leave_out", [0, 1, 2])
def test_the_prior_counts_all_but_the_held_out_events(data: Interactions, leave_out: int) -> None:
    """Plus one for each item, so that an item nobody saw is possible."""
    counts = [1] * 19
    for events in USERS:
        for event in events[: max(len(events) - leave_out, 0)]:
            counts[event.item] += 1
    expected = [math.log(count / sum(counts)) for count in counts]
    assert data.log_shares(leave_out).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_digest_is_of_every_event_and_whose_it_is(data: Interactions) -> None:
    same = interactions_of([list(events) for events in USERS], 19)
    assert same.digest() == data.digest()
    moved = [USERS[0][:-1], USERS[0][-1:], *USERS[2:]]
    others = [interactions_of(moved, 19)]
    for field, value in (("item", 18), ("action", 9), ("timestamp", 1)):
        changed = [USERS[0][0]._replace(**{field: value}), *USERS[0][1:]]
        others.append(interactions_of([changed, *USERS[1:]], 19))
    assert len({one.digest() for one in (data, *others)}) == 5
