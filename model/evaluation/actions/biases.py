"""Owns the baselines that know no history: an item's mean, and biases of user and item."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.evaluation.actions.answers import Answers
from model.evaluation.actions.baseline import Baseline, Lessons, best_of
from model.evaluation.minimise import minimise

_PRIOR_EVENTS = (1.0, 3.0, 10.0, 30.0, 100.0)
_PENALTIES = (0.3, 1.0, 3.0, 10.0)
_MAX_STEPS = 40


def item_mean(lessons: Lessons) -> Baseline:
    """Shares of the item's training events, and of some more events that are like all of them."""
    training, num_items = lessons.training, len(lessons.items)
    pairs = training.items * lessons.num_actions + training.actions - 1
    counts = torch.bincount(pairs, minlength=num_items * lessons.num_actions)
    counts = counts.reshape(num_items, -1).float()
    shares = (counts.sum(0) + 1) / (counts.sum() + lessons.num_actions)

    def smoothed(num_events: float) -> Baseline:
        table = (counts + num_events * shares).log()
        return lambda events: table[events.items]

    return best_of(map(smoothed, _PRIOR_EVENTS), lessons)


def user_and_item_bias(lessons: Lessons) -> Baseline:
    """Softmax regression on who and what, with a penalty on the squares."""
    return best_of((_biases(lessons, penalty) for penalty in _PENALTIES), lessons)


def _biases(lessons: Lessons, penalty: float) -> Baseline:
    num_rows = (1, lessons.num_users, len(lessons.items))
    tables = [torch.zeros(num, lessons.num_actions, requires_grad=True) for num in num_rows]
    training = lessons.training

    def logits(events: Answers) -> Tensor:
        everywhere, users, items = tables
        return everywhere + users[events.users] + items[events.items]

    def loss() -> Tensor:
        squares = sum((table.pow(2).sum() for table in tables), torch.zeros(()))
        found = F.cross_entropy(logits(training), training.actions - 1, reduction="sum")
        return (found + penalty * squares) / len(training.actions)

    minimise(loss, tables, _MAX_STEPS)
    for table in tables:
        table.requires_grad_(False)
    return logits
