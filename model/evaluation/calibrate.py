"""Owns fitting a calibration to events that training has not seen, and what it does to others.

Never fits to a test event.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.config import ActionTask
from model.data.interactions import Interactions
from model.evaluation.actions.answers import OnBatch, answers
from model.evaluation.errors import EvaluationError
from model.evaluation.metrics import TaskQuality, action_quality
from model.evaluation.minimise import minimise
from model.evaluation.split import split

_MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class Calibrated:
    calibration: Calibration
    num_events: int  # that it was fitted on
    num_users: int
    before: dict[str, TaskQuality]  # of the test events, as if there were no calibration
    after: dict[str, TaskQuality]


def calibrate(
    checkpoint: Checkpoint, data: Interactions, num_targets: int, on_batch: OnBatch
) -> Calibrated:
    """Fit to the validation events, and judge by the test events; the checkpoint stays as it is.

    Args:
        num_targets: test events of each user, the last ones

    Raises:
        EvaluationError: it predicts no actions, or see `split`.
    """
    tasks, network = checkpoint.config.tasks, checkpoint.network
    head = network.action_head
    if head is None:
        raise EvaluationError(f"{checkpoint.name} predicts no actions; nothing can be calibrated")
    parts = split(checkpoint, data, num_targets)
    known, test = (
        answers(network, each.users, each.histories, on_batch)
        for each in (parts.validation, parts.test)
    )
    found = fit(tasks, known.logits, known.actions)
    before, after = (
        action_quality(tasks, test.actions, head.probabilities(logits))
        for logits in (test.logits, found(test.logits))
    )
    return Calibrated(found, len(known.actions), len(known.users.unique()), before, after)


def fit(tasks: tuple[ActionTask, ...], logits: Tensor, actions: Tensor) -> Calibration:
    """The likeliest calibration, given logits (N, actions) and what happened (N,).

    A multi-class task has one scale, its temperature, and a bias for each action; an action of a
    multi-label task has both of its own (Platt). A task without any event stays as it is.
    """
    scales: list[float] = []
    biases: list[float] = []
    first = 0
    for task in tasks:
        size = len(task.actions)
        labels = actions - 1 - first
        inside = (labels >= 0) & (labels < size)
        scale, bias = _fit(task, logits[inside, first : first + size].double(), labels[inside])
        scales += scale.tolist()
        biases += bias.tolist()
        first += size
    return Calibration(scale=tuple(scales), bias=tuple(biases))


def _fit(task: ActionTask, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and biases, (actions of the task,) each."""
    size = len(task.actions)
    num_scales = 1 if task.kind == "multiclass" else size
    log_scale = torch.zeros(num_scales, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(size, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        calibrated = logits * log_scale.exp() + bias
        # Weighs about as much as an event: what never happened keeps a chance, and logits that
        # tell nothing a scale.
        penalty = (log_scale.square().sum() + bias.square().sum()) / len(labels)
        if task.kind == "multiclass":
            return F.cross_entropy(calibrated, labels) + penalty
        happened = F.one_hot(labels, size).double()
        return F.binary_cross_entropy_with_logits(calibrated, happened) + penalty

    if len(labels):
        minimise(loss, (log_scale, bias), _MAX_STEPS)
    return log_scale.detach().exp().expand(size), bias.detach()
