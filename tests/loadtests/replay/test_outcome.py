from math import sqrt
from random import Random

import pytest
import torch

from loadtests.replay.outcome import (
    Outcome,
    calibration,
    gain,
    hit_rate,
    place_of,
)
from model.config import ActionTask
from model.evaluation.leave_one_out import MISS, Predictions
from model.evaluation.metrics import action_quality, ranking_metrics

ACTIONS = ("negative", "neutral", "positive")


def made(num: int) -> tuple[list[Outcome], Predictions]:
    """The same events for both."""
    rng = Random(0)
    outcomes = []
    for _ in range(num):
        weights = [rng.random() for _ in ACTIONS]
        outcomes.append(
            Outcome(
                rank=rng.choice([None, *range(30)]),
                place=0,
                action=rng.choices(ACTIONS, weights)[0],
                probabilities={
                    name: weight / sum(weights)
                    for name, weight in zip(ACTIONS, weights, strict=True)
                },
            )
        )
    return outcomes, Predictions(
        ranks=torch.tensor([MISS if each.rank is None else each.rank for each in outcomes]),
        actions=torch.tensor([1 + ACTIONS.index(each.action) for each in outcomes]),
        probabilities=torch.tensor(
            [[(each.probabilities or {})[name] for name in ACTIONS] for each in outcomes],
            dtype=torch.float64,
        ),
    )


def test_figures_are_those_of_the_offline_evaluation() -> None:
    outcomes, predictions = made(500)
    ranks = [each.rank for each in outcomes]
    expected = ranking_metrics(predictions.ranks)
    assert hit_rate(ranks).value == pytest.approx(expected["HR@10"])
    assert gain(ranks).value == pytest.approx(expected["NDCG@10"])
    task = ActionTask(name="rating", actions=ACTIONS)
    judged = action_quality((task,), predictions.actions, predictions.probabilities)["rating"]
    for name, quality in judged.actions.items():
        found = calibration(outcomes)[name]
        assert found.calibration_error == pytest.approx(quality.calibration_error)
        assert found.share == pytest.approx(quality.share)


def test_a_share_has_its_binomial_error() -> None:
    found = hit_rate([0] * 30 + [None] * 70)
    assert found.value == pytest.approx(0.3)
    assert found.error == pytest.approx(sqrt(0.3 * 0.7 / 100))


def test_events_whose_action_was_not_predicted_are_left_out() -> None:
    told = Outcome(rank=0, place=0, action="a", probabilities={"a": 1.0})
    untold = Outcome(rank=0, place=0, action="b", probabilities=None)
    assert calibration([told, untold])["a"].share == 1.0
    assert calibration([untold]) == {}


def test_an_item_has_a_rank_by_retrieval_and_a_place_in_the_list() -> None:
    items = [
        {"item_id": "a", "retrieval_score": 0.1},
        {"item_id": "b", "retrieval_score": 0.9},
        {"item_id": "c", "retrieval_score": 0.5},
        {"item_id": "d", "retrieval_score": 0.5},
    ]
    assert place_of("a", items) == (3, 0)
    assert place_of("b", items) == (0, 1)
    assert place_of("c", items) == (2, 2)  # the other of equal score comes before
    assert place_of("d", items) == (2, 3)
    assert place_of("e", items) == (None, None)
