"""Owns the figures: hit rate and NDCG of ranks; AUC, normalised entropy and calibration of actions.

Never runs a network. Each is defined where it is computed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import ActionTask
from model.evaluation.auc import auc_terms
from model.evaluation.leave_one_out import Predictions

CUTOFFS = (10, 50, 100, 200)
NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of similar probability: their number, their mean, and how many came true."""

    count: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class ActionQuality:
    """How well the probability of one action is predicted."""

    share: float  # of the events on which the task has a say
    auc: float | None  # chance that an event with the action is rated above one without; or None
    calibration_error: float  # mean over events of |observed - predicted| of their bin
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class TaskQuality:
    """One task over the events that carry one of its actions."""

    num_events: int
    cross_entropy: float  # nats
    normalised_entropy: float | None  # over that of always predicting the shares; 1: nothing learnt
    actions: dict[str, ActionQuality]


def ranking_metrics(ranks: Tensor) -> dict[str, float]:
    """HR@K, the share of targets among the first K, and NDCG@K = 1 / log2(rank + 2), else 0."""
    metrics = {}
    gain = 1 / torch.log2(ranks.double() + 2)
    for k in CUTOFFS:
        hit = ranks < k
        metrics[f"HR@{k}"] = float(hit.double().mean())
        metrics[f"NDCG@{k}"] = float((hit * gain).mean())
    return metrics


def action_nll(predictions: Predictions) -> float | None:
    """Mean negative log-likelihood, in nats, of the actions that happened; None without any."""
    known = predictions.actions > 0
    if not bool(known.any()) or not predictions.probabilities.shape[1]:
        return None
    logs = predictions.probabilities[known].log()
    return float(F.nll_loss(logs, predictions.actions[known] - 1))


def action_quality(
    tasks: tuple[ActionTask, ...], happened: Tensor, predicted: Tensor
) -> dict[str, TaskQuality]:
    """Per task with any event; a task's actions are judged one against the rest.

    Args:
        happened: (N,) int64, the action of each event, NO_ACTION if none
        predicted: (N, actions) probabilities
    """
    found, first = {}, 0
    for task in tasks:
        size = len(task.actions)
        labels = happened - 1 - first
        inside = (labels >= 0) & (labels < size)
        if bool(inside.any()):
            probabilities = predicted[inside, first : first + size].double()
            found[task.name] = _task_quality(task, probabilities, labels[inside])
        first += size
    return found


def _task_quality(task: ActionTask, probabilities: Tensor, labels: Tensor) -> TaskQuality:
    happened = F.one_hot(labels, len(task.actions)).double()
    shares = happened.mean(0)
    if task.kind == "multiclass":
        entropy = float(F.nll_loss(probabilities.log(), labels))
        base = -float(torch.xlogy(shares, shares).sum())
    else:
        entropy = float(F.binary_cross_entropy(probabilities, happened))
        rest = 1 - shares
        base = -float((torch.xlogy(shares, shares) + torch.xlogy(rest, rest)).mean())
    actions = {}
    for place, name in enumerate(task.actions):
        bins = _bins(probabilities[:, place], happened[:, place])
        error = sum(b.count * abs(b.observed - b.predicted) for b in bins) / len(labels)
        terms = auc_terms(probabilities[:, place], happened[:, place] > 0)
        auc = None if terms is None else float(terms.mean())
        actions[name] = ActionQuality(float(shares[place]), auc, error, bins)
    return TaskQuality(len(labels), entropy, entropy / base if base else None, actions)


def _bins(predicted: Tensor, happened: Tensor) -> tuple[Bin, ...]:
    """Bins of equal width over 0..1; empty ones are left out."""
    place = (predicted * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    bins = []
    for number in range(NUM_BINS):
        inside = place == number
        if bool(inside.any()):
            mean, observed = float(predicted[inside].mean()), float(happened[inside].mean())
            bins.append(Bin(int(inside.sum()), mean, observed))
    return tuple(bins)
