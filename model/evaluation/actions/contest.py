"""Owns the contest: a network's candidate rows against baselines that learn from the same events.

Never judges by an event that anyone has learnt from. All contenders are calibrated alike, on the
validation events.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from model.checkpoint import Checkpoint
from model.config import ActionTask
from model.data.interactions import Interactions
from model.evaluation.actions.answers import Answers, OnBatch, answers
from model.evaluation.actions.baseline import Baseline, Lessons
from model.evaluation.actions.biases import item_mean, user_and_item_bias
from model.evaluation.actions.late_head import late_head
from model.evaluation.auc import auc_terms
from model.evaluation.calibrate import fit
from model.evaluation.errors import EvaluationError
from model.evaluation.estimate import Estimate
from model.evaluation.metrics import TaskQuality, action_quality
from model.evaluation.split import split
from model.training.batches import training_windows

CANDIDATE_ROW = "candidate row"

OnStep = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How it does on the test events, and how far the candidate row is ahead of it."""

    quality: TaskQuality  # calibrated
    uncalibrated: TaskQuality
    entropy_gap: Estimate  # its cross-entropy less the candidate row's
    auc_gaps: dict[str, Estimate | None]  # per action: the candidate row's area less its own


@dataclass(frozen=True, slots=True)
class Contest:
    contenders: dict[str, Contender]
    num_training: int
    num_validation: int
    num_test: int
    num_users: int  # of the test events


def contest(
    checkpoint: Checkpoint, data: Interactions, num_targets: int, on_step: OnStep
) -> Contest:
    """
    Args:
        num_targets: test events of each user, the last ones

    Raises:
        EvaluationError: see `split`; or the checkpoint has not one multi-class task.
    """
    task = _task(checkpoint)
    lessons, test = _lessons(checkpoint, data, num_targets, on_step)
    baselines: dict[str, Baseline] = {
        CANDIDATE_ROW: lambda events: events.logits,
        "late head": late_head(lessons, _told(on_step, "late head")),
        "user and item bias": user_and_item_bias(lessons),
        "item mean": item_mean(lessons),
    }
    answered = {name: _Judged.of(task, each, lessons, test) for name, each in baselines.items()}
    first = answered[CANDIDATE_ROW]
    return Contest(
        {name: each.against(first) for name, each in answered.items()},
        num_training=len(lessons.training.actions),
        num_validation=len(lessons.validation.actions),
        num_test=len(test.actions),
        num_users=len(test.users.unique()),
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """A contender's probabilities of the test events' actions, before and after calibration."""

    task: ActionTask
    test: Answers
    before: Tensor  # (N, actions)
    after: Tensor

    @classmethod
    def of(cls, task: ActionTask, baseline: Baseline, lessons: Lessons, test: Answers) -> "_Judged":
        calibration = fit((task,), baseline(lessons.validation), lessons.validation.actions)
        logits = baseline(test).double()
        return cls(task, test, logits.softmax(-1), calibration(logits).softmax(-1))

    def against(self, first: "_Judged") -> Contender:
        actions, users = self.test.actions, self.test.users
        gaps: dict[str, Estimate | None] = {}
        for place, name in enumerate(self.task.actions):
            own, its = self._auc_terms(place), first._auc_terms(place)
            gaps[name] = None if own is None or its is None else Estimate.of(its - own, users)
        name = self.task.name
        return Contender(
            quality=action_quality((self.task,), actions, self.after)[name],
            uncalibrated=action_quality((self.task,), actions, self.before)[name],
            entropy_gap=Estimate.of(self._entropy_terms() - first._entropy_terms(), users),
            auc_gaps=gaps,
        )

    def _entropy_terms(self) -> Tensor:
        return F.nll_loss(self.after.log(), self.test.actions - 1, reduction="none")

    def _auc_terms(self, place: int) -> Tensor | None:
        return auc_terms(self.after[:, place], self.test.actions == place + 1)


def _task(checkpoint: Checkpoint) -> ActionTask:
    tasks = checkpoint.config.tasks
    if len(tasks) != 1 or tasks[0].kind != "multiclass":
        raise EvaluationError(
            f"{checkpoint.name} has the action tasks {[task.name for task in tasks]}; baselines "
            "are made for one task of which exactly one action happens"
        )
    return tasks[0]


def _lessons(
    checkpoint: Checkpoint, data: Interactions, num_targets: int, on_step: OnStep
) -> tuple[Lessons, Answers]:
    parts = split(checkpoint, data, num_targets)
    network, capacity = checkpoint.network, checkpoint.config.window.capacity
    windows = [
        (user, window)
        for user, history in enumerate(parts.training)
        for window in training_windows([history], capacity)
    ]
    training = answers(
        network,
        [user for user, _ in windows],
        [window for _, window in windows],
        _told(on_step, "training events"),
        only_last=False,
    )
    validation, test = (
        answers(network, each.users, each.histories, _told(on_step, name))
        for name, each in (("validation events", parts.validation), ("test events", parts.test))
    )
    items = network.items.weight.detach()
    return Lessons(training, validation, len(data), len(checkpoint.config.actions), items), test


def _told(on_step: OnStep, what: str) -> OnBatch:
    return lambda done, total: on_step(what, done, total)
