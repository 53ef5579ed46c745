"""Leave-one-out metrics on cases that can be checked by hand, and against the oracle."""

import math
from typing import Any

import pytest
import torch

from model.config import Window
from model.evaluation.leave_one_out import MISS, Case, predict
from model.evaluation.metrics import CUTOFFS, action_nll, ranking_metrics
from model.history import EMPTY, Event, History
from model.network.hstu import HSTU
from tests.model.builders import (
    EVERY_ITEM,
    make_network,
    random_history,
    right_answers,
    tiny_config,
)

NUM_ON_ARC = 240
PROBABILITIES = (0.5, 0.3, 0.2)


def arc_network(**overrides: Any) -> HSTU:
    """Items stand along half a circle, in order; an event's row is its item's place there.

    After an event of item 0, the others rank by their number.
    """
    config = tiny_config(NUM_ON_ARC, d_model=2, residual="input", **overrides)
    network = HSTU(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        angles = torch.arange(NUM_ON_ARC) * (math.pi / NUM_ON_ARC)
        network.items.weight.copy_(torch.stack((angles.cos(), angles.sin()), dim=1))
        assert network.action_head is not None
        network.action_head.logits.bias.copy_(torch.tensor(PROBABILITIES).log())
    return network


def history(*items: int, action: int = 1) -> History:
    return History.of([Event(item, action, place) for place, item in enumerate(items)])


def evaluate(network: HSTU, histories: list[History], *, batch_users: int) -> dict[str, float]:
    """With the whole history masked."""
    cases = [Case(history, history.items[:-1]) for history in histories]
    predictions = predict(network, cases, batch_users=batch_users)
    loss = action_nll(predictions)
    metrics = ranking_metrics(predictions.ranks)
    return metrics if loss is None else metrics | {"action_nll": loss}


def expected_of(ranks: list[int]) -> dict[str, float]:
    metrics = {}
    for k in CUTOFFS:
        gains = [1 / math.log2(rank + 2) if rank < k else 0.0 for rank in ranks]
        metrics[f"HR@{k}"] = sum(rank < k for rank in ranks) / len(ranks)
        metrics[f"NDCG@{k}"] = sum(gains) / len(ranks)
    return metrics


@pytest.mark.parametrize(
    ("items", "rank"),
    [
        *(((0, n), n - 1) for n in (1, 2, 10, 11, 50, 51, 200, 201, NUM_ON_ARC - 1)),
        ((2, 1, 0, 3), 0),  # what is nearer was seen
        ((5, 2, 0, 7), 4),
        ((2, 1, 0, 2), 0),  # a repeat is ranked although it was seen
        ((0, 0), 0),
        ((9, 0, 9), 8),
    ],
)
def test_the_rank_is_the_number_of_nearer_unseen_items(items: tuple[int, ...], rank: int) -> None:
    found = evaluate(arc_network(), [history(*items)], batch_users=4)
    assert found.pop("action_nll") == pytest.approx(math.log(2))
    assert found == pytest.approx(expected_of([rank]))


@pytest.mark.parametrize("batch_users", [1, 2, 3, 100])
def test_metrics_are_means_over_the_users(batch_users: int) -> None:
    histories = [history(0, 1), history(3, 4, 0, 60, action=3), history(0, 12), history(1, 0, 5)]
    found = evaluate(arc_network(), histories, batch_users=batch_users)
    assert found.pop("action_nll") == pytest.approx((3 * math.log(2) + math.log(5)) / 4)
    assert found == pytest.approx(expected_of([0, 57, 11, 3]))


def test_items_as_near_as_the_target_come_before_it() -> None:
    """A model that says the same of everything has learnt nothing."""
    network = arc_network()
    with torch.no_grad():
        network.items.weight[1:] = torch.tensor([0.0, 1.0])  # all of them at a right angle to 0
    assert ranks_of(network, history(0, 7)) == [NUM_ON_ARC - 2]


def ranks_of(network: HSTU, *histories: History) -> list[int]:
    cases = [Case(history, history.items[:-1]) for history in histories]
    return predict(network, cases).ranks.tolist()


def test_a_score_that_is_not_a_number_ranks_last() -> None:
    network = arc_network()
    with torch.no_grad():
        network.items.weight[7] = torch.nan
    assert ranks_of(network, history(0, 7)) == [NUM_ON_ARC - 1]


def test_a_target_outside_the_vocabulary_is_a_miss() -> None:
    case = Case(history(0, 1), torch.tensor([0]), known=False)
    assert predict(arc_network(), [case]).ranks.tolist() == [MISS]


def test_items_that_are_no_candidates_do_not_come_before() -> None:
    case = Case(history(0, 9), torch.tensor([], dtype=torch.int64))
    network = arc_network()
    ranks = [
        int(predict(network, [case], unranked=unranked).ranks)
        for unranked in (None, torch.tensor([2, 3, 200]))
    ]
    assert ranks == [9, 7]  # nothing is masked: item 0 itself is the nearest


def test_without_a_history_the_prior_ranks() -> None:
    network = arc_network()
    network.retrieval.prior.copy_(-torch.arange(NUM_ON_ARC).float())
    assert ranks_of(network, history(5), history(0, 1)) == [5, 0]


def test_what_was_seen_before_the_window_is_left_out_too() -> None:
    network = arc_network(window=Window(capacity=4, keep=2))
    found = evaluate(network, [history(1, 2, 3, 5, 0, 6)], batch_users=1)
    assert found["NDCG@10"] == pytest.approx(1 / math.log2(3))  # only 4 is nearer


def test_an_event_without_an_action_says_nothing_about_actions() -> None:
    histories = [history(0, 1, action=0), history(0, 1, action=2), history(0, 1, action=2)]
    found = evaluate(arc_network(), histories, batch_users=2)
    assert found["action_nll"] == pytest.approx(-math.log(0.3))
    assert found["HR@10"] == 1.0


def test_scores_are_those_that_are_served() -> None:
    """The events of a full window before the target, asked at the target's time."""
    network = make_network(tiny_config(window=Window(capacity=10, keep=7)))
    histories = [random_history(length, seed=length) for length in (2, 3, 8, 11, 12, 25)]
    ranks, losses = [], []
    for whole in histories:
        target = whole.events[-1]
        seen = whole.cut(max(0, len(whole) - 11), -1)
        retrieval, actions = right_answers(network, seen, target.timestamp, EVERY_ITEM)
        others = set(EVERY_ITEM) - {event.item for event in whole.events}
        ranks.append(sum(bool(retrieval[item] > retrieval[target.item]) for item in others))
        if target.action:
            losses.append(-float(actions[target.item].log_softmax(0)[target.action - 1]))
    assert len(set(ranks)) > 2
    found = evaluate(network, histories, batch_users=4)
    assert found.pop("action_nll") == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert found == pytest.approx(expected_of(ranks))


def test_what_repeats_have_beside_counts_where_they_are_ranked() -> None:
    network = make_network(tiny_config(window=Window(capacity=10, keep=7), repeat_bias=True))
    histories = [random_history(length, seed=length) for length in (1, 2, 8, 11, 25)]
    ranks = []
    for whole in histories:
        target = whole.events[-1]
        seen = whole.cut(max(0, len(whole) - 11), -1)
        retrieval, _ = right_answers(network, seen, target.timestamp, EVERY_ITEM)
        ranks.append(int((retrieval > retrieval[target.item]).sum()))
    cases = [Case(whole, whole.items[:0]) for whole in histories]
    assert predict(network, cases, batch_users=3).ranks.tolist() == ranks


@pytest.mark.parametrize("length", [4, 5, 9])
def test_a_strict_window_is_evaluated_on_the_events_it_serves(length: int) -> None:
    network = make_network(tiny_config(window=Window(capacity=4, keep=4)))
    whole = random_history(length + 1, seed=length)
    target = whole.events[-1]
    served, _ = EMPTY.merge(whole.events[:-1], network.config.window)
    assert len(served) == 4
    retrieval, _ = right_answers(network, served, target.timestamp, EVERY_ITEM)
    others = set(EVERY_ITEM) - {event.item for event in whole.events}
    rank = sum(bool(retrieval[item] > retrieval[target.item]) for item in others)
    found = predict(network, [Case(whole, whole.items[:-1])])
    assert found.ranks.tolist() == [rank]


def test_evaluation_does_not_drop_out() -> None:
    network = make_network(tiny_config(dropout=0.9)).train()
    histories = [random_history(9, seed=seed) for seed in range(4)]
    assert evaluate(network, histories, batch_users=4) == evaluate(
        network, histories, batch_users=4
    )
