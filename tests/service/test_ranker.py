"""Batches of requests: each gets what it would get alone, when it is done, and bears its own errors
and its own deadline."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.state import UserState
from model.history import EMPTY
from service.deadline import Deadline
from service.ranking import ExtendJob, Ranking, RankJob
from tests.service.builders import (
    NOW_S,
    NUM_ITEMS,
    WINDOW,
    history_of,
    make_events,
    run_together,
)

CLOSE = 1e-6
NO_DEADLINE = Deadline(math.inf)
PASSED = Deadline(0.0)


def job(
    engine: Engine,
    checkpoint: Checkpoint,
    num_events: int = 5,
    num_cached: int = 0,
    candidates: Sequence[int] | None = None,
    **given: Any,
) -> RankJob:
    """A request of a user with a state of `num_cached` events."""
    events = make_events(WINDOW.capacity)
    defaults: dict[str, Any] = {
        "state": extended(engine, checkpoint, num_cached),
        "history": history_of(checkpoint, events[:num_events]),
        "request_time": NOW_S + num_events,
        "candidates": None if candidates is None else torch.tensor(candidates, dtype=torch.int64),
        "num_retrieved": 20,
        "exclude_seen": True,
        "deadline": NO_DEADLINE,
        "submitted_s": time.monotonic(),
    }
    return RankJob(**(defaults | given))


def extended(engine: Engine, checkpoint: Checkpoint, num_events: int) -> UserState:
    history = history_of(checkpoint, make_events(WINDOW.capacity)[:num_events])
    (state,) = run_together(
        engine, [ExtendJob(state=engine.empty_state(), history=history)], pass_rows=512
    )
    assert isinstance(state, UserState)
    return state


def assert_same_answer(mine: Ranking, alone: Ranking) -> None:
    """But for rounding: a product of more rows may add in another order."""
    assert mine.order.tolist() == alone.order.tolist()
    torch.testing.assert_close(mine.retrieval, alone.retrieval, rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(mine.logits, alone.logits, rtol=CLOSE, atol=CLOSE)
    assert (mine.num_reused, mine.num_encoded) == (alone.num_reused, alone.num_encoded)
    assert_same_state(mine.state, alone.state)


def assert_same_state(mine: UserState, alone: UserState) -> None:
    assert mine.history.events == alone.history.events
    torch.testing.assert_close(mine.keys, alone.keys, rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(mine.values, alone.values, rtol=CLOSE, atol=CLOSE)


requests = st.fixed_dictionaries(
    {
        "num_events": st.integers(0, WINDOW.capacity),
        "cached_share": st.sampled_from([0, 0.5, 0.9, 1]),
        "candidates": st.none()
        | st.lists(st.integers(0, NUM_ITEMS - 1), max_size=NUM_ITEMS, unique=True),
        "exclude_seen": st.booleans(),
        "deadline": st.sampled_from([NO_DEADLINE, PASSED, Deadline(1e12)]),
        "is_update": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(mates=st.lists(requests, min_size=1, max_size=8), pass_rows=st.sampled_from([1, 7, 16, 512]))
def test_mates_change_no_answer(
    engine: Engine, checkpoint: Checkpoint, mates: list[dict[str, Any]], pass_rows: int
) -> None:
    """New users, prefills, extends, updates without a request, lists of any length, deadlines."""
    jobs: list[RankJob | ExtendJob] = []
    for mate in mates:
        num_cached = int(mate.pop("cached_share") * mate["num_events"])
        is_update = mate.pop("is_update")
        made = job(engine, checkpoint, num_cached=num_cached, **mate)
        jobs.append(ExtendJob(state=made.state, history=made.history) if is_update else made)
    together = run_together(engine, jobs, pass_rows=pass_rows)
    for each, mine in zip(jobs, together, strict=True):
        (alone,) = run_together(engine, [each], pass_rows=pass_rows)
        if isinstance(each, ExtendJob):
            assert_same_state(mine, alone)
        else:
            assert_same_answer(mine, alone)
            assert mine.num_jobs == len(jobs)
            if each.deadline is PASSED:
                assert len(mine.logits) == 0


class Passes:
    """Which requests were in each pass over the candidates, by their number of events."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[list[int]] = []
        self.sizes: list[int] = []
        score = engine.score

        def counted(batches: Sequence[Microbatch]) -> list[torch.Tensor]:
            self.seen.append([batch.user.num_events for batch in batches])
            self.sizes.append(sum(len(batch.candidates) for batch in batches))
            return score(batches)

        monkeypatch.setattr(engine, "score", counted)


def test_short_lists_share_a_pass_and_a_long_one_does_not_hold_them_up(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic() + 1000
    lists = {1: 40, 2: 5, 3: 5, 4: 5}
    jobs = [
        job(
            engine,
            checkpoint,
            num_events,
            candidates=range(length),
            exclude_seen=False,
            deadline=Deadline(now_s),
        )
        for num_events, length in lists.items()
    ]
    passes = Passes(engine, monkeypatch)
    run_together(engine, jobs, pass_rows=16)
    assert passes.seen == [[2, 3, 4], [1], [1], [1]]
    assert passes.sizes == [15, 16, 16, 8]


def test_what_is_due_first_is_scored_first(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic() + 1000
    due = {1: 30, 2: 10, 3: 20}
    jobs = [
        job(engine, checkpoint, num_events, candidates=range(40), deadline=Deadline(now_s + due_s))
        for num_events, due_s in due.items()
    ]
    passes = Passes(engine, monkeypatch)
    run_together(engine, jobs, pass_rows=64)
    assert passes.seen == [[2], [3], [1]]


def test_a_deadline_between_passes_is_the_affair_of_its_own_request(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds pass with each pass."""
    clock = [time.monotonic()]
    score = engine.score

    def slowly(batches: Sequence[Microbatch]) -> list[torch.Tensor]:
        clock[0] += 10
        return score(batches)

    monkeypatch.setattr(engine, "score", slowly)
    monkeypatch.setattr(Deadline, "expired", property(lambda self: clock[0] >= self.at_s))
    short, long_ = (
        job(
            engine,
            checkpoint,
            candidates=range(48),
            exclude_seen=False,
            deadline=Deadline(clock[0] + after_s),
        )
        for after_s in (15, 1000)
    )
    first, second = run_together(engine, [short, long_], pass_rows=16)
    assert (len(first.logits), first.num_unscored) == (32, 16)
    assert (len(second.logits), second.num_unscored) == (48, 0)


def test_a_job_that_can_not_be_built_fails_alone(engine: Engine, checkpoint: Checkpoint) -> None:
    first, second, third = (job(engine, checkpoint, n) for n in (0, 5, 9))
    broken = dataclasses.replace(second.history, items=second.history.items + NUM_ITEMS)
    unencodable = dataclasses.replace(second, history=broken)
    unrankable = dataclasses.replace(second, candidates=torch.tensor([NUM_ITEMS]))
    jobs = [first, unencodable, second, unrankable, third]
    outcomes = run_together(engine, jobs, pass_rows=16)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [0, 1, 0, 1, 0]
    for index in (0, 2, 4):
        (alone,) = run_together(engine, [jobs[index]], pass_rows=16)
        assert_same_answer(outcomes[index], alone)


def test_a_pass_that_fails_fails_those_in_it(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = engine.score

    def fail_on_three(batches: Sequence[Microbatch]) -> list[torch.Tensor]:
        if any(batch.user.num_events == 3 for batch in batches):
            raise MemoryError
        return score(batches)

    jobs = [job(engine, checkpoint, n, candidates=range(50)) for n in (1, 2, 3, 4)]
    right = run_together(engine, jobs, pass_rows=16)
    monkeypatch.setattr(engine, "score", fail_on_three)
    outcomes = run_together(engine, jobs, pass_rows=16)
    assert isinstance(outcomes[2], MemoryError)
    for index in (0, 1, 3):
        assert_same_answer(outcomes[index], right[index])


def test_updates_alone_are_one_pass_without_scoring(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Passes(engine, monkeypatch)
    state = engine.empty_state()
    histories = [EMPTY, *(history_of(checkpoint, make_events(n)) for n in (1, 5))]
    jobs = [ExtendJob(state=state, history=history) for history in histories]
    states = run_together(engine, jobs, pass_rows=16)
    assert [each.num_final for each in states] == [0, 0, 4]
    assert passes.seen == []


@pytest.mark.parametrize("budget_s", [1000.0, -1.0], ids=["time", "no time"])
def test_the_state_is_told_once_before_the_answer(
    engine: Engine, checkpoint: Checkpoint, budget_s: float
) -> None:
    told: list[UserState | None] = []
    deadline = Deadline(time.monotonic() + budget_s)
    asked = job(engine, checkpoint, 5, candidates=range(40), deadline=deadline)
    listening = dataclasses.replace(asked, on_state=told.append)
    (ranking,) = run_together(engine, [listening], pass_rows=16)
    assert told == [ranking.state]
