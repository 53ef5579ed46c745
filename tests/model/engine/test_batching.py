"""A score depends on its own user, time and candidate, never on who else is in a pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch, microbatches
from model.history import EMPTY
from tests.model.builders import (
    NUM_ITEMS,
    SOME_ITEMS,
    assert_close,
    assert_exact,
    encode,
    later,
    make_network,
    random_history,
    right_answers,
    served,
    tiny_config,
)

LENGTHS = (12, 0, 1, 33, 2, 20)


def jobs_of(engine: Engine, splits: tuple[int, ...]) -> list[EncodeJob]:
    """A user of each length, who has so many events encoded already."""
    jobs = []
    for seed, (length, split) in enumerate(zip(LENGTHS, splits, strict=True)):
        history = random_history(length, seed=seed)
        state = encode(engine, history.cut(0, split)).state
        jobs.append(EncodeJob(state, history, later(history, 50 * seed)))
    return jobs


@pytest.mark.parametrize(
    "splits", [(0, 0, 0, 0, 0, 0), (12, 0, 1, 33, 2, 20), (5, 0, 0, 30, 1, 19)]
)
def test_many_users_in_one_pass_are_exact(every_engine: Engine, splits: tuple[int, ...]) -> None:
    jobs = jobs_of(every_engine, splits)
    together = every_engine.encode(jobs)
    for job, encoded in zip(jobs, together, strict=True):
        assert job.request_time is not None
        assert encoded.state.history is job.history
        assert_exact(every_engine, encoded, job.request_time)
        [alone] = every_engine.encode([job])
        assert (encoded.num_reused, encoded.num_encoded) == (alone.num_reused, alone.num_encoded)
        assert_close(
            (encoded.state.keys, encoded.state.values),
            (alone.state.keys, alone.state.values),
            tolerance=2e-6,
        )


def test_large_biases_do_not_leak_between_users() -> None:
    engine = Engine(make_network(tiny_config(bias_heads="per_head"), bias=6.0))
    jobs = jobs_of(engine, (5, 0, 0, 9, 1, 3))
    for job, encoded in zip(jobs, engine.encode(jobs), strict=True):
        assert encoded.live is not None
        assert encoded.live.num_events == len(job.history)
        assert job.request_time is not None
        assert_exact(engine, encoded, job.request_time)


def test_asked_and_unasked_users_share_a_pass(engine: Engine) -> None:
    """An append without a request runs no pending row; a finished one runs nothing at all."""
    history, other = random_history(15, seed=1), random_history(9, seed=2)
    done = encode(engine, other).state
    now = later(history)
    asked, appended, idle, empty = engine.encode(
        [
            EncodeJob(engine.empty_state(), history, now),
            EncodeJob(done, random_history(12, seed=3)),
            EncodeJob(done, other),
            EncodeJob(engine.empty_state(), EMPTY),
        ]
    )
    assert [r.num_encoded for r in (asked, appended, idle, empty)] == [15, 11, 0, 0]
    assert (appended.live, idle.live, empty.live) == (None, None, None)
    assert_exact(engine, asked, now)
    assert_close((idle.state.keys, idle.state.values), (done.keys, done.values), tolerance=0)
    after = later(appended.state.history)
    assert_exact(engine, encode(engine, appended.state.history, after, appended.state), after)


def test_microbatches_of_many_users_share_a_pass(every_engine: Engine) -> None:
    jobs = jobs_of(every_engine, (0, 0, 0, 0, 0, 0))
    results = every_engine.encode(jobs)
    batches, answers = [], []
    for number, (job, encoded) in enumerate(zip(jobs, results, strict=True)):
        assert encoded.live is not None
        assert job.request_time is not None
        candidates = torch.arange(number, NUM_ITEMS, 3)
        batches.append(Microbatch(encoded.live, candidates))
        answers.append(
            right_answers(every_engine.network, job.history, job.request_time, candidates.tolist())[
                1
            ]
        )
    assert_close(every_engine.score(batches), answers)


@settings(deadline=None, max_examples=20)
@given(
    others=st.lists(st.integers(0, NUM_ITEMS - 1), max_size=12),
    candidate=st.integers(0, NUM_ITEMS - 1),
    place=st.integers(0, 12),
)
def test_other_candidates_do_not_change_a_score(
    engine: Engine, others: list[int], candidate: int, place: int
) -> None:
    """Copies of the candidate itself included."""
    history = random_history(9)
    encoded = encode(engine, history, later(history))
    place = min(place, len(others))
    crowd = [*others[:place], candidate, *others[place:]]
    retrieval, actions = served(engine, encoded, crowd)
    alone = served(engine, encoded, [candidate])
    assert_close((retrieval[place : place + 1], actions[place : place + 1]), alone)


def test_batch_mates_do_not_change_a_score(engine: Engine) -> None:
    """A longer mate neither: nothing is divided by, or padded to, the longest of a batch."""
    history = random_history(6)
    job = EncodeJob(engine.empty_state(), history, later(history))
    [alone] = engine.encode([job])
    expected = served(engine, alone, SOME_ITEMS)
    for length in (0, 1, 6, 60):
        mate_history = random_history(length, seed=9)
        mate = EncodeJob(engine.empty_state(), mate_history, later(mate_history))
        for jobs, own in (([job, mate], 0), ([mate, job], 1)):
            results = engine.encode(jobs)
            assert_close(served(engine, results[own], SOME_ITEMS), expected)
            parts: list[Tensor] = engine.score(
                [
                    Microbatch(live, torch.tensor(SOME_ITEMS))
                    for live in (r.live for r in results)
                    if live is not None
                ]
            )
            assert_close([parts[own]], [expected[1]])


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_microbatches_cut_a_request_in_order(engine: Engine, size: int, sizes: list[int]) -> None:
    live = encode(engine, EMPTY, 0).live
    assert live is not None
    candidates = torch.tensor([4, 3, 3, 0, 1])
    batches = list(microbatches(live, candidates, size))
    assert [len(batch.candidates) for batch in batches] == sizes
    assert torch.cat([batch.candidates for batch in batches]).tolist() == candidates.tolist()
    assert all(batch.user is live for batch in batches)
