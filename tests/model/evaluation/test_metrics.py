"""The figures by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.config import ActionTask
from model.evaluation.leave_one_out import Predictions
from model.evaluation.metrics import (
    CUTOFFS,
    TaskQuality,
    action_nll,
    action_quality,
    ranking_metrics,
)

RATING = ActionTask(name="rating", actions=("down", "up"))
WATCH = ActionTask(name="watch", kind="multilabel", actions=("click", "finish"))


def predictions(actions: list[int], probabilities: list[list[float]]) -> Predictions:
    return Predictions(
        torch.zeros(len(actions), dtype=torch.int64),
        torch.tensor(actions),
        torch.tensor(probabilities),
    )


def quality(actions: list[int], up: list[float]) -> TaskQuality:
    predicted = torch.tensor([[1 - p, p] for p in up])
    return action_quality((RATING,), torch.tensor(actions), predicted)["rating"]


def test_hits_and_gains_are_means_over_the_cases() -> None:
    found = ranking_metrics(torch.tensor([0, 9, 10, 99, 100, 200]))
    gain = [1 / math.log2(rank + 2) for rank in (0, 9, 10, 99, 100)]
    expected = {"HR@10": 2 / 6, "HR@50": 3 / 6, "HR@100": 4 / 6, "HR@200": 5 / 6}
    for k, count in zip(CUTOFFS, (2, 3, 4, 5), strict=True):
        expected[f"NDCG@{k}"] = sum(gain[:count]) / 6
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("actions", "up", "auc"),
    [
        ([1, 1, 2, 2], [0.1, 0.2, 0.3, 0.4], 1.0),
        ([2, 2, 1, 1], [0.1, 0.2, 0.3, 0.4], 0.0),
        ([1, 2, 1, 2], [0.1, 0.2, 0.3, 0.4], 0.75),
        ([1, 2, 1, 2], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([1, 2, 2], [0.3, 0.3, 0.9], 0.75),
        ([2, 2], [0.3, 0.9], None),
    ],
)
def test_auc_is_the_chance_of_the_right_order(
    actions: list[int], up: list[float], auc: float | None
) -> None:
    assert quality(actions, up).actions["up"].auc == (auc and pytest.approx(auc))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=30))
def test_auc_counts_pairs(cases: list[tuple[bool, int]]) -> None:
    found = quality([1 + up for up, _ in cases], [place / 8 for _, place in cases])
    pairs = [
        1.0 if mine > other else 0.5 if mine == other else 0.0
        for up, mine in cases
        for down, other in cases
        if up and not down
    ]
    expected = sum(pairs) / len(pairs) if pairs else None
    assert found.actions["up"].auc == (expected and pytest.approx(expected)) or expected == 0.0


def test_predicting_the_shares_is_an_entropy_of_one() -> None:
    found = quality([1, 2, 2, 2], [0.75] * 4)
    assert found.normalised_entropy == pytest.approx(1.0)
    assert found.actions["up"].calibration_error == pytest.approx(0.0, abs=1e-7)
    sure = quality([1, 2, 2, 2], [0.25, 0.9, 0.9, 0.9])
    expected = -(math.log(0.75) + 3 * math.log(0.9)) / 4
    assert sure.cross_entropy == pytest.approx(expected, abs=1e-6)
    assert sure.normalised_entropy is not None
    assert sure.normalised_entropy < 1


def test_an_entropy_over_nothing_to_predict_is_none() -> None:
    assert quality([2, 2], [0.9, 0.8]).normalised_entropy is None


def test_bins_say_what_was_predicted_and_what_happened() -> None:
    found = quality([2, 1, 2, 2], [0.81, 0.89, 0.15, 1.0]).actions["up"]
    rows = [(b.count, b.predicted, b.observed) for b in found.bins]
    assert [row[0] for row in rows] == [1, 2, 1]
    expected = [0.15, 1.0, 0.85, 0.5, 1.0, 1.0]
    assert [x for row in rows for x in row[1:]] == pytest.approx(expected, abs=1e-6)
    assert found.calibration_error == pytest.approx((0.85 + 2 * 0.35 + 0) / 4, abs=1e-6)


def test_each_task_is_judged_on_its_own_events() -> None:
    predicted = torch.tensor(
        [[0.4, 0.6, 0.3, 0.2], [0.1, 0.9, 0.3, 0.8], [0.5] * 4, [0.5, 0.5, 0.6, 0.1]]
    )
    found = action_quality((RATING, WATCH), torch.tensor([2, 4, 0, 3]), predicted)
    assert {name: q.num_events for name, q in found.items()} == {"rating": 1, "watch": 2}
    watch = found["watch"]
    losses = [-math.log(0.7), -math.log(0.8), -math.log(0.6), -math.log(0.9)]
    assert watch.cross_entropy == pytest.approx(sum(losses) / 4, abs=1e-6)
    assert watch.normalised_entropy == pytest.approx(sum(losses) / 4 / math.log(2), abs=1e-6)
    assert watch.actions["click"].auc == 1.0
    assert "watch" not in action_quality((RATING, WATCH), torch.tensor([1]), predicted[:1])


@pytest.mark.parametrize(
    ("actions", "expected"),
    [([0, 0], None), ([1, 2], -(math.log(0.25) + math.log(0.75)) / 2), ([0, 2], -math.log(0.75))],
)
def test_the_likelihood_is_of_the_actions_that_happened(actions: list[int], expected: Any) -> None:
    found = action_nll(predictions(actions, [[0.25, 0.75]] * 2))
    assert found == (expected and pytest.approx(expected))


def test_a_model_without_actions_has_no_likelihood() -> None:
    none = Predictions(torch.zeros(1), torch.ones(1, dtype=torch.int64), torch.zeros(1, 0))
    assert action_nll(none) is None
    assert action_quality((), none.actions, none.probabilities) == {}
