"""Late, out-of-order, corrected and deleted events replay from the row before the first change,
under every kind of window, with ties in time, at the window's edge and after it moved."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import Window
from model.engine.encoder import Encoded
from model.engine.engine import Engine
from model.history import EMPTY, Event, History
from tests.model.builders import START, assert_exact, encode, later
from tests.reference import ReferenceHistory

WINDOWS = {
    "roomy": Window(capacity=40, keep=30),
    "moving": Window(capacity=8, keep=5),
    "strict": Window(capacity=6, keep=6),
}
CANDIDATES = (3,)

few = settings(deadline=None, max_examples=25, derandomize=True)
any_window = st.sampled_from(list(WINDOWS.values()))
any_event = st.builds(
    Event, st.integers(0, 5), st.integers(0, 3), st.sampled_from([START + s for s in range(0, 9)])
)
"""Few items and few seconds: repeats, corrections and ties are the rule."""
any_history = st.lists(any_event, min_size=1, max_size=14, unique=True).map(
    lambda events: sorted(events, key=lambda event: event.timestamp)
)


def first_change(before: History, after: History) -> int:
    """Index of the first event that differs; of the first new one if none does."""
    if before.anchor != after.anchor:
        return 0
    pairs = zip(before.events, after.events, strict=False)
    same = [mine == theirs for mine, theirs in pairs]
    return same.index(False) if False in same else len(same)


def assert_replayed(
    engine: Engine, held: History, history: History, reference: ReferenceHistory
) -> Encoded:
    """`history` is what it must be, and encoding it on the state of `held` gives its scores."""
    assert (history.events, history.anchor) == (reference.held, reference.num_gone)
    now = later(history)
    encoded = encode(engine, history, now, encode(engine, held).state)
    assert encoded.num_reused == max(first_change(held, history) - 1, 0)
    assert encoded.num_reused + encoded.num_encoded == len(history)
    assert_exact(engine, encoded, now, CANDIDATES)
    return encoded


@few
@given(window=any_window, events=any_history, data=st.data())
def test_a_late_event(
    engine: Engine, window: Window, events: list[Event], data: st.DataObject
) -> None:
    late = events.pop(data.draw(st.integers(0, len(events) - 1)))
    held, _ = EMPTY.merge(events, window)
    reference = ReferenceHistory(window)
    reference.offer(events)
    reference.offer([late])
    assert_replayed(engine, held, held.merge([late], window)[0], reference)


@few
@given(window=any_window, events=any_history, data=st.data())
def test_events_out_of_order(
    engine: Engine, window: Window, events: list[Event], data: st.DataObject
) -> None:
    offered = data.draw(st.permutations(events))
    history, reference = EMPTY, ReferenceHistory(window)
    for size in (1, 2, 3, len(events)):
        piece, offered = offered[:size], offered[size:]
        held, history = history, history.merge(piece, window)[0]
        reference.offer(piece)
        assert_replayed(engine, held, history, reference)


def replaced(
    engine: Engine, window: Window, before: Sequence[Event], after: Sequence[Event]
) -> Encoded:
    """The whole history told anew, as `history_mode: replace` does."""
    held, _ = EMPTY.merge(before, window)
    reference = ReferenceHistory(window)
    reference.offer(before)
    reference.replace(after)
    return assert_replayed(engine, held, EMPTY.merge(after, window)[0], reference)


@few
@given(window=any_window, events=any_history, data=st.data())
def test_a_corrected_event(
    engine: Engine, window: Window, events: list[Event], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(events) - 1))
    change = data.draw(
        st.sampled_from([{"action": 3}, {"item": 5}, {"timestamp": events[index].timestamp + 1}])
    )
    corrected = [*events[:index], events[index]._replace(**change), *events[index + 1 :]]
    replaced(engine, window, events, corrected)


@few
@given(window=any_window, events=any_history, data=st.data())
def test_a_deleted_event(
    engine: Engine, window: Window, events: list[Event], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(events) - 1))
    replaced(engine, window, events, events[:index] + events[index + 1 :])


def spaced(count: int) -> list[Event]:
    return [Event(n % 6, n % 4, START + 10 * n) for n in range(count)]


@pytest.mark.parametrize("count", [5, 6, 7, 13])
def test_a_strict_window_holds_exactly_the_newest_events(engine: Engine, count: int) -> None:
    window, events = WINDOWS["strict"], spaced(count)
    held, _ = EMPTY.merge(events[:-1], window)
    history, _ = held.merge(events[-1:], window)
    assert history.events == events[-window.capacity :]
    now = later(history)
    encoded = encode(engine, history, now, encode(engine, held).state)
    assert encoded.num_reused == (count - 2 if count <= window.capacity else 0)
    assert_exact(engine, encoded, now)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_late_events_around_the_first_second_of_a_window_that_moved(
    engine: Engine, window: Window, seconds: int
) -> None:
    """Before it and in it they belong to what has left the window: skipped, however often."""
    events = spaced(41 if window.capacity > 20 else 15)
    held, _ = EMPTY.merge(events, window)
    assert held.anchor
    late = Event(1, 1, held.events[0].timestamp + seconds)
    reference = ReferenceHistory(window)
    reference.offer(events)
    reference.offer([late])
    history, counts = held.merge([late], window)
    assert (counts.accepted, counts.too_old) == ((1, 0) if seconds > 0 else (0, 1))
    assert_replayed(engine, held, history, reference)
    assert history.merge([late], window)[0] is history


def test_a_late_event_that_fills_a_strict_window_from_below_is_the_one_to_leave(
    engine: Engine,
) -> None:
    window, events = WINDOWS["strict"], spaced(7)
    held, _ = EMPTY.merge(events[1:], window)
    history, counts = held.merge(events[:1], window)
    assert (history.events, counts.accepted) == (held.events, 1)
    assert history.merge(events[:1], window)[1].too_old == 1
    now = later(history)
    assert_exact(engine, encode(engine, history, now, encode(engine, held).state), now)


def test_another_action_on_an_item_in_the_same_second_is_an_event_of_its_own(
    engine: Engine,
) -> None:
    """A click and a purchase; to correct one, the history is replaced."""
    window, events = WINDOWS["roomy"], spaced(6)
    held, _ = EMPTY.merge(events, window)
    other = events[3]._replace(action=events[3].action - 1)
    reference = ReferenceHistory(window)
    reference.offer([*events, other])
    history, _ = held.merge([other], window)
    assert history.events == [*events[:4], other, *events[4:]]
    encoded = assert_replayed(engine, held, history, reference)
    assert encoded.num_reused == 3
