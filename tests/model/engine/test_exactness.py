"""Whatever way a history came to be encoded, its scores are the oracle's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.engine.engine import Engine
from model.history import EMPTY, Event, History
from tests.model.builders import (
    EVERY_ITEM,
    START,
    assert_close,
    assert_exact,
    encode,
    later,
    make_network,
    random_events,
    random_history,
    served,
    tiny_config,
)

DAY_S = 86_400


@pytest.mark.parametrize("size", [1, 7, 1024])
def test_prefill_is_exact_in_microbatches_of_any_size(every_engine: Engine, size: int) -> None:
    history = random_history(40)
    now = later(history)
    encoded = encode(every_engine, history, now)
    assert (encoded.num_reused, encoded.num_encoded) == (0, 40)
    assert_exact(every_engine, encoded, now, EVERY_ITEM, size)


def test_every_step_of_a_growing_history_is_exact(every_engine: Engine) -> None:
    events = random_events(24, seed=1)
    state = every_engine.empty_state()
    for length in range(len(events) + 1):
        history = History.of(events[:length])
        now = later(history, length)
        encoded = encode(every_engine, history, now, state)
        assert encoded.num_reused == max(length - 2, 0)
        assert encoded.num_encoded == min(length, 2)
        assert_exact(every_engine, encoded, now)
        state = encoded.state


def test_every_split_point_is_exact(every_engine: Engine) -> None:
    history = random_history(18, seed=2)
    now = later(history)
    for split in range(len(history) + 1):
        state = encode(every_engine, history.cut(0, split)).state
        assert state.num_final == max(split - 1, 0)
        encoded = encode(every_engine, history, now, state)
        assert encoded.num_reused == max(split - 1, 0)
        assert encoded.num_encoded == len(history) - encoded.num_reused
        assert_exact(every_engine, encoded, now)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    parts=st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=7),
)
def test_every_composition_of_appends_and_requests_is_exact(
    engine: Engine, seed: int, parts: list[tuple[int, bool]]
) -> None:
    events = random_events(sum(count for count, _ in parts), seed=seed)
    state, length = engine.empty_state(), 0
    for count, asked in parts:
        length += count
        history = History.of(events[:length])
        state = encode(engine, history, later(history, seed) if asked else None, state).state
    whole = History.of(events)
    now = later(whole)
    encoded = encode(engine, whole, now, state)
    assert_exact(engine, encoded, now)
    fresh = encode(engine, whole).state
    assert_close(
        (encoded.state.keys, encoded.state.values), (fresh.keys, fresh.values), tolerance=2e-6
    )


@pytest.mark.parametrize("seconds", [-(10**9), -DAY_S, -1, 0, 1, 10**9])
@pytest.mark.parametrize(
    "events",
    [
        [],
        [Event(3, 1, START)],
        [Event(3, 0, START)],
        [Event(item, 2, START) for item in (5, 5, 9, 1)],
        random_events(12, seed=3),
    ],
    ids=["empty", "one", "one without action", "all at once", "twelve"],
)
def test_short_tied_and_early_asked_histories_are_exact(
    every_engine: Engine, events: list[Event], seconds: int
) -> None:
    """A request may be older than the newest event: a replay, or another machine's clock."""
    history = History.of(events)
    now = later(history, seconds)
    assert_exact(every_engine, encode(every_engine, history, now), now)
    half = encode(every_engine, history.cut(0, len(history) // 2)).state
    assert_exact(every_engine, encode(every_engine, history, now, half), now)


def test_empty_history_is_answered_by_the_prior(every_engine: Engine) -> None:
    encoded = encode(every_engine, EMPTY, START)
    assert encoded.live is not None
    assert (encoded.num_encoded, encoded.live.num_events) == (0, 0)
    assert_close(
        [every_engine.retrieve(encoded.live)], [every_engine.network.retrieval.prior], tolerance=0
    )


def test_what_is_stored_does_not_depend_on_being_asked(engine: Engine) -> None:
    history = random_history(20)
    quiet, asked = encode(engine, history), encode(engine, history, later(history))
    assert quiet.live is None
    assert (quiet.num_encoded, asked.num_encoded) == (19, 20)
    assert quiet.state.keys.shape == (3, 2, 19, 8)
    assert quiet.state.values.shape == (3, 2, 19, 12)
    assert_close(
        (asked.state.keys, asked.state.values),
        (quiet.state.keys, quiet.state.values),
        tolerance=2e-6,
    )


@pytest.mark.parametrize("bias", [6.0, -6.0])
def test_large_biases_do_not_leak_through_masks(bias: float) -> None:
    """SiLU(6) is 6: a mask that acts before SiLU, or on the bias only, would show at once."""
    engine = Engine(make_network(tiny_config(), bias=bias))
    history = random_history(40)
    now = later(history)
    for split in (0, 1, 20, 39):
        state = encode(engine, history.cut(0, split)).state
        assert_exact(engine, encode(engine, history, now, state), now, EVERY_ITEM, 7)


def test_the_next_event_time_and_the_request_time_matter(engine: Engine) -> None:
    """Guards the tests themselves: times that no score depends on would prove nothing."""
    history = random_history(20)
    now = later(history)
    scores = served(engine, encode(engine, history, now), EVERY_ITEM)
    for moved in (now + 10 * DAY_S, now + 1000 * DAY_S):
        other = served(engine, encode(engine, history, moved), EVERY_ITEM)
        for before, after in zip(scores, other, strict=True):
            assert (before - after).abs().max() > 0.01


def test_histories_span_many_time_buckets_and_pass_the_position_table(engine: Engine) -> None:
    """Guards the tests themselves, as above."""
    times = random_history(40).timestamps
    buckets = engine.network.time_buckets(times[:, None], times)
    assert len(buckets.unique()) > 10
    assert len(times) > 2 * engine.config.max_distance
