"""What the engine answers to a request: order, seen items, ties, and the deadline."""

import copy
import math
from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from service.deadline import Deadline
from service.ranking import Ranked, Ranking, RankJob, by_prior, retrieved
from tests.service.builders import (
    NOW_S,
    NUM_ITEMS,
    TOLERANCE,
    history_of,
    make_events,
    run_together,
)

NO_DEADLINE = Deadline(math.inf)


class MicrobatchesLeft(Deadline):
    """A deadline that comes after a number of looks at it."""

    def __init__(self, count: int) -> None:
        object.__setattr__(self, "at_s", math.inf)
        object.__setattr__(self, "_left", iter(range(count)))

    @property
    def expired(self) -> bool:
        return next(self._left, None) is None  # type: ignore[attr-defined]


@pytest.fixture
def flat_engine(checkpoint: Checkpoint) -> Engine:
    """An engine whose prior has only ties."""
    network = copy.deepcopy(checkpoint.network)
    network.retrieval.prior.fill_(-1.5)
    return Engine(network)


def make_job(engine: Engine, checkpoint: Checkpoint, num_events: int = 5, **given: Any) -> RankJob:
    defaults: dict[str, Any] = {
        "state": engine.empty_state(),
        "history": history_of(checkpoint, make_events(num_events)),
        "request_time": NOW_S,
        "candidates": None,
        "num_retrieved": 20,
        "exclude_seen": True,
        "deadline": NO_DEADLINE,
        "submitted_s": 0.0,
    }
    return RankJob(**(defaults | given))


def rank(engine: Engine, job: RankJob, microbatch: int = 4) -> tuple[Ranking, list[Ranked]]:
    """The answer to a request alone, and all of its items."""
    (ranking,) = run_together(engine, [job], pass_rows=microbatch)
    assert isinstance(ranking, Ranking)
    return ranking, ranking.best(engine, NUM_ITEMS)


def retrieval_of(engine: Engine, job: RankJob) -> list[float]:
    (encoded,) = engine.encode([EncodeJob(job.state, job.history, job.request_time)])
    assert encoded.live is not None
    return engine.retrieve(encoded.live).tolist()


def by_retrieval(retrieval: list[float], items: list[int]) -> list[int]:
    return sorted(items, key=lambda item: -retrieval[item])


@pytest.mark.parametrize("num_retrieved", [1, 20, 55, 60, 100])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_catalogue_is_taken_best_first(
    engine: Engine, checkpoint: Checkpoint, num_retrieved: int, exclude_seen: bool
) -> None:
    job = make_job(engine, checkpoint, num_retrieved=num_retrieved, exclude_seen=exclude_seen)
    retrieval = retrieval_of(engine, job)
    seen = set(job.history.items.tolist()) if exclude_seen else set()
    expected = by_retrieval(retrieval, [item for item in range(NUM_ITEMS) if item not in seen])
    assert retrieved(torch.tensor(retrieval), job)[0].tolist() == expected[:num_retrieved]
    assert {ranked.item for ranked in rank(engine, job)[1]} == set(expected[:num_retrieved])


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_candidates_are_ranked_and_no_other_item(
    engine: Engine, checkpoint: Checkpoint, exclude_seen: bool
) -> None:
    job = make_job(engine, checkpoint)
    seen = job.history.items.tolist()
    candidates = [50, seen[2], 3, seen[0], 41]
    job = make_job(
        engine, checkpoint, candidates=torch.tensor(candidates), exclude_seen=exclude_seen
    )
    kept = [item for item in candidates if not (exclude_seen and item in seen)]
    retrieval = retrieval_of(engine, job)
    order = retrieved(torch.tensor(retrieval), job)[0].tolist()
    assert order == by_retrieval(retrieval, kept)
    assert sorted(ranked.item for ranked in rank(engine, job)[1]) == sorted(kept)


def test_all_candidates_seen_leaves_nothing(engine: Engine, checkpoint: Checkpoint) -> None:
    seen = history_of(checkpoint, make_events(5)).items
    ranking, items = rank(engine, make_job(engine, checkpoint, candidates=seen))
    assert items == []
    assert ranking.num_unscored == 0


def test_ties_among_candidates_stay_in_the_order_given(
    flat_engine: Engine, checkpoint: Checkpoint
) -> None:
    candidates = [50, 3, 41, 7, 22, 0, 59]
    job = make_job(flat_engine, checkpoint, num_events=0, candidates=torch.tensor(candidates))
    assert [ranked.item for ranked in by_prior(flat_engine, job, NUM_ITEMS)] == candidates


@pytest.mark.parametrize("num_retrieved", [1, 10, 59, 60])
def test_ties_in_the_catalogue_stay_in_its_order(
    flat_engine: Engine, checkpoint: Checkpoint, num_retrieved: int
) -> None:
    job = make_job(flat_engine, checkpoint, num_events=0, num_retrieved=num_retrieved)
    found = [ranked.item for ranked in by_prior(flat_engine, job, NUM_ITEMS)]
    assert found == list(range(num_retrieved))


def test_without_events_the_prior_retrieves(engine: Engine, checkpoint: Checkpoint) -> None:
    job = make_job(engine, checkpoint, num_events=0)
    prior = checkpoint.network.retrieval.prior.tolist()
    ranking, items = rank(engine, job)
    expected = by_retrieval(prior, list(range(NUM_ITEMS)))[:20]
    assert {ranked.item for ranked in items} == set(expected)
    assert all(ranked.retrieval == prior[ranked.item] for ranked in items)
    assert (ranking.num_reused, ranking.num_encoded) == (0, 0)


@pytest.mark.parametrize("microbatch", [1, 4, 7, 512])
def test_the_list_is_by_value_and_every_part_is_the_oracles(
    engine: Engine, checkpoint: Checkpoint, microbatch: int
) -> None:
    job = make_job(engine, checkpoint)
    _, items = rank(engine, job, microbatch)
    values = [ranked.value for ranked in items if ranked.value is not None]
    assert len(values) == 20
    assert values == sorted(values, reverse=True)
    oracle = Oracle(checkpoint.network, job.history, NOW_S)
    for ranked in items:
        right = oracle.score(ranked.item)
        probabilities = checkpoint.network.action_probabilities(right.actions).tolist()
        assert ranked.retrieval == pytest.approx(float(right.retrieval), abs=TOLERANCE)
        assert ranked.actions == pytest.approx(probabilities, abs=TOLERANCE)
        value = float(right.retrieval) + probabilities[2] - probabilities[0]
        assert ranked.value == pytest.approx(value, abs=2 * TOLERANCE)


@pytest.mark.parametrize("num_microbatches", [0, 1, 2, 4, 5, 6])
def test_a_deadline_between_microbatches_leaves_the_worst_unscored(
    engine: Engine, checkpoint: Checkpoint, num_microbatches: int
) -> None:
    """20 candidates in microbatches of 4: the scored by value, then the rest as retrieved."""
    _, full = rank(engine, make_job(engine, checkpoint))
    job = make_job(engine, checkpoint, deadline=MicrobatchesLeft(num_microbatches))
    ranking, items = rank(engine, job)
    order = retrieved(torch.tensor(retrieval_of(engine, job)), job)[0].tolist()
    num_scored = min(4 * num_microbatches, 20)
    scored, rest = items[:num_scored], items[num_scored:]
    assert ranking.num_unscored == len(rest) == 20 - num_scored
    assert {ranked.item for ranked in scored} == set(order[:num_scored])
    assert [ranked.item for ranked in rest] == order[num_scored:]
    assert all(ranked.value is None and ranked.actions is None for ranked in rest)
    assert scored == by_value([ranked for ranked in full if ranked in scored])
    assert len(scored) == num_scored


def by_value(items: list[Ranked]) -> list[Ranked]:
    return sorted(items, key=lambda ranked: -(ranked.value or 0))


def test_by_prior_is_the_popularity_order_without_scores(
    engine: Engine, checkpoint: Checkpoint
) -> None:
    job = make_job(engine, checkpoint, num_events=5, num_retrieved=10)
    prior = checkpoint.network.retrieval.prior.tolist()
    seen = set(job.history.items.tolist())
    unseen = [item for item in range(NUM_ITEMS) if item not in seen]
    found = by_prior(engine, job, NUM_ITEMS)
    assert [ranked.item for ranked in found] == by_retrieval(prior, unseen)[:10]
    assert all(ranked.value is None and ranked.actions is None for ranked in found)


def test_a_state_is_reused_and_the_scores_stay(engine: Engine, checkpoint: Checkpoint) -> None:
    first, items = rank(engine, make_job(engine, checkpoint, num_events=8))
    job = make_job(engine, checkpoint, num_events=8, state=first.state)
    second, again = rank(engine, job)
    assert (first.num_reused, first.num_encoded) == (0, 8)
    assert (second.num_reused, second.num_encoded) == (7, 1)
    before = {ranked.item: ranked.value for ranked in items}
    assert {ranked.item: ranked.value for ranked in again} == pytest.approx(before, abs=TOLERANCE)
