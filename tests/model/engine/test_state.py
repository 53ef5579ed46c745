"""What a user state keeps, when its rows are reused, and that nothing ever changes one."""

import torch

from model.engine.encoder import LiveUser
from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import EMPTY, Event, History
from model.kernels.pages import PagePool
from tests.model.builders import (
    EVERY_ITEM,
    assert_close,
    encode,
    later,
    random_events,
    random_history,
    served,
    tiny_config,
)


def copy_of(state: UserState) -> UserState:
    history = state.history
    return UserState(
        History(
            history.items.clone(),
            history.actions.clone(),
            history.timestamps.clone(),
            history.anchor,
        ),
        state.rows.pool.hold(state.keys, state.values),
    )


def assert_same(state: UserState, before: UserState) -> None:
    assert state.history.events == before.history.events
    assert_close((state.keys, state.values), (before.keys, before.values), tolerance=0)


def with_rows(history: History, num_final: int) -> UserState:
    pool = PagePool(tiny_config())
    return UserState(history, pool.empty().with_room(0, num_final))


def test_an_empty_state_has_no_events_and_no_rows(engine: Engine) -> None:
    state = engine.empty_state()
    assert (len(state.history), state.num_final) == (0, 0)
    assert state.keys.shape == (3, 2, 0, 8)
    assert state.values.shape == (3, 2, 0, 12)


def test_all_rows_but_the_newest_are_final(engine: Engine) -> None:
    for length, num_final in ((0, 0), (1, 0), (2, 1), (9, 8)):
        history = random_history(length)
        assert encode(engine, history).state.num_final == num_final
        assert encode(engine, history, later(history)).state.num_final == num_final


def test_a_row_is_reusable_while_the_event_after_it_is_the_same() -> None:
    events = random_events(8)
    state = with_rows(History.of(events), 7)
    other = Event(18, 3, events[-1].timestamp + 1)
    assert state.reusable_rows(History.of(events)) == 7
    assert state.reusable_rows(History.of([*events, other])) == 7
    assert state.reusable_rows(History.of([*events[:5], other])) == 4
    assert state.reusable_rows(History.of(events[:5])) == 4
    assert state.reusable_rows(History.of([*events[:1], other])) == 0
    assert state.reusable_rows(History.of([other, *events])) == 0
    assert state.reusable_rows(EMPTY) == 0


def test_no_more_rows_are_reusable_than_are_kept() -> None:
    """A state from elsewhere may hold fewer rows than its events would allow."""
    history = random_history(8)
    assert with_rows(history, 3).reusable_rows(history) == 3
    assert with_rows(history, 0).reusable_rows(history) == 0


def test_a_state_with_fewer_rows_than_events_is_completed(engine: Engine) -> None:
    history = random_history(8)
    whole = encode(engine, history).state
    short = UserState(history, whole.rows.cut(3))
    encoded = encode(engine, history, later(history), short)
    assert (encoded.num_reused, encoded.num_encoded) == (3, 5)
    assert_close(
        (encoded.state.keys, encoded.state.values), (whole.keys, whole.values), tolerance=2e-6
    )


def test_extending_and_scoring_never_change_a_state(engine: Engine) -> None:
    events = random_events(20, seed=3)
    state = encode(engine, History.of(events[:12])).state
    before = copy_of(state)
    same = History.of(events[:12])
    diverged = History.of([*events[:5], Event(1, 1, events[5].timestamp), *events[6:15]])
    for history in (same, History.of(events), diverged, History.of(events[:4]), EMPTY):
        for now in (None, later(history), 0):
            encoded = encode(engine, history, now, state)
            if encoded.live is not None:
                served(engine, encoded, EVERY_ITEM, 4)
            assert_same(state, before)


def test_a_state_survives_what_is_built_from_its_successor(engine: Engine) -> None:
    """Live rows and state share memory; the pending row must not end up in a state."""
    events = random_events(10, seed=4)
    first = encode(engine, History.of(events[:6]), later(History.of(events[:6])))
    before = copy_of(first.state)
    second = encode(engine, History.of(events), later(History.of(events)), first.state)
    after = copy_of(second.state)
    encode(engine, History.of(events[:6]), 1, first.state)
    encode(engine, History.of(events), 1, second.state)
    assert_same(first.state, before)
    assert_same(second.state, after)


def test_scoring_never_changes_a_live_user(engine: Engine) -> None:
    history = random_history(9)
    encoded = encode(engine, history, later(history))
    live = encoded.live
    assert live is not None
    assert live.query is not None

    def parts(user: LiveUser) -> tuple[torch.Tensor, ...]:
        assert user.query is not None
        return *user.rows.read(), user.query

    before = [tensor.clone() for tensor in parts(live)]
    first = served(engine, encoded, EVERY_ITEM, 5)
    again = served(engine, encoded, EVERY_ITEM, 5)
    assert_close(again, first, tolerance=0)
    assert_close(parts(live), before, tolerance=0)
