"""The training losses by their formulas; padding and foreign events have no part in them."""

import math

import pytest
import torch
from torch import Tensor

from model.config import ActionTask, ValueFormula
from model.history import Event, History
from model.network.batch import Batch, to_batch
from model.network.heads import ActionHead
from model.network.hstu import HSTU, Rows
from model.training.batches import parts_of
from model.training.losses import Objective, action_loss, count, retrieval_loss
from tests.model.builders import make_network, random_history, right_answers, tiny_config

TASKS = (
    ActionTask(name="rating", actions=("down", "up")),
    ActionTask(name="watch", kind="multilabel", actions=("click", "finish", "share"), weight=3.0),
)


def users(*lengths: int) -> list[History]:
    return [random_history(length, seed=seed) for seed, length in enumerate(lengths)]


def losses(network: HSTU, batch: Batch) -> tuple[float, float]:
    with torch.no_grad():
        rows, counts = network(batch), count(network.config, [batch])
        found = (
            retrieval_loss(network, batch, rows, counts),
            action_loss(network, batch, rows, counts),
        )
    return found[0].item(), found[1].item()


@pytest.mark.parametrize("repeat_bias", [False, True])
def test_retrieval_is_the_softmax_over_the_catalogue_at_every_next_event(repeat_bias: bool) -> None:
    network, histories = make_network(tiny_config(repeat_bias=repeat_bias)), users(9, 3)
    expected = []
    for history in histories:
        for i, event in enumerate(history.events[1:], start=1):
            logits, _ = right_answers(network, history.cut(0, i), event.timestamp, range(19))
            expected.append(-float(logits.log_softmax(0)[event.item]))
    batch = to_batch(histories)
    assert losses(network, batch)[0] == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_an_unseen_negative_is_one_that_the_row_has_not_met() -> None:
    network, histories = make_network(), users(9, 4)
    expected = []
    for history in histories:
        for i, event in enumerate(history.events[1:], start=1):
            before = history.cut(0, i)
            logits, _ = right_answers(network, before, event.timestamp, range(19))
            logits[[item for item in before.items.tolist() if item != event.item]] = -torch.inf
            expected.append(-float(logits.log_softmax(0)[event.item]))
    batch = to_batch(histories)
    with torch.no_grad():
        counts = count(network.config, [batch])
        found = retrieval_loss(network, batch, network(batch), counts, spares_seen=True)
    assert found.item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_actions_are_learnt_from_the_rows_that_are_served() -> None:
    network, histories = make_network(), users(5, 3)
    expected = []
    for history in histories:
        for i, event in enumerate(history.events):
            if event.action:
                before = history.cut(0, i)
                _, logits = right_answers(network, before, event.timestamp, [event.item])
                expected.append(-float(logits[0].log_softmax(0)[event.action - 1]))
    assert 0 < len(expected) < 8
    batch = to_batch(histories)
    assert losses(network, batch)[1] == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_what_stands_in_the_padding_changes_no_loss_and_no_gradient() -> None:
    network, batch = make_network(), to_batch(users(9, 4, 1, 6))
    padding = ~batch.valid

    def filled(column: Tensor, value: int) -> Tensor:
        return torch.where(padding, value, column)

    other = Batch(
        filled(batch.items, 11),
        filled(batch.actions, 2),
        filled(batch.timestamps, 2**40),
        batch.lengths,
    )

    def outcome(given: Batch) -> tuple[Tensor, ...]:
        loss = Objective(network, action_weight=1.0)(given, count(network.config, [given]), True)
        return loss, *torch.autograd.grad(loss, list(network.parameters()))

    for before, after in zip(outcome(batch), outcome(other), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


class GivenLogits(ActionHead):
    """Reads the logits off the first columns of a row."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows[..., : self.logits.out_features]


def loss_of(events: list[Event], logits: list[list[float]]) -> float:
    """The action loss over two tasks of one user's events, whose candidates got `logits`."""
    network = HSTU(tiny_config(tasks=TASKS, value=ValueFormula()))
    network.action_head = GivenLogits(network.config)
    candidates = torch.tensor([logits])
    rows = Rows(torch.zeros(1, len(events) - 1, 16), candidates)
    batch = to_batch([History.of(events)])
    return action_loss(network, batch, rows, count(network.config, [batch])).item()


def test_two_tasks_by_hand() -> None:
    """One event each: softmax over down and up, and three yes-or-no questions, weighed 1 to 3."""
    up_then_finish = [Event(0, 2, 0), Event(1, 4, 1)]
    logits = [[0.0, math.log(3), 9.0, 9.0, 9.0], [7.0, 7.0, 0.0, 2.0, -1.0]]
    rating = -math.log(3 / 4)
    watch = (math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 3
    assert loss_of(up_then_finish, logits) == pytest.approx((rating + 3 * watch) / 4, rel=1e-6)


def test_a_task_is_a_mean_over_its_own_events() -> None:
    """However many the other task has."""
    ups = [Event(0, 2, 0), Event(1, 2, 1), Event(2, 3, 2)]
    logits = [[0.0, 0.0, 9.0, 9.0, 9.0], [0.0, math.log(3), 9.0, 9.0, 9.0], [7.0, 7.0, 0, 0, 0]]
    rating = (math.log(2) + math.log(4 / 3)) / 2
    assert loss_of(ups, logits) == pytest.approx((rating + 3 * math.log(2)) / 4, rel=1e-6)


def test_a_task_without_events_has_no_weight() -> None:
    down_then_nothing = [Event(0, 1, 0), Event(1, 0, 1)]
    logits = [[0.0, 0.0, 5.0, 5.0, 5.0], [3.0] * 5]
    assert loss_of(down_then_nothing, logits) == pytest.approx(math.log(2))


def test_events_without_actions_cost_nothing() -> None:
    assert loss_of([Event(0, 0, 0), Event(1, 0, 1)], [[1.0] * 5, [2.0] * 5]) == 0.0


def test_a_multilabel_loss_fits_the_probabilities_that_are_served() -> None:
    """The likelihood of three answers of yes or no, not of one of three."""
    logits = [0.3, -0.2, 0.5, -1.0, 2.0]
    head = HSTU(tiny_config(tasks=TASKS, value=ValueFormula())).action_head
    assert head is not None
    click, finish, share = head.probabilities(torch.tensor([logits]))[0, 2:].tolist()
    shared = [Event(0, 5, 0)]
    expected = -math.log((1 - click) * (1 - finish) * share) / 3
    assert loss_of(shared, [logits]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_parts", [2, 3, 7])
@pytest.mark.parametrize("action_weight", [0.0, 0.3])
def test_a_step_in_parts_has_the_loss_and_the_gradient_of_the_whole(
    num_parts: int, action_weight: float
) -> None:
    """Also where a part has no event of some task, or one event and nothing to retrieve."""
    network = make_network(tiny_config(dropout=0.0))
    histories = [*users(9, 4, 1, 6, 2, 7, 3), History.of([Event(3, 0, 5), Event(4, 0, 6)])]
    objective = Objective(network, action_weight=action_weight)

    def outcome(parts: list[Batch]) -> list[Tensor]:
        counts = count(network.config, parts)
        losses = [objective(part, counts, True) for part in parts]
        total = torch.stack(losses).sum()
        gradients = torch.autograd.grad(
            total, list(network.parameters()), allow_unused=True, materialize_grads=True
        )
        return [total, *gradients]

    whole, parts = outcome(parts_of(histories, 1)), outcome(parts_of(histories, num_parts))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_steps_without_actions_have_no_candidate_rows() -> None:
    network, batch = make_network(), to_batch(users(9, 4))
    counts = count(network.config, [batch])
    loss = Objective(network)(batch, counts, False)
    loss.backward()
    assert network.action_head is not None
    assert all(parameter.grad is None for parameter in network.action_head.parameters())
    expected = retrieval_loss(network, batch, network(batch), counts)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_sampled_loss_is_the_full_one_when_every_other_item_is_drawn_alike() -> None:
    """More negatives than items, so the mean over draws comes near: log(1 + n E[exp])."""
    torch.manual_seed(0)
    network, batch = make_network(), to_batch(users(9, 4))
    rows, counts = network(batch), count(network.config, [batch])
    num_items = network.config.num_items
    found = retrieval_loss(network, batch, rows, counts, num_negatives=200 * num_items).item()
    targets = batch.items[:, 1:][batch.valid[:, 1:]]
    head = network.retrieval
    logits = head(
        head.prepare(rows.events[batch.valid[:, 1:]]), head.prepare_items(network.items.weight)
    )
    weights = torch.full_like(logits, 200.0).scatter(1, targets.unsqueeze(1), 1.0)
    each = (logits + weights.log()).logsumexp(1) - logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    assert found == pytest.approx(each.mean().item(), abs=0.05)
