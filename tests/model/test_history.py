"""Merging events into a history, and cutting it to a window that is a pure function of length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import Window
from model.history import EMPTY, Event, History, MergeCounts
from tests.model.builders import random_events

ROOMY = Window(capacity=100, keep=60)
SMALL = Window(capacity=6, keep=3)

few = settings(deadline=None, max_examples=60)

windows = st.integers(2, 12).flatmap(
    lambda capacity: st.builds(Window, capacity=st.just(capacity), keep=st.integers(1, capacity))
)
any_events = st.lists(
    st.builds(Event, st.integers(0, 3), st.integers(0, 2), st.integers(0, 9)), max_size=40
)
timed_apart = st.lists(
    st.builds(Event, st.integers(0, 3), st.integers(0, 2), st.integers(0, 10**6)),
    unique_by=lambda event: event.timestamp,
    max_size=40,
)


def test_of_keeps_order_anchor_and_64_bits() -> None:
    events = [Event(3, 1, 2**62), Event(0, 0, -5)]
    history = History.of(events, anchor=4)
    assert (history.events, len(history), history.anchor) == (events, 2, 4)
    assert (len(EMPTY), EMPTY.events, EMPTY.anchor) == (0, [], 0)


@few
@given(window=windows, count=st.integers(0, 80))
def test_a_window_starts_where_growing_one_by_one_leads(window: Window, count: int) -> None:
    held: list[int] = []
    for event in range(count):
        held.append(event)
        if len(held) > window.capacity:
            held = held[-window.keep :]
    assert window.start(count) == (held[0] if held else 0)


@pytest.mark.parametrize(
    ("count", "start"), [(0, 0), (6, 0), (7, 4), (10, 4), (11, 8), (14, 8), (15, 12)]
)
def test_a_window_starts_at(count: int, start: int) -> None:
    assert SMALL.start(count) == start


@few
@given(window=windows, events=timed_apart, sizes=st.lists(st.integers(1, 9)))
def test_appends_of_any_size_give_the_same_window(
    window: Window, events: list[Event], sizes: list[int]
) -> None:
    events = sorted(events, key=lambda event: event.timestamp)
    history, done = EMPTY, 0
    for size in (*sizes, len(events)):
        history, _ = history.merge(events[done : done + size], window)
        done += size
    start = window.start(len(events))
    assert (history.events, history.anchor) == (events[start:], start)


@few
@given(events=any_events, data=st.data())
def test_merging_the_same_events_again_changes_nothing(
    events: list[Event], data: st.DataObject
) -> None:
    history, counts = EMPTY.merge(events, ROOMY)
    assert counts.accepted == len(set(events))
    again = data.draw(st.permutations(events))
    same, counts = history.merge(again, ROOMY)
    assert same is history
    assert counts == MergeCounts(duplicates=len(events))


@few
@given(window=windows, events=timed_apart)
def test_merging_again_changes_nothing_after_the_window_moved(
    window: Window, events: list[Event]
) -> None:
    history, _ = EMPTY.merge(events, window)
    same, counts = history.merge(events, window)
    assert same is history
    assert counts == MergeCounts(duplicates=len(history), too_old=len(events) - len(history))


def test_tied_events_that_left_the_window_do_not_come_back() -> None:
    events = [Event(item, 1, 5) for item in range(8)]
    history, _ = EMPTY.merge(events, SMALL)
    again, counts = history.merge(events, SMALL)
    assert again.events == history.events
    assert counts.accepted == 0


@few
@given(events=timed_apart, data=st.data())
def test_the_order_of_arrival_does_not_matter_while_no_window_is_cut(
    events: list[Event], data: st.DataObject
) -> None:
    expected, _ = EMPTY.merge(events, ROOMY)
    history = EMPTY
    for event in data.draw(st.permutations(events)):
        history, _ = history.merge([event], ROOMY)
    assert history.events == expected.events == sorted(events, key=lambda event: event.timestamp)


def test_ties_stay_in_order_of_arrival() -> None:
    held, _ = EMPTY.merge([Event(9, 1, 5), Event(2, 1, 5), Event(1, 1, 4)], ROOMY)
    history, _ = held.merge([Event(0, 1, 5), Event(7, 1, 4)], ROOMY)
    assert [event.item for event in history.events] == [1, 7, 9, 2, 0]


def test_a_repeat_of_an_item_is_an_event_of_its_own() -> None:
    events = [Event(1, 1, 5), Event(1, 2, 5), Event(1, 1, 6), Event(2, 1, 5)]
    history, counts = EMPTY.merge([*events, events[0]], ROOMY)
    assert (len(history), counts) == (4, MergeCounts(accepted=4, duplicates=1))


def test_events_older_than_a_moved_window_are_too_old() -> None:
    held, _ = EMPTY.merge([Event(0, 1, 10 * i) for i in range(7)], SMALL)
    assert ([event.timestamp for event in held.events], held.anchor) == ([40, 50, 60], 4)
    offered = [Event(1, 1, 39), Event(1, 1, 0), Event(1, 1, 41), Event(0, 1, 50)]
    history, counts = held.merge(offered, SMALL)
    assert counts == MergeCounts(accepted=1, duplicates=1, too_old=2)
    assert [event.timestamp for event in history.events] == [40, 41, 50, 60]
    assert history.anchor == 4


def test_no_event_is_too_old_before_the_window_moves() -> None:
    held, _ = EMPTY.merge([Event(0, 1, 10)], SMALL)
    history, counts = held.merge([Event(0, 1, -10)], SMALL)
    assert counts == MergeCounts(accepted=1)
    assert [event.timestamp for event in history.events] == [-10, 10]


def test_a_late_event_counts_towards_the_window() -> None:
    held, _ = EMPTY.merge([Event(0, 1, 10 * i) for i in range(6)], SMALL)
    history, _ = held.merge([Event(1, 1, 35)], SMALL)
    assert ([event.timestamp for event in history.events], history.anchor) == ([35, 40, 50], 4)


def test_merging_leaves_the_old_history_as_it_is() -> None:
    events = random_events(8)
    history = History.of(events[:6])
    merged, _ = history.merge(events[6:], SMALL)
    assert history.events == events[:6]
    assert merged.anchor == 4
    assert history.merge([], SMALL) == (history, MergeCounts())


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [
        (0, None, 0, 6),
        (2, 4, 2, 4),
        (-2, None, 4, 6),
        (None, -2, 0, 4),
        (-9, 99, 0, 6),
        (5, 2, 5, 5),
    ],
)
def test_a_cut_counts_what_it_leaves_in_front(
    start: int | None, stop: int | None, first: int, last: int
) -> None:
    events = random_events(6)
    cut = History.of(events, anchor=10).cut(start, stop)
    assert (cut.events, cut.anchor) == (events[first:last], 10 + first)


@few
@given(events=any_events, other=any_events)
def test_the_common_prefix_is_as_long_as_events_agree(
    events: list[Event], other: list[Event]
) -> None:
    joined = [*events[: len(events) // 2], *other]
    expected = 0
    for mine, theirs in zip(events, joined, strict=False):
        if mine != theirs:
            break
        expected += 1
    assert History.of(events).common_prefix(History.of(joined)) == expected
    assert History.of(joined).common_prefix(History.of(events)) == expected


@pytest.mark.parametrize("field", ["item", "action", "timestamp"])
def test_events_that_differ_in_one_field_end_the_common_prefix(field: str) -> None:
    events = random_events(6)
    changed = events[3]._replace(**{field: 77})
    other = [*events[:3], changed, *events[4:]]
    assert History.of(events).common_prefix(History.of(other)) == 3


def test_windows_that_begin_differently_share_nothing() -> None:
    events = random_events(6)
    assert History.of(events).common_prefix(History.of(events, anchor=1)) == 0
