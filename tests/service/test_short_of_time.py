"""The ladder: what a request is ranked by where there is no time to encode its history."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.history import EMPTY, History
from service.batch import Pace
from service.deadline import Deadline
from service.ranking import SHORTENED_HISTORY, STALE_HISTORY, ExtendJob, RankJob, Shortcut
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    NOW_S,
    TOLERANCE,
    WINDOW,
    Service,
    assert_right,
    history_of,
    make_events,
    pace_of,
    run_together,
    serving,
)

ROW_S = 100.0
PACE = pace_of(ROW_S, 0.0)
JOB_ROWS = 32
EVERY_ITEM: JSON = {"candidates": ITEM_IDS, "num_results": 60, "include": ["parts"]}


def pays(num_events: int) -> float:
    """Seconds to encode so many events and half of another."""
    return (JOB_ROWS + num_events + 0.5) * ROW_S


def make_job(engine: Engine, held: History, history: History, **given: Any) -> RankJob:
    state = engine.empty_state()
    if held is not EMPTY:
        (state,) = run_together(engine, [ExtendJob(state=state, history=held)], pass_rows=64)
    defaults: dict[str, Any] = {
        "state": state,
        "history": history,
        "request_time": NOW_S,
        "candidates": None,
        "num_retrieved": 20,
        "exclude_seen": True,
        "deadline": Deadline(1e12),
        "submitted_s": 0.0,
    }
    return RankJob(**(defaults | given))


@pytest.mark.parametrize(
    ("num_held", "num_events", "num_paid", "name", "num_used"),
    [
        (0, 0, 0, None, 0),
        (0, 5, 5, None, 5),
        (0, 5, 4, SHORTENED_HISTORY, 4),
        (0, 5, -9, SHORTENED_HISTORY, 1),
        (5, 5, -9, None, 5),  # the pending row alone is as little as can be run
        (5, 8, 4, None, 8),  # three new events, and the pending row of before
        (5, 8, 3, STALE_HISTORY, 5),
        (5, 8, -9, STALE_HISTORY, 5),
        (2, 9, 5, SHORTENED_HISTORY, 5),  # more than the state knows of
        (9, 12, 1, STALE_HISTORY, 9),
    ],
)
def test_the_rung_is_the_one_that_knows_most_of_those_that_can_be_paid(
    engine: Engine,
    checkpoint: Checkpoint,
    num_held: int,
    num_events: int,
    num_paid: int,
    name: str | None,
    num_used: int,
) -> None:
    history = history_of(checkpoint, make_events(num_events))
    held = history_of(checkpoint, make_events(num_held)) if num_held else EMPTY
    job = make_job(engine, held, history)
    fitted = job.within(pays(num_paid), PACE)
    assert (fitted.shortcut.name if fitted.shortcut else None) == name
    expected = history.events[-num_used:] if name == SHORTENED_HISTORY else history.events
    expected = held.events if name == STALE_HISTORY else expected
    assert fitted.ranked_by.events == (expected if num_used else [])
    assert fitted.history is history
    assert PACE.seconds(fitted.work()) <= max(pays(num_paid), pays(1))
    if name is None:
        assert fitted is job


@pytest.mark.parametrize(
    "kept",
    [
        range(8),  # nothing new
        range(10),  # newer events
        [*range(3), *range(4, 8)],  # an event deleted; the other way round, a late one
        range(1, 8),  # another beginning
        range(4),  # an end cut off
        [],
    ],
    ids=list,
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_work_told_is_the_rows_that_are_run(
    engine: Engine, checkpoint: Checkpoint, kept: Sequence[int], turned: bool
) -> None:
    events = make_events(10)
    held, history = events[:8], [events[i] for i in kept]
    if turned:
        held, history = history, held
    job = make_job(engine, history_of(checkpoint, held), history_of(checkpoint, history))
    (ranking,) = run_together(engine, [job], pass_rows=64)
    assert job.work().num_events == ranking.num_encoded


def test_time_without_end_pays_everything(engine: Engine, checkpoint: Checkpoint) -> None:
    job = make_job(engine, EMPTY, history_of(checkpoint, make_events(9)))
    assert job.within(float("inf"), PACE) is job


def test_a_state_that_the_history_contradicts_is_not_ranked_by(
    engine: Engine, checkpoint: Checkpoint
) -> None:
    """A replaced history, or a late event: the state is not what came before the newest."""
    events = make_events(10)
    held = history_of(checkpoint, events[:7])
    for history in (events[:3] + events[4:], events[1:8] + events[9:]):
        job = make_job(engine, held, history_of(checkpoint, history))
        fitted = job.within(pays(1), PACE)
        assert fitted.shortcut is not None
        assert fitted.shortcut.name == SHORTENED_HISTORY
    moved = history_of(checkpoint, events).cut(5, None)
    fitted = make_job(engine, held, moved).within(pays(2), PACE)
    assert fitted.shortcut == Shortcut(STALE_HISTORY, held)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, WINDOW.capacity),
    st.integers(0, WINDOW.capacity),
    st.integers(-5, WINDOW.capacity),
)
def test_whatever_it_is_ranked_by_the_scores_are_the_oracles_and_the_seen_are_left_out(
    engine: Engine, checkpoint: Checkpoint, num_events: int, num_held: int, num_paid: int
) -> None:
    history = history_of(checkpoint, make_events(num_events))
    held = history.cut(0, min(num_held, num_events)) if num_held else EMPTY
    told: list[Any] = []
    job = make_job(engine, held, history, on_state=told.append).within(pays(num_paid), PACE)
    (ranking,) = run_together(engine, [job], pass_rows=16)
    oracle = Oracle(checkpoint.network, job.ranked_by, NOW_S)
    assert not set(ranking.order.tolist()) & set(history.items.tolist())
    for item, retrieval, logits in zip(
        ranking.order.tolist(), ranking.retrieval, ranking.logits, strict=True
    ):
        right = oracle.score(item)
        assert abs(float(retrieval - right.retrieval)) <= TOLERANCE
        assert float((logits - right.actions).abs().max()) <= TOLERANCE
    assert told == ([ranking.state] if job.shortcut is None else [None])
    assert ranking.num_reused + ranking.num_encoded == len(job.ranked_by)


@pytest.fixture
async def slow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service that believes an event row to take very long, whatever it sees."""
    async with serving(folder, max_budget_ms=1e9) as service:
        monkeypatch.setattr(Pace, "seconds", lambda _, work: PACE_SECONDS(work))
        monkeypatch.setattr(Pace, "num_events", lambda _, *given: PACE_NUM_EVENTS(*given))
        yield service


PACE_SECONDS, PACE_NUM_EVENTS = PACE.seconds, PACE.num_events


def budget(num_events: int) -> JSON:
    return {"budget_ms": 1000 * pays(num_events)}


@pytest.mark.anyio
async def test_a_history_that_can_not_be_encoded_in_time_is_shortened_and_stored_whole(
    slow: Service, checkpoint: Checkpoint
) -> None:
    events = make_events(8)
    answer = await slow.recommend(events=events, **EVERY_ITEM, **budget(3))
    assert (answer["degraded"], answer["complete"]) == (["shortened_history"], False)
    assert (answer["cache"]["reused_events"], answer["cache"]["encoded_events"]) == (0, 3)
    assert len(answer["items"]) == 60 - 8
    assert_right(answer, checkpoint, events[-3:])
    await slow.runtime.recommender().drain()
    assert (await slow.state())["num_final"] == 7
    answer = await slow.recommend(**EVERY_ITEM, **budget(3))
    assert (answer["degraded"], answer["cache"]["reused_events"]) == ([], 7)
    assert_right(answer, checkpoint, events)
    assert await slow.metric('mfalcon_degraded_total{reason="shortened_history"}') == 1


@pytest.mark.anyio
@pytest.mark.parametrize("is_here", [True, False], ids=["a copy here", "from the store"])
async def test_without_time_for_the_newest_the_last_state_ranks_and_they_are_stored(
    slow: Service, checkpoint: Checkpoint, is_here: bool
) -> None:
    events = make_events(10)
    await slow.add_events(events[:7])
    if not is_here:
        slow.runtime.recommender().states._device.drop("u")
    answer = await slow.recommend(events=events[7:], **EVERY_ITEM, **budget(2))
    assert (answer["degraded"], answer["complete"]) == (["stale_history"], False)
    assert (answer["cache"]["reused_events"], answer["cache"]["encoded_events"]) == (6, 1)
    assert len(answer["items"]) == 60 - 10
    assert_right(answer, checkpoint, events[:7])
    await slow.runtime.recommender().drain()
    answer = await slow.recommend(**EVERY_ITEM, **budget(2))
    assert (answer["degraded"], answer["cache"]["reused_events"]) == ([], 9)
    assert_right(answer, checkpoint, events)
