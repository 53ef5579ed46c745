"""Users' histories out of flat columns, and the prior of the items."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.interactions import Interactions
from model.history import Event
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


def test_the_prior_counts_every_event(data: Interactions) -> None:
    """Plus one for each item, so that an item nobody saw is possible."""
    counts = [1] * 19
    for events in USERS:
        for event in events:
            counts[event.item] += 1
    expected = [math.log(count / sum(counts)) for count in counts]
    assert data.log_shares().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_the_last_events_are_left_out(data: Interactions, count: int) -> None:
    left = [history.events for history in data.without_last(count).histories()]
    assert left == [events[: max(len(events) - count, 0)] for events in USERS]


def tied_user(*seconds: int, first_item: int = 0) -> list[Event]:
    return [Event(first_item + place, 1, second) for place, second in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        ((1, 2, 3, 4), 2),
        ((1, 2, 3, 3), 2),
        ((1, 3, 3, 4), 1),  # the event before last is tied with the one before it
        ((3, 3, 3, 3), 0),
        ((1, 1, 2, 3, 3, 3), 3),
        ((1, 1), 0),
        ((5,), 0),
        ((), 0),
    ],
)
def test_what_is_tied_with_a_held_out_event_is_held_out_with_it(
    seconds: tuple[int, ...], left: int
) -> None:
    """Whatever comes before and after in the columns."""
    for users in ([seconds], [(3, 3), seconds, (3, 4, 5)], [seconds, ()], [(), seconds]):
        events = [tied_user(*each) for each in users]
        data = interactions_of(events, 19).without_last(2, with_ties=True)
        place = users.index(seconds)
        assert data.history(place).events == events[place][:left]


@given(
    users=st.lists(st.lists(st.integers(0, 4), max_size=9).map(sorted), max_size=5),
    seed=st.integers(0, 9),
)
def test_only_tied_events_change_places(users: list[list[int]], seed: int) -> None:
    events = [tied_user(*each) for each in users]
    data = interactions_of(events, 19)
    mixed = data.shuffle_ties(seed)
    for before, history in zip(events, mixed.histories(), strict=True):
        assert history.timestamps.tolist() == [event.timestamp for event in before]
        assert sorted(history.events) == sorted(before)
    assert mixed.digest() == data.shuffle_ties(seed).digest()


def test_tied_events_come_in_every_order() -> None:
    data = interactions_of([tied_user(1, 7, 7, 7, 9)], 19)
    orders = {tuple(data.shuffle_ties(seed).history(0).items.tolist()) for seed in range(60)}
    assert orders == {(0, *middle, 4) for middle in itertools.permutations((1, 2, 3))}


def test_no_order_of_tied_events_puts_a_trained_event_among_the_last_two() -> None:
    data = interactions_of([tied_user(1, 2, 2, 2, 3, 3, 3), tied_user(4, 4, 5, 6, 6)], 19)
    trained = [set(h.events) for h in data.without_last(2, with_ties=True).histories()]
    for seed in range(40):
        for user, seen in enumerate(trained):
            assert not seen & set(data.shuffle_ties(seed).history(user, -2).events)


def test_the_digest_is_of_every_event_and_whose_it_is(data: Interactions) -> None:
    same = interactions_of([list(events) for events in USERS], 19)
    assert same.digest() == data.digest()
    moved = [USERS[0][:-1], USERS[0][-1:], *USERS[2:]]
    others = [interactions_of(moved, 19)]
    for field, value in (("item", 18), ("action", 9), ("timestamp", 1)):
        changed = [USERS[0][0]._replace(**{field: value}), *USERS[0][1:]]
        others.append(interactions_of([changed, *USERS[1:]], 19))
    assert len({one.digest() for one in (data, *others)}) == 5
