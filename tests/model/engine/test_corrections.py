"""Late, repeated, deleted and replaced events, and windows that move, keep scores exact."""

from collections.abc import Callable

import pytest
import torch

from model.config import Window
from model.engine.engine import Engine
from model.history import EMPTY, Event, History
from tests.model.builders import (
    assert_exact,
    encode,
    later,
    make_network,
    random_events,
    tiny_config,
)

ROOMY = Window(capacity=64, keep=40)
SMALL = Window(capacity=9, keep=5)

Edit = Callable[[list[Event], int], list[Event]]


def delete(events: list[Event], index: int) -> list[Event]:
    return events[:index] + events[index + 1 :]


def replace_item(events: list[Event], index: int) -> list[Event]:
    changed = events[index]._replace(item=(events[index].item + 1) % 19)
    return [*events[:index], changed, *events[index + 1 :]]


def replace_action(events: list[Event], index: int) -> list[Event]:
    changed = events[index]._replace(action=(events[index].action + 1) % 4)
    return [*events[:index], changed, *events[index + 1 :]]


def insert(events: list[Event], index: int) -> list[Event]:
    return [*events[:index], events[index]._replace(item=18, action=3), *events[index:]]


def move_time(events: list[Event], index: int) -> list[Event]:
    """The times from here on are later: what an upstream clock correction does."""
    moved = [event._replace(timestamp=event.timestamp + 7_000) for event in events[index:]]
    return events[:index] + moved


@pytest.mark.parametrize("edit", [delete, replace_item, replace_action, insert, move_time])
def test_an_edit_at_any_index_replays_from_the_row_before(engine: Engine, edit: Edit) -> None:
    events = random_events(14, seed=4)
    state = encode(engine, History.of(events)).state
    for index in range(len(events)):
        history = History.of(edit(events, index))
        now = later(history)
        encoded = encode(engine, history, now, state)
        assert encoded.num_reused == max(index - 1, 0)
        assert encoded.num_encoded == len(history) - encoded.num_reused
        assert_exact(engine, encoded, now)


def test_an_event_that_arrives_late_takes_its_place(engine: Engine) -> None:
    events = random_events(14, seed=5)
    for index, late in enumerate(events):
        held, _ = EMPTY.merge(delete(events, index), ROOMY)
        state = encode(engine, held).state
        history, counts = held.merge([late], ROOMY)
        assert counts.accepted == 1
        now = later(history)
        encoded = encode(engine, history, now, state)
        assert encoded.num_reused >= max(index - 1, 0)
        assert_exact(engine, encoded, now)


def test_events_in_any_order_of_arrival_are_exact(engine: Engine) -> None:
    events = random_events(20, seed=6)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    history, state = EMPTY, engine.empty_state()
    for index in order:
        history, _ = history.merge([events[index]], ROOMY)
        now = later(history)
        encoded = encode(engine, history, now, state)
        assert_exact(engine, encoded, now)
        state = encoded.state
    assert len(history) == 20


def test_events_sent_again_encode_only_the_pending_row(engine: Engine) -> None:
    events = random_events(14, seed=7)
    held, _ = EMPTY.merge(events, ROOMY)
    state = encode(engine, held).state
    history, counts = held.merge(events[3:9], ROOMY)
    assert counts.duplicates == 6
    now = later(history)
    encoded = encode(engine, history, now, state)
    assert (encoded.num_reused, encoded.num_encoded) == (13, 1)
    assert_exact(engine, encoded, now)


def test_a_window_at_capacity_and_beyond_is_exact(engine: Engine) -> None:
    events = random_events(24, seed=8)
    history, state, moves = EMPTY, engine.empty_state(), 0
    for count, event in enumerate(events, start=1):
        anchor = history.anchor
        history, _ = history.merge([event], SMALL)
        assert history.events == events[SMALL.start(count) : count]
        now = later(history)
        encoded = encode(engine, history, now, state)
        if history.anchor != anchor:
            moves += 1
            assert (encoded.num_reused, encoded.num_encoded) == (0, SMALL.keep)
        else:
            assert encoded.num_encoded <= 2
        assert_exact(engine, encoded, now)
        state = encoded.state
    assert moves == 3  # at the 10th, the 15th and the 20th event


@pytest.mark.parametrize("count", [8, 9, 10, 11, 23])
def test_a_window_cut_in_one_append_is_exact(engine: Engine, count: int) -> None:
    events = random_events(count, seed=9)
    held, _ = EMPTY.merge(events[: count // 2], SMALL)
    state = encode(engine, held).state
    history, _ = held.merge(events[count // 2 :], SMALL)
    assert history.events == events[SMALL.start(count) :]
    now = later(history)
    assert_exact(engine, encode(engine, history, now, state), now)


def test_a_window_of_one_event_is_exact() -> None:
    engine = Engine(make_network(tiny_config(window=Window(capacity=2, keep=1))))
    history, state = EMPTY, engine.empty_state()
    for event in random_events(6, seed=10):
        history, _ = history.merge([event], engine.config.window)
        now = later(history)
        encoded = encode(engine, history, now, state)
        assert_exact(engine, encoded, now)
        state = encoded.state
