"""Changing a history against other writers: a lost race is read again, no event is lost."""

from collections.abc import AsyncIterator, Callable
from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import MemoryStore, StateStore
from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from model.history import EMPTY, Event
from service.codec import StateCodec, StoredState
from service.device_tier import DeviceTier
from service.errors import InvalidRequest
from service.metrics import Metrics
from service.schemas import EventIn
from service.served_model import engine_thread
from service.settings import Settings
from service.states import Loaded, UserStates
from service.updates import Offer, Stored, Updates
from tests.service.builders import JSON, history_of, make_events
from tests.service.stores import BrokenStore, FlakyStore, ForgettingStore, LosingStore, roomy_store

pytestmark = pytest.mark.anyio

Writer = SimpleNamespace  # of `states`, `updates` and `metrics`, as one replica has them
MakeWriter = Callable[[StateStore], Writer]


@pytest.fixture
async def writer(checkpoint: Checkpoint, engine: Engine) -> AsyncIterator[MakeWriter]:
    thread = engine_thread(engine, Settings(), Metrics())

    def make(store: StateStore) -> Writer:
        codec = StateCodec(checkpoint.config, bytes(16), engine.pool)
        metrics = Metrics()
        states = UserStates(store, codec, engine.empty_state, DeviceTier(1 << 20), metrics)
        updates = Updates(checkpoint, thread, states, metrics)
        return Writer(states=states, updates=updates, metrics=metrics)

    yield make
    await thread.close()


def offer(checkpoint: Checkpoint, events: list[JSON], *, replace: bool = False) -> Offer:
    return Offer.of(checkpoint, [EventIn(**event) for event in events], replace=replace)


async def store_offer(writer: Writer, loaded: Loaded, offered: Offer) -> Stored:
    applied = writer.updates.apply(offered, loaded.stored.state.history)
    stored: Stored = await writer.updates.store("u", loaded, applied)
    return stored


async def test_the_loser_of_a_race_extends_what_the_winner_stored(
    writer: MakeWriter, checkpoint: Checkpoint
) -> None:
    store = roomy_store()
    first, second = writer(store), writer(store)
    events = make_events(7)
    stale = await first.states.load("u")
    await store_offer(
        second, await second.states.load("u"), offer(checkpoint, [events[n] for n in (0, 2, 5)])
    )
    outcome = await store_offer(first, stale, offer(checkpoint, [events[n] for n in (1, 2, 6)]))
    assert outcome.stored
    expected = history_of(checkpoint, [events[n] for n in (0, 1, 2, 5, 6)]).events
    assert outcome.history.events == expected
    held = (await first.states.load("u")).stored
    assert held.state.history.events == expected
    assert held.version == 2


async def test_a_replacement_that_loses_a_race_still_replaces(
    writer: MakeWriter, checkpoint: Checkpoint
) -> None:
    store = roomy_store()
    first, second = writer(store), writer(store)
    stale = await first.states.load("u")
    await store_offer(second, await second.states.load("u"), offer(checkpoint, make_events(3)))
    events = make_events(2, first=10)
    await store_offer(first, stale, offer(checkpoint, events, replace=True))
    held = (await first.states.load("u")).stored
    assert held.state.history.events == history_of(checkpoint, events).events


@pytest.mark.parametrize("num_lost", [1, 3])
async def test_a_lost_write_is_tried_again(
    writer: MakeWriter, checkpoint: Checkpoint, num_lost: int
) -> None:
    one = writer(LosingStore(num_lost))
    loaded = await one.states.load("u")
    outcome = await store_offer(one, loaded, offer(checkpoint, make_events(3)))
    assert outcome.stored
    assert len((await one.states.load("u")).stored.state.history) == 3


def unstored(writer: Writer) -> dict[str, float]:
    """How many offers were not stored, by reason."""
    (family,) = writer.metrics.unstored.collect()
    counts = [sample for sample in family.samples if sample.name.endswith("_total")]
    return {sample.labels["reason"]: sample.value for sample in counts}


@pytest.mark.parametrize(
    ("store", "reason"), [(LosingStore(10**9), "overtaken"), (BrokenStore(), "store")]
)
async def test_events_that_could_not_be_stored_are_told(
    writer: MakeWriter, checkpoint: Checkpoint, store: MemoryStore, reason: str
) -> None:
    one = writer(store)
    outcome = await store_offer(one, await one.states.load("u"), offer(checkpoint, make_events(3)))
    assert not outcome.stored
    assert unstored(one) == {reason: 1}


async def test_a_store_that_goes_away_between_two_attempts_is_no_delete(
    writer: MakeWriter, checkpoint: Checkpoint
) -> None:
    store = FlakyStore()
    one = writer(store)
    loaded = await one.states.load("u")
    await store_offer(one, loaded, offer(checkpoint, make_events(2)))

    async def lose(*_: object, **__: object) -> bool:
        store.num_failures = 1
        return False

    store.put = store.append = lose  # type: ignore[method-assign]
    outcome = await store_offer(one, loaded, offer(checkpoint, make_events(3)))
    assert not outcome.stored
    assert unstored(one) == {"store": 1}


@pytest.mark.parametrize("held", [0, 2, 5])
async def test_events_of_before_a_delete_are_not_offered_again(
    writer: MakeWriter, checkpoint: Checkpoint, held: int
) -> None:
    """Neither those that were held nor those that were on their way."""
    store = ForgettingStore()
    one = writer(store)
    if held:
        before = offer(checkpoint, make_events(held))
        await store_offer(one, await one.states.load("u"), before)
    store.forgets = True
    loaded = await one.states.load("u")
    outcome = await store_offer(one, loaded, offer(checkpoint, make_events(1, first=8)))
    assert not outcome.stored
    assert unstored(one) == {"gone": 1}
    assert len((await one.states.load("u")).stored.state.history) == 0


async def test_a_store_that_did_not_answer_is_asked_once_more_before_the_write(
    writer: MakeWriter, checkpoint: Checkpoint
) -> None:
    """As for a request whose budget left no time to load."""
    one = writer(roomy_store())
    events = make_events(5)
    await store_offer(one, await one.states.load("u"), offer(checkpoint, events[:3]))
    unknown = Loaded(StoredState(one.states._empty()), "error", None)
    outcome = await store_offer(one, unknown, offer(checkpoint, events[3:]))
    assert outcome.stored
    held = (await one.states.load("u")).stored.state.history
    assert held.events == history_of(checkpoint, events).events


few_events = st.lists(
    st.builds(Event, st.integers(0, 3), st.integers(0, 1), st.integers(0, 20)), max_size=30
)


@settings(deadline=None)
@given(held=few_events, past=few_events, offered=few_events)
def test_the_past_grows_what_is_held_or_begins_anew_if_that_makes_more_known(
    checkpoint: Checkpoint, held: list[Event], past: list[Event], offered: list[Event]
) -> None:
    """Whichever: with the same events known, what is held stays where it is."""
    window = checkpoint.config.window
    base, _ = EMPTY.merge(held, window)
    grown, _ = base.merge(past, window)
    anew, _ = EMPTY.merge([*past, *base.events], window)
    expected, counts = max(grown, anew, key=lambda one: one.num_known).merge(offered, window)
    updates = Updates(checkpoint, *[None] * 3)  # type: ignore[arg-type]
    offer = Offer(offered, replace=False, missing_item_ids=[], past=past)
    found = updates.apply(offer, base)
    assert (found.history.events, found.history.anchor) == (expected.events, expected.anchor)
    assert found.counts == counts


async def test_nothing_new_writes_nothing(writer: MakeWriter, checkpoint: Checkpoint) -> None:
    one = writer(roomy_store())
    for _ in range(2):
        loaded = await one.states.load("u")
        outcome = await store_offer(one, loaded, offer(checkpoint, make_events(3)))
        assert outcome.stored
    assert unstored(one) == {}
    assert (outcome.counts.accepted, outcome.counts.duplicates) == (0, 3)
    assert (await one.states.load("u")).stored.version == 1


def test_an_offer_keeps_the_known_items_and_tells_the_unknown_ones(checkpoint: Checkpoint) -> None:
    times = count(5)
    items = ["nope", "i3", "never", "i4", "nope"]
    events = [{"item_id": item, "action": None, "timestamp": next(times)} for item in items]
    made = offer(checkpoint, events)
    assert made.events == [(3, 0, 6), (4, 0, 8)]
    assert made.missing_item_ids == ["nope", "never"]


def test_an_unknown_action_is_refused_with_the_known_ones(checkpoint: Checkpoint) -> None:
    events = make_events(2)
    events[1]["action"] = "bought"
    with pytest.raises(InvalidRequest, match=r"events\[1\].*negative, neutral, positive") as raised:
        offer(checkpoint, events)
    assert "bought" not in raised.value.detail
