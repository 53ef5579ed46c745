"""Owns what a baseline may learn from, and choosing among several by the validation events.

Never sees a test event.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from model.evaluation.actions.answers import Answers

Baseline: TypeAlias = Callable[[Answers], Tensor]
"""Logits (N, actions) of events, whose actions it leaves alone."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """The events that the network was trained on, and those to choose by."""

    training: Answers
    validation: Answers
    num_users: int
    num_actions: int
    items: Tensor  # (items, D), the network's


def loss_of(baseline: Baseline, events: Answers) -> float:
    """Mean negative log-likelihood, in nats."""
    return float(F.cross_entropy(baseline(events), events.actions - 1))


def best_of(baselines: Iterable[Baseline], lessons: Lessons) -> Baseline:
    return min(baselines, key=lambda baseline: loss_of(baseline, lessons.validation))
